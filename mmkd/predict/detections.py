"""What a detector finds in one image."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in one image, as many as ``len(detections)``, in the model's order.

    Args:
        boxes (np.ndarray): (n, 4), float32: x1, y1, x2, y2 in pixels of the image as it was loaded.
        scores (np.ndarray): (n,), float32, from 0 to 1.
        labels (np.ndarray): (n,), int64: places in ``classes``.
        classes: the names of all classes that the detector knows.
        masks (np.ndarray): (n, H, W), bool, of a detector that finds masks. Defaults to None.

    Example:
        >>> found = Detections(np.zeros((2, 4)), np.array([0.9, 0.2]), np.array([1, 0]), ('a', 'b'))
        >>> len(found), found.names, found.above(0.5).names
        (2, ['b', 'a'], ['b'])
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    masks: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The name of each object's class."""
        return [self.classes[label] for label in self.labels]

    def above(self, score: float) -> 'Detections':
        """Those that score at least so much."""
        return self._only(self.scores >= score)

    def finite(self) -> 'Detections':
        """Those whose box and score are numbers, as a file in JSON can hold them."""
        return self._only(np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.scores))

    def _only(self, kept: NDArray[Any]) -> 'Detections':
        masks = None if self.masks is None else self.masks[kept]
        found = (self.boxes[kept], self.scores[kept], self.labels[kept])
        return Detections(*found, self.classes, masks)

    def summary(self) -> str:
        """How many there are of each class.

        >>> Detections(np.zeros((3, 4)), np.ones(3), np.array([1, 0, 1]), ('a', 'b')).summary()
        '2 b, 1 a'
        """
        counted = Counter(self.names).most_common()
        return ', '.join(f'{count} {name}' for name, count in counted) or 'nothing'
