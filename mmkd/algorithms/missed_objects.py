"""Objects that the ground truth misses: what the teacher is sure of is no background."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from mmkd.algorithms.own_positives import OwnPositives
from mmkd.algorithms.teacher_rows import TeacherRows
from mmkd.datasets.data_samples import ground_truth
from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads import describe_head, detections, predicting_head
from mmkd.recorders.replaced import replaced

_SURE = 20.0  # a logit whose loss, and its gradient, are nothing in float32
_NMS, _MOST = 0.6, 100  # of the teacher's rows


class MissedObjects:
    """Leaves out of a student's negatives where the teacher is sure and no box is.

    A cell lies in such a region if its centre does, and is in no box of the ground truth. There the
    scores of priors that the head assigns to no object are, in the student's own loss, those of a
    certain background: they cost nothing, have no gradient, and no mining of hard negatives takes
    them. For any dense head this is guaranteed: the same priors are assigned to the same objects
    as without; the gradient of each of them stays what it was; and no term of the loss is higher.
    Mining, which takes a set number, takes the hardest of the other negatives instead. Losses that
    weigh an example by how many are like it (``GHMC``) count the others anew.

    A prior is an object's by what the head's loss itself says of it
    (:class:`mmkd.algorithms.own_positives.OwnPositives`), wherever its centre lies: an object that
    is smaller than the stride is often assigned to a cell beside it. For that the loss of the
    head's outputs is computed twice; the head itself runs once.

    Args:
        student: a dense detector.
        distiller: whose teacher's rows are recorded.
        score_thr: how sure the teacher must be. Defaults to 0.6.
        iou_thr: a box that overlaps one of the ground truth by so much shows its object, and is
            left alone. Defaults to 0.5.

    Raises:
        ValueError: the head has no maps of scores, no rows of the teacher are recorded, or a
            number is out of range.
    """

    def __init__(
        self, student: Any, distiller: Any, score_thr: float = 0.6, iou_thr: float = 0.5
    ) -> None:
        for name, value in (('score_thr', score_thr), ('iou_thr', iou_thr)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 < value <= 1:
                raise ValueError(
                    f'missed_objects.{name} must be above 0 and at most 1, but got {value!r}.'
                )
        name, self._head = predicting_head(student)
        known = None if name != 'bbox_head' else describe_head(self._head)
        kind = type(self._head).__name__
        if known is None or known.rows != 'priors' or known.sigmoid is None or kind == 'YOLOV3Head':
            raise ValueError(
                'missed_objects needs a dense student whose head has maps of scores, but got '
                f'{type(student).__name__} with {kind}. Leave it out, or take a one-stage student.'
            )
        self._known = known
        self._rows = TeacherRows(distiller)
        if not self._rows.recorded:
            raise ValueError(
                "missed_objects needs the teacher's rows: a recorder of type 'Predictions' there, "
                'as soft_ground_truth and prediction_rows have it, but there is none. Add one.'
            )
        self.score_thr, self.iou_thr = score_thr, iou_thr

    @classmethod
    def of(cls, setting: Any, student: Any, distiller: Any) -> 'MissedObjects | None':
        """By what a pair's ``missed_objects`` says: a score, arguments, True, or nothing."""
        if isinstance(setting, Mapping):
            settings = dict(setting)
        elif not setting:
            return None
        else:
            settings = {} if setting is True else dict(score_thr=setting)
        if not set(settings) <= {'score_thr', 'iou_thr'}:
            raise ValueError(
                f'missed_objects may have score_thr and iou_thr, but has {", ".join(settings)}. '
                'Correct it (docs/any_teacher.md).'
            )
        return cls(student, distiller, **settings)

    def regions(self, samples: Any, images: int) -> list[Tensor]:
        """Of each image the boxes (n, 4) of what the ground truth misses, in input pixels.

        Of several teachers it is what any of them is sure of, and of each the classes that the
        student learns from it.
        """
        found = [detections(rows, self.score_thr, _NMS, _MOST) for rows in self._rows.read()]
        truth, of = ground_truth(samples)
        regions = []
        for i in range(images):
            boxes = torch.cat([each[i].boxes for each in found])
            own = truth[of.to(truth.device) == i].to(boxes)
            overlap = bbox_overlaps(boxes, own).amax(1) if len(own) else boxes.new_zeros(len(boxes))
            regions.append(boxes[overlap < self.iou_thr])
        return regions

    @contextmanager
    def left_out(
        self, regions: Sequence[Tensor], samples: Any, size: Any, loss: Callable[[], dict[str, Any]]
    ) -> Iterator[None]:
        """While the head runs, its scores in the regions are those of background.

        Args:
            regions: of each image, boxes (n, 4).
            samples: of these images, with their ground truth.
            size: (H, W) of the batch.
            loss: runs the student's own loss, for a trial.
        """
        truth, of = ground_truth(samples)
        own = [truth[of.to(truth.device) == i] for i in range(len(regions))]
        softmax = not self._known.sigmoid
        positives = OwnPositives(self._head, self._known.class_channels, softmax)
        assigned = positives.find(loss)

        def masked(*_: Any, **__: Any) -> Any:
            outputs = list(positives.outputs)
            masks = [
                self._mask(level, regions, own, size) & ~kept
                for level, kept in zip(outputs[0], assigned, strict=True)
            ]
            background = self._background(outputs[0][0], self._known.class_channels, softmax)
            outputs[0] = _put(background, masks, outputs[0])
            if self._known.factor == 'objectness' and len(outputs) > 2:
                outputs[2] = _put(self._background(outputs[2][0], 1), masks, outputs[2])
            return tuple(outputs)

        with positives.chosen(), replaced(self._head, 'forward', masked):
            yield

    @staticmethod
    def _mask(
        scores: Tensor, regions: Sequence[Tensor], own: Sequence[Tensor], size: Any
    ) -> Tensor:
        """(B, 1, H, W), the cells in the regions."""
        masks = [
            _inside(boxes, scores, size) & ~_inside(truth.to(boxes), scores, size)
            for boxes, truth in zip(regions, own, strict=True)
        ]
        return torch.stack(masks)[:, None]

    def _background(self, scores: Tensor, width: int, softmax: bool = False) -> Tensor:
        """(K,), what a prior's scores are of a certain background."""
        nothing = scores.new_full((width,), 1e-6 if self._known.probabilities else -_SURE)
        if softmax:
            nothing[-1] = _SURE
        return nothing


def _put(nothing: Tensor, masks: Sequence[Tensor], levels: Sequence[Tensor]) -> list[Tensor]:
    """Maps (B, A * K, H, W) that say ``nothing`` (K,) where the masks (B, A, H, W) are."""
    return [
        torch.where(
            mask[:, :, None], nothing[:, None, None], level.unflatten(1, (-1, len(nothing)))
        ).flatten(1, 2)
        for mask, level in zip(masks, levels, strict=True)
    ]


def _inside(boxes: Tensor, scores: Tensor, size: Any) -> Tensor:
    """(H, W), whether the centre of each cell lies in one of the boxes (n, 4)."""
    height, width = scores.shape[-2:]
    y = (torch.arange(height, device=boxes.device) + 0.5) * (size[0] / height)
    x = (torch.arange(width, device=boxes.device) + 0.5) * (size[1] / width)
    left, top, right, bottom = upcast(boxes)[..., None].unbind(1)  # (n, 1) each
    across, down = (x > left) & (x < right), (y > top) & (y < bottom)
    return (down[:, :, None] & across[:, None]).any(0)
