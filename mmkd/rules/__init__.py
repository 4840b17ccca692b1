"""Rules that a config is held to before a run."""
