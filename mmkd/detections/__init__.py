"""A teacher's detections: the file they come in, and their way through the augmentation."""
