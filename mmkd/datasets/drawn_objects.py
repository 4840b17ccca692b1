"""The objects of a data set as a training sees them, behind resize and augmentation."""

import copy
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmkd.datasets.data_samples import boxes_of
from mmkd.datasets.seeding import SeededDataset, seeded


@dataclass
class DrawnObjects:
    """Some images of a data set, each drawn once.

    Args:
        boxes: of each image (G, 4), in input pixels.
        labels: of each image (G,).
        sizes: of each image (height, width), as it goes to the data preprocessor.
        before: by the name of a transform, objects that came to it.
        lost: by the name of a transform, objects that it took away.
        crops: names of transforms that crop, some of the time.
        of_mosaics: names of mosaics and of transforms that come after one.
        mosaics: whether there was one yet.
    """

    boxes: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    before: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    crops: set[str] = field(default_factory=set)
    of_mosaics: set[str] = field(default_factory=set)
    mosaics: bool = False

    def __len__(self) -> int:
        """How many objects."""
        return sum(map(len, self.boxes))


def draw_objects(
    dataset: Any, images: int = 64, seed: int = 0, seconds: float = math.inf
) -> DrawnObjects:
    """Draw images spread evenly over a data set; neither it nor any generator is changed.

    Args:
        dataset: a training set of mmdet or MMYOLO, or a wrapper of some.
        images: how many at most.
        seed: the augmentation follows from it.
        seconds: after which no more are drawn; at least one is.
    """
    found = DrawnObjects()
    own = _counting(dataset, found)
    count = min(len(dataset), images)
    end = time.monotonic() + seconds
    with seeded(seed, 'draw_objects'):
        # In an order by which those drawn so far are spread evenly, too.
        for i in sorted(range(count), key=lambda i: int(f'{i:016b}'[::-1], 2)):
            if found.sizes and time.monotonic() > end:
                break
            item = own[i * len(dataset) // count]
            sample = item.get('data_samples') if isinstance(item, dict) else None
            if sample is None or not hasattr(sample, 'gt_instances'):
                continue
            found.boxes.append(boxes_of(sample).detach().float().cpu())
            found.labels.append(torch.as_tensor(sample.gt_instances.labels).long().cpu())
            found.sizes.append(tuple(item['inputs'].shape[-2:]))
    return found


class _Counted:
    """A transform that counts the objects which it takes away."""

    def __init__(self, transform: Any, found: DrawnObjects) -> None:
        self.transform, self.found = transform, found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__['transform'], name)

    def __call__(self, results: Any) -> Any:
        name, before = type(self.transform).__name__, _count(results)
        made = self.transform(results)
        after = _count(made) if made is not None else 0
        if 'Mosaic' in name:
            self.found.mosaics = True
        if self.found.mosaics:
            self.found.of_mosaics.add(name)
        if 'Crop' in repr(self.transform):
            self.found.crops.add(name)
        if before is not None and after is not None:
            self.found.before[name] += before
            self.found.lost[name] += max(before - after, 0)
        return made


def _count(results: Any) -> int | None:
    boxes = results.get('gt_bboxes') if isinstance(results, dict) else None
    return None if boxes is None else len(boxes)


def _counting(dataset: Any, found: DrawnObjects) -> Any:
    """A copy whose transforms count, and keep what they keep (mosaics their images) apart."""
    own = copy.copy(dataset._dataset if isinstance(dataset, SeededDataset) else dataset)
    pipeline = getattr(own, 'pipeline', None)
    if pipeline is not None:
        own.pipeline = copy.deepcopy(pipeline)
        steps = getattr(own.pipeline, 'transforms', own.pipeline)
        if isinstance(steps, list):
            steps[:] = [_Counted(step, found) for step in steps]
    for name in ('dataset', 'datasets'):
        inner = getattr(own, name, None)
        if isinstance(inner, list | tuple):
            setattr(own, name, [_counting(one, found) for one in inner])
        elif inner is not None:
            setattr(own, name, _counting(inner, found))
    return own
