"""Targets of a whole batch at once, for mmdet's heads that find them image by image."""
