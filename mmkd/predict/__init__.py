"""A trained detector at work: opened from its file, applied to images and videos."""
