"""The ground truth of a batch as a few tensors, and the blocks of images that are worked on."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor

#: Pairs of a prior and a box that are compared at once. On a CPU they should fit its cache; on a
#: GPU what counts is the number of operations, and a pair takes about 44 bytes at the peak.
_PAIRS = dict(cpu=2**18, cuda=2**22)


class GroundTruth:
    """Boxes of all images one after the other, and how many each image has.

    Args:
        instances: of each image, with ``bboxes`` (k, 4) and, if ``labels`` are to be asked for,
            ``labels`` (k,). None stands for an image without.
        like: a tensor of the device.

    Attributes:
        boxes (Tensor): (T + 1, 4); the last is a box of zeros, which overlaps with nothing.
        counts (list[int]): boxes of each image; known without a wait for the device.
    """

    def __init__(self, instances: Sequence[Any], like: Tensor) -> None:
        self.instances = [one for one in instances if one is not None]
        self.counts = [0 if one is None else len(one.bboxes) for one in instances]
        self.device = like.device
        found = [get_box_tensor(one.bboxes).reshape(-1, 4) for one in self.instances]
        self.boxes = F.pad(torch.cat(found), (0, 0, 0, 1)) if found else like.new_zeros(1, 4)
        starts, total = [], 0
        for count in self.counts:
            starts.append(total)
            total += count
        self._starts = starts
        #: Where each image's boxes begin, (N, 1).
        self.first = torch.tensor(starts).to(self.device, non_blocking=True)[:, None]

    @property
    def labels(self) -> Tensor:
        """(T + 1,); the last belongs to the box of zeros."""
        return F.pad(torch.cat([one.labels for one in self.instances]), (0, 1))

    def padded(self, images: Sequence[int]) -> Tensor:
        """Boxes of some images, (n, G, 4): each image's own first, then boxes of zeros; G >= 1."""
        return self.boxes[self._rows(images)]

    def padded_labels(self, images: Sequence[int]) -> Tensor:
        """Their labels, (n, G)."""
        return self.labels[self._rows(images)]

    def _rows(self, images: Sequence[int]) -> Tensor:
        last = len(self.boxes) - 1
        most = max(1, *(self.counts[i] for i in images))
        rows = [
            [self._starts[i] + k if k < self.counts[i] else last for k in range(most)]
            for i in images
        ]
        return torch.tensor(rows).to(self.device, non_blocking=True)

    def blocks(self, priors: int, beside: 'GroundTruth | None' = None) -> Iterator[list[int]]:
        """Images to work on at once: so many that no more pairs arise than fit.

        Args:
            priors: of each image.
            beside: further boxes of the same images.
        """
        counts = [max(1, count) for count in self.counts]
        if beside is not None:
            counts = [max(pair) for pair in zip(counts, beside.counts, strict=True)]
        limit = _PAIRS.get(self.device.type, _PAIRS['cuda']) // priors
        left = list(range(len(counts)))
        if len(left) * max(counts) > limit:  # one with many boxes is not put with the others
            left.sort(key=lambda image: -counts[image])
        while left:
            size = max(1, limit // counts[left[0]])
            yield left[:size]
            left = left[size:]


def in_order(parts: list[Tensor], images: list[int]) -> Tensor:
    """One tensor over all images, of those of the blocks, whose images are given one after another.

    >>> in_order([torch.tensor([7]), torch.tensor([5, 6])], [2, 0, 1])
    tensor([5, 6, 7])
    """
    whole = torch.cat(parts) if len(parts) > 1 else parts[0]
    if images == sorted(images):
        return whole
    places = sorted(range(len(images)), key=images.__getitem__)
    return whole[torch.tensor(places).to(whole.device, non_blocking=True)]
