"""A detector applied to the images that a student is to learn from: its detections as a file."""

from mmkd.label.label_images import label_images

__all__ = ['label_images']
