"""Objects that the ground truth misses: what the teacher is sure of is no background."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from mmkd.datasets.data_samples import ground_truth
from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads import describe_head, detections, predicting_head
from mmkd.recorders.loss_pass import replaced
from mmkd.recorders.predictions_recorder import records_rows

_SURE = 20.0  # a logit whose loss, and its gradient, are nothing in float32
_NMS, _MOST = 0.6, 100  # of the teacher's rows


class MissedObjects:
    """Leaves out of a student's negatives where the teacher is sure and no box is.

    In the student's own loss the scores of such cells are those of a certain background: they cost
    nothing, have no gradient, and no mining of hard negatives takes them. A cell is such a one if
    its centre lies in a box of the teacher and in none of the ground truth. Cells that are assigned
    to an object by its box are so left alone.

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
            if not 0 < value <= 1:
                raise ValueError(
                    f'missed_objects.{name} must be above 0 and at most 1, but got {value}.'
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
        recorders = getattr(getattr(distiller, 'teacher_recorders', None), 'recorders', {})
        self._rows = [one for one in recorders.values() if records_rows(one)]
        if not self._rows:
            raise ValueError(
                "missed_objects needs the teacher's rows: a recorder of type 'Predictions' there, "
                'as soft_ground_truth and prediction_rows have it, but there is none. Add one.'
            )
        self.score_thr, self.iou_thr = score_thr, iou_thr

    @classmethod
    def of(cls, setting: Any, student: Any, distiller: Any) -> 'MissedObjects | None':
        """By what a pair's ``missed_objects`` says: a score, arguments, or nothing."""
        if not setting:
            return None
        settings = setting if isinstance(setting, Mapping) else dict(score_thr=float(setting))
        return cls(student, distiller, **settings)

    def regions(self, samples: Any, images: int) -> list[Tensor]:
        """Of each image the boxes (n, 4) of what the ground truth misses, in input pixels."""
        rows = self._rows[0].get_record_data().detach()
        found = detections(rows, self.score_thr, _NMS, _MOST)
        truth, of = ground_truth(samples)
        regions = []
        for i in range(images):
            boxes, own = found[i].boxes, truth[of.to(truth.device) == i].to(found[i].boxes)
            overlap = bbox_overlaps(boxes, own).amax(1) if len(own) else boxes.new_zeros(len(boxes))
            regions.append(boxes[overlap < self.iou_thr])
        return regions

    @contextmanager
    def left_out(self, regions: Sequence[Tensor], samples: Any, size: Any) -> Iterator[None]:
        """While the head runs, its scores in the regions are those of background.

        Args:
            regions: of each image, boxes (n, 4).
            samples: of these images, with their ground truth.
            size: (H, W) of the batch.
        """
        truth, of = ground_truth(samples)
        own = [truth[of.to(truth.device) == i] for i in range(len(regions))]
        forward = self._head.forward

        def masked(*args: Any, **kwargs: Any) -> Any:
            outputs = list(forward(*args, **kwargs))
            outputs[0] = [self._background(level, regions, own, size) for level in outputs[0]]
            if self._known.factor == 'objectness' and len(outputs) > 2:
                outputs[2] = [
                    self._background(level, regions, own, size, objectness=True)
                    for level in outputs[2]
                ]
            return tuple(outputs)

        with replaced(self._head, 'forward', masked):
            yield

    def _background(
        self,
        scores: Tensor,
        regions: Sequence[Tensor],
        own: Sequence[Tensor],
        size: Any,
        objectness: bool = False,
    ) -> Tensor:
        """A map (B, A * K, H, W) that says background in the regions."""
        masks = [
            _inside(boxes, scores, size) & ~_inside(truth.to(boxes), scores, size)
            for boxes, truth in zip(regions, own, strict=True)
        ]
        mask = torch.stack(masks)[:, None]  # (B, 1, H, W)
        if self._known.probabilities:
            nothing = scores.new_full((scores.size(1),), 1e-6)
        else:
            nothing = scores.new_full((scores.size(1),), -_SURE)
        if not self._known.sigmoid and not objectness:
            width = self._known.class_channels
            nothing[width - 1 :: width] = _SURE  # the background, last of each prior's classes
        return torch.where(mask, nothing[None, :, None, None], scores)


def _inside(boxes: Tensor, scores: Tensor, size: Any) -> Tensor:
    """(H, W), whether the centre of each cell lies in one of the boxes (n, 4)."""
    height, width = scores.shape[-2:]
    y = (torch.arange(height, device=boxes.device) + 0.5) * (size[0] / height)
    x = (torch.arange(width, device=boxes.device) + 0.5) * (size[1] / width)
    left, top, right, bottom = upcast(boxes)[..., None].unbind(1)  # (n, 1) each
    across, down = (x > left) & (x < right), (y > top) & (y < bottom)
    return (down[:, :, None] & across[:, None]).any(0)
