"""The order in which a run sees annotated images and others."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch import Tensor
from torch.utils.data import Sampler


class MixedSampler(Sampler[int]):
    """Annotated images in the order of the run's own sampler, and between them others.

    An epoch is one of the annotated images. The others come in an order of their own, each once
    before any comes again, shared among the processes.

    Args:
        sampler (dict): config of the run's own sampler.
        dataset (Dataset): what both sample from: a
            :class:`mmkd.datasets.mixed_batches.MixedDataset`, or what wraps it.
        labelled (int): how many annotated images follow each other.
        unlabelled (int): how many others follow them.
        seed (int, optional): of the order. Defaults to None.
    """

    def __init__(
        self,
        sampler: dict[str, Any],
        dataset: Any,
        labelled: int,
        unlabelled: int,
        seed: int | None = None,
    ) -> None:
        mixed = _mixed(dataset)
        own = dict(dataset=mixed.datasets[0], seed=seed)
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=own)
        self.dataset, self.counts = mixed, (labelled, unlabelled)
        self.seed, self.epoch = seed or 0, 0
        self.rank, self.world_size = get_dist_info()
        self._first = 0
        if hasattr(self.sampler, 'skip'):  # mmengine asks samplers without end for it, on resume
            self.skip = self._leave_out

    def _leave_out(self, count: int) -> None:
        self._first = count

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of both orders."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        labelled, unlabelled = self.counts
        return len(self.sampler) + math.ceil(len(self.sampler) / labelled) * unlabelled

    def __iter__(self) -> Iterator[int]:
        first, self._first = self._first, 0
        return itertools.islice(self._all(), first, None)

    def _all(self) -> Iterator[int]:
        labelled, unlabelled = self.counts
        own, others = iter(self.sampler), self._others()
        while group := list(itertools.islice(own, labelled)):
            yield from group
            yield from itertools.islice(others, unlabelled)

    def _others(self) -> Iterator[int]:
        """Goes on in an epoch where the one before has ended."""
        first, count = self.dataset.labelled, len(self.dataset) - self.dataset.labelled
        each = math.ceil(len(self.sampler) / self.counts[0]) * self.counts[1]
        for place in itertools.count(self.epoch * each):
            turn, step = divmod(place * self.world_size + self.rank, count)
            yield first + int(self._order(turn)[step])

    def _order(self, turn: int) -> Tensor:
        if self.__dict__.get('_known', (None,))[0] != turn:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + turn)
            count = len(self.dataset) - self.dataset.labelled
            self.__dict__['_known'] = turn, torch.randperm(count, generator=generator)
        return self.__dict__['_known'][1]


def _mixed(dataset: Any) -> Any:
    """The mixed data set, within what seeds or caches it."""
    while 'datasets' not in vars(dataset):
        held = vars(dataset)
        dataset = next(held[key] for key in ('_dataset', 'dataset', 'views') if key in held)
    return dataset
