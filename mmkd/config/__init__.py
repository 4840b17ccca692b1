"""Configs: where a key is, and what its error means."""
