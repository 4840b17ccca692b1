"""Ground truth that carries a teacher's detections through whatever moves it."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from mmdet.structures.bbox import HorizontalBoxes, register_box, register_box_converter
from torch import Tensor

T = TypeVar('T', bound='CarryingBoxes')


@dataclass(eq=False)
class Carried:
    """The detections of an image.

    Args:
        boxes: (n, 4), in pixels of the image as it is at present.
        scores: (n, C), the score of each class of the student; of several files (n, 1 + C), the
            number of the file first.
        placed: (n, 4), where the boxes were before the present transform clipped them to its
            image. Defaults to None, it did not.
        unseen: numbers of the files that did not look at the image, or at one that is mixed in.
    """

    boxes: HorizontalBoxes
    scores: Tensor
    placed: Tensor | None = None
    unseen: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.scores)

    def copy(self) -> 'Carried':
        """The same, which may be moved without moving these."""
        placed = None if self.placed is None else self.placed.clone()
        return Carried(self.boxes.clone(), self.scores, placed, self.unseen)

    def kept(self, index: Any) -> 'Carried':
        """Those at ``index``."""
        placed = None if self.placed is None else self.placed[index]
        return Carried(self.boxes[index], self.scores[index], placed, self.unseen)

    @staticmethod
    def cat(parts: Sequence['Carried']) -> 'Carried':
        """Those of several images as those of one."""
        places = [part.boxes.tensor if part.placed is None else part.placed for part in parts]
        clipped = any(part.placed is not None for part in parts)
        return Carried(
            HorizontalBoxes.cat([part.boxes for part in parts]),
            torch.cat([part.scores for part in parts]),
            torch.cat(places) if clipped else None,
            frozenset().union(*(part.unseen for part in parts)),
        )


@register_box('hbox_with_detections')
class CarryingBoxes(HorizontalBoxes):
    """The boxes of an image's ground truth, to which they are all that there is.

    Their number, values and selections are those of :class:`HorizontalBoxes`, so that a transform
    draws and decides as without a teacher. What moves them moves the detections as well; whatever
    selects among them keeps all detections, of which :mod:`mmkd.detections.following` selects by
    the same rule.

    Attributes:
        carried (Carried): the detections; None where a transform made new boxes.
        as_array (bool): whether the pipeline has its ground truth in arrays.
    """

    carried: Carried | None = None
    as_array: bool = False

    @classmethod
    def of(
        cls, boxes: HorizontalBoxes, carried: Carried, as_array: bool = False
    ) -> 'CarryingBoxes':
        """The ground truth ``boxes`` with detections."""
        made = cls(boxes.tensor, clone=False)
        made.carried, made.as_array = carried, as_array
        return made

    def plain(self) -> HorizontalBoxes:
        """The ground truth alone."""
        return HorizontalBoxes(self.tensor, clone=False)

    def _carrying(self: T, made: T) -> T:
        made.carried = None if self.carried is None else self.carried.copy()
        made.as_array = self.as_array
        return made

    def __getitem__(self: T, index: Any) -> T:
        return self._carrying(super().__getitem__(index))

    def __deepcopy__(self: T, memo: dict[int, Any]) -> T:
        made = self._carrying(type(self)(self.tensor.clone(), clone=False))
        memo[id(self)] = made
        return made

    def __reduce__(self) -> Any:
        return _rebuilt, (self.tensor, deepcopy(self.carried), self.as_array)

    def clone(self: T) -> T:
        """A copy, of the detections as well."""
        return self._carrying(super().clone())

    def detach(self: T) -> T:
        """The same; detections have no graph."""
        return self._carrying(super().detach())

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """Of the ground truth alone: detections stay on the CPU until they are batched."""
        return self._carrying(super().to(*args, **kwargs))

    def cpu(self: T) -> T:
        """As :meth:`to`."""
        return self._carrying(super().cpu())

    @classmethod
    def cat(cls: type[T], box_list: Sequence[Any], dim: int = 0) -> T:
        """The boxes of several images as those of one, with the detections of all."""
        made = super().cat(box_list, dim)
        parts = [boxes.carried for boxes in box_list if isinstance(boxes, CarryingBoxes)]
        if len(parts) == len(box_list) and None not in parts:
            made.carried = Carried.cat([part for part in parts if part is not None])
            made.as_array = any(boxes.as_array for boxes in box_list)
        return made

    def flip_(self, img_shape: tuple[int, int], direction: str = 'horizontal') -> None:
        """Flip both."""
        super().flip_(img_shape, direction)
        if self.carried is not None:
            self.carried.boxes.flip_(img_shape, direction)

    def translate_(self, distances: tuple[float, float]) -> None:
        """Move both."""
        super().translate_(distances)
        if self.carried is not None:
            self.carried.boxes.translate_(distances)

    def clip_(self, img_shape: tuple[int, int]) -> None:
        """Clip both to an image (height, width)."""
        super().clip_(img_shape)
        if self.carried is not None:
            if self.carried.placed is None:
                self.carried.placed = self.carried.boxes.tensor.clone()
            self.carried.boxes.clip_(img_shape)

    def rotate_(self, center: tuple[float, float], angle: float) -> None:
        """Rotate both."""
        super().rotate_(center, angle)
        if self.carried is not None:
            self.carried.boxes.rotate_(center, angle)

    def project_(self, homography_matrix: Any) -> None:
        """Project both."""
        super().project_(homography_matrix)
        if self.carried is not None:
            self.carried.boxes.project_(homography_matrix)

    def rescale_(self, scale_factor: tuple[float, float]) -> None:
        """Rescale both."""
        super().rescale_(scale_factor)
        if self.carried is not None:
            self.carried.boxes.rescale_(scale_factor)

    def resize_(self, scale_factor: tuple[float, float]) -> None:
        """Resize both around their centres."""
        super().resize_(scale_factor)
        if self.carried is not None:
            self.carried.boxes.resize_(scale_factor)


def _rebuilt(tensor: Tensor, carried: Carried | None, as_array: bool) -> CarryingBoxes:
    made = CarryingBoxes(tensor, clone=False)
    made.carried, made.as_array = carried, as_array
    return made


# ``overlaps`` and others ask for plain boxes by name; the rows are the same.
register_box_converter('hbox_with_detections', 'hbox', lambda boxes: boxes)
register_box_converter('hbox', 'hbox_with_detections', lambda boxes: boxes)
