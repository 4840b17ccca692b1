"""Checkpoints: read without running anything, and loaded strictly."""
