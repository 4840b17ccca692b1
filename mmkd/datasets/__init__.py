"""Data sets: the rules that annotations and images are held to, and the digits."""
