"""A function that detects, as a config names it."""

import numpy as np


def bright(images):
    """What is brighter than the ground, with the scores of all classes."""
    boxes, scores, labels = [], [], []
    for image in images:
        assert image.dtype == np.uint8 and image.shape[2] == 3
        y, x = np.nonzero(image.max(-1) > 100)
        some = len(x) > 0
        boxes.append([[x.min(), y.min(), x.max() + 1, y.max() + 1]] if some else np.zeros((0, 4)))
        scores.append(np.array([[0.1, 0.8]] * some).reshape(-1, 2))
        labels.append([1] * some)
    return boxes, scores, labels


def middle(images):
    """A box in the middle of each image."""
    boxes = [np.array([[8.0, 8, 40, 44]]) for _ in images]
    return boxes, [np.array([1.0]) for _ in images], [np.array([1]) for _ in images]


def two_of_a_row(images):
    """One box, which is a detection of each of two classes, with the scores of all three."""
    boxes = [np.array([[8.0, 8, 40, 44]] * 2) for _ in images]
    return boxes, [np.array([[0.1, 0.9, 0.6]] * 2) for _ in images], [[1, 2] for _ in images]
