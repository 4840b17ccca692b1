"""Randomness without memory: each draw follows from the seed and from what is being made.

So a run that goes on needs no generator's state, and neither the number of data loader workers nor
their life time changes what an image looks like.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import get_rank
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Dataset, Sampler


def seed_streams(*key: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators with a digest of ``key``."""
    first, second, third = map(int, np.random.SeedSequence(key).generate_state(3))
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(third)


@contextmanager
def seeded(*key: Any) -> Iterator[None]:
    """Python's, NumPy's and PyTorch's generators follow from ``key``; afterwards they go on.

    The views of a teacher cache follow from it: with other numbers, caches on disks are void.
    """
    words = np.frombuffer(hashlib.sha256(repr(key).encode()).digest(), np.uint32)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(int(words[0]))
    np.random.seed(words[1:4])
    torch.default_generator.manual_seed(int(words[4]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class SeededIndex(int):
    """The index of an image, with the ``key`` that its augmentation follows from."""

    key: tuple[int, ...]

    @classmethod
    def of(cls, index: int, *key: int) -> 'SeededIndex':
        """The index with its key."""
        seeded = cls(index)
        seeded.key = key
        return seeded


class SeededSampler(Sampler[Any]):
    """A sampler's indices, each with its key: (epoch, image).

    A sampler that may repeat an image in an epoch, or knows no epochs, adds rank and position.

    Args:
        sampler (dict): config of the sampler.
        dataset (Dataset): what it samples from.
        seed (int, optional): seed of its order. Defaults to None.
    """

    def __init__(
        self, sampler: dict[str, Any], dataset: Dataset[Any], seed: int | None = None
    ) -> None:
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=dict(dataset=dataset, seed=seed))
        self.dataset = dataset  # batch samplers look for it
        self.epoch = 0
        self._first = 0
        if hasattr(self.sampler, 'skip'):  # mmengine asks samplers without end for it, on resume
            self.skip = self.start_at

    def start_at(self, position: int) -> None:
        """Let the next iteration leave out the first ``position`` indices."""
        self._first = position

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of order and keys."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[SeededIndex]:
        first, self._first = self._first, 0
        once = isinstance(self.sampler, DefaultSampler)  # each image, each epoch
        for position, index in enumerate(self.sampler):
            if position >= first:
                place = () if once else (get_rank(), position)
                yield SeededIndex.of(index, self.epoch, int(index), *place)


class SeededDataset(Dataset[Any]):
    """A data set whose random transforms follow from the seed and the key of the index.

    Other than that it passes for the data set itself: hooks read and change its attributes.

    Args:
        dataset (dict | Dataset): the data set or its config.
        seed (int): seed of the run.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        if isinstance(dataset, Mapping):
            dataset = DATASETS.build(dataset)
        self.__dict__.update(_dataset=dataset, _seed=seed)

    def __getitem__(self, index: int) -> Any:
        if isinstance(index, SeededIndex):
            seed_streams(self._seed, *index.key)
        return self._dataset[int(index)]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == '_dataset':  # while it is unpickled by a worker
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._dataset, name, value)
