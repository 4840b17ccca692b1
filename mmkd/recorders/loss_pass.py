"""A student's own loss, once more: the same features, another ground truth."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.dist import get_rank
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmkd.datasets.data_samples import maps_of, objects_of, samples_of
from mmkd.datasets.seeding import seeded
from mmkd.heads.detections import Detections
from mmkd.recorders.classes_left_out import classes_left_out, has_class_columns
from mmkd.recorders.replaced import replaced

SMALLEST = 1.0  # side of a box in pixels, below which a detection is left out


class StudentCall:
    """A detector and what its ``loss`` was called with."""

    def __init__(self, model: Any, inputs: Tensor, samples: Any) -> None:
        self.model, self.inputs, self.samples = model, inputs, samples


@dataclass(frozen=True)
class LossPass:
    """What a detector's ``loss`` made of a batch before its heads.

    Args:
        features: for each call of ``extract_feat`` what it returned, with its graph.
        call: the detector, its images and their data samples.
        untaught: labels of which another ground truth cannot tell: their own objects stay.
        bare: (B,), bool, which images have no annotations. None where all have.
    """

    features: Sequence[Any]
    call: StudentCall
    untaught: tuple[int, ...] = ()
    bare: Tensor | None = None

    def told(self) -> Tensor:
        """(B,), bool, the images of which another ground truth tells.

        Of an image without annotations nobody tells where objects of the untaught classes are. If
        the student has columns of scores for them, these are left out there; else the image is.
        """
        every = torch.ones(len(self.call.inputs), dtype=torch.bool)
        if self.bare is None or not self.untaught or has_class_columns(self.call.model):
            return every
        return every & ~self.bare.cpu()

    def of(self, kept: Tensor) -> 'LossPass':
        """The pass of some images alone, by their places (n,)."""
        call, images = self.call, len(self.call.inputs)
        inputs = call.inputs[kept.to(call.inputs.device)]
        return replace(
            self,
            features=[maps_of(maps, kept, images) for maps in self.features],
            call=StudentCall(call.model, inputs, samples_of(call.samples, kept)),
            bare=None if self.bare is None else self.bare.cpu()[kept],
        )

    def again(self, truth: Sequence[Detections], *key: Any) -> dict[str, Any]:
        """The terms of the detector's loss with ``truth`` for its ground truth.

        Its heads, assigners and samplers run on the features that there are; the backbone does
        not. Statistics of BatchNorm, counters and random generators are afterwards as if nothing
        had been run.

        Args:
            truth: of each image.
            key: what the draws of the second run follow from, on each rank its own.
        """
        call = self.call
        features = iter(self.features)
        if self.untaught:
            truth = with_own_objects(call.samples, truth, self.untaught)
        with ExitStack() as stack:
            if self.untaught and self.bare is not None and has_class_columns(call.model):
                left_out = classes_left_out(call.model, self.untaught, self.bare)
                stack.enter_context(left_out)
            stack.enter_context(untouched(call.model))
            stack.enter_context(own_draws(call.inputs.device, *key))
            given = replaced(call.model, 'extract_feat', lambda *_, **__: next(features))
            stack.enter_context(given)
            return call.model.loss(call.inputs, samples_with(call, truth))


@contextmanager
def own_draws(device: torch.device, *key: Any) -> Iterator[None]:
    """Random draws follow from ``key`` and the rank; afterwards the generators go on."""
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices=devices), seeded(*key, get_rank()):
        if devices:
            torch.cuda.manual_seed(random.getrandbits(31))
        yield


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Buffers and plain attributes are afterwards as they were.

    BatchNorm works with the statistics of its batch and keeps none of them; neither do losses that
    count their samples, nor a Dynamic R-CNN that adapts its thresholds to what it has seen.
    """
    buffers = [
        (module._buffers, name, buffer)
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    for place, name, buffer in buffers:
        place[name] = buffer.clone()
    attributes = [(owner, _plain(owner)) for owner in _owners(model)]
    try:
        yield
    finally:
        for place, name, buffer in buffers:
            place[name] = buffer
        for owner, before in attributes:
            vars(owner).update(before)


def _owners(model: nn.Module) -> Iterator[Any]:
    """The modules, and the assigners and samplers that they hold."""
    for module in model.modules():
        yield module
        for name, value in vars(module).items():
            if name.endswith(('assigner', 'sampler')) and hasattr(value, '__dict__'):
                yield value


def _plain(owner: Any) -> dict[str, Any]:
    held = {name: value for name, value in vars(owner).items() if not name.startswith('_')}
    return {
        name: type(value)(value) if type(value) in (list, dict) else value
        for name, value in held.items()
        if type(value) in (bool, int, float, str, list, dict)
    }


def samples_with(call: StudentCall, truth: Sequence[Detections]) -> Any:
    """The data samples of a call with another ground truth, in the form that they have."""
    if isinstance(call.samples, dict):  # MMYOLO's
        return _collated_with(call, truth)
    made = []
    for sample, found in zip(call.samples, truth, strict=True):
        height, width = sample.metainfo.get('img_shape', call.inputs.shape[-2:])[:2]
        new = sample.new()
        new.gt_instances = _instances(sample.gt_instances, _inside(found, height, width))
        made.append(new)
    return made


def with_own_objects(
    samples: Any, truth: Sequence[Detections], labels: Sequence[int]
) -> list[Detections]:
    """A ground truth, and beside it the objects of some labels that the data samples have."""
    made = []
    for i, found in enumerate(truth):
        boxes, own = objects_of(samples, i)
        kept = torch.isin(own, own.new_tensor(labels))
        boxes, own = boxes[kept].to(found.boxes), own[kept].to(found.labels)
        more = Detections(torch.full_like(own, -1), boxes, own, torch.ones_like(boxes[:, 0]))
        made.append(Detections(*map(torch.cat, zip(found, more, strict=True))))
    return made


def _inside(found: Detections, height: float, width: float) -> Detections:
    """Boxes clipped to the image; those of which hardly anything is left are left out."""
    limit = found.boxes.new_tensor([width, height, width, height])
    boxes = found.boxes.clamp(min=0).minimum(limit)
    kept = ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST).all(1)
    return Detections(*(value[kept] for value in found._replace(boxes=boxes)))


def _instances(truth: InstanceData, found: Detections) -> InstanceData:
    """Boxes and labels; a mask is its box, and what else an object has is 0."""
    made = InstanceData()
    own = truth.bboxes
    made.bboxes = found.boxes if isinstance(own, Tensor) else HorizontalBoxes(found.boxes)
    made.labels = found.labels
    for name, value in truth.items():
        if name == 'masks':
            made.masks = _rectangles(value, found.boxes)
        elif name not in made and isinstance(value, Tensor):
            made[name] = value.new_zeros(len(found.boxes), *value.shape[1:])
    return made


def _rectangles(masks: Any, boxes: Tensor) -> Any:
    height, width = masks.shape[-2:] if isinstance(masks, Tensor) else (masks.height, masks.width)
    x = torch.arange(width, device=boxes.device)
    y = torch.arange(height, device=boxes.device)
    left, top, right, bottom = boxes[..., None].unbind(1)
    made = ((x >= left) & (x < right))[:, None] & ((y >= top) & (y < bottom))[..., None]
    if isinstance(masks, Tensor):
        return made.to(masks)
    return BitmapMasks(made.cpu().numpy().astype(np.uint8), height, width)


def _collated_with(call: StudentCall, truth: Sequence[Detections]) -> dict[str, Any]:
    height, width = call.inputs.shape[-2:]
    inside = [_inside(found, height, width) for found in truth]
    rows = [
        torch.cat(
            [torch.full_like(f.scores, i)[:, None], f.labels.to(f.boxes)[:, None], f.boxes], dim=1
        )
        for i, f in enumerate(inside)
    ]
    made = {**call.samples, 'bboxes_labels': torch.cat(rows)}
    for name, value in call.samples.items():
        if name in ('masks', 'keypoints', 'keypoints_visible') and isinstance(value, Tensor):
            by_image = name == 'masks' and getattr(call.model.bbox_head, 'mask_overlap', False)
            count = len(value) if by_image else len(made['bboxes_labels'])
            made[name] = value.new_zeros(count, *value.shape[1:])
    return made
