"""Batches as they come, and as they should not: what mmdet's heads and ours are compared on."""

import copy
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from mmkd.compat.heads import OWN_METHODS
from mmkd.targets.batch_targets import batch_targets

CLASSES = 3
SIDE = 64
STRIDES = (8, 16, 32)
MAPS = [(8, 8), (4, 4), (2, 2)]


def boxes_of_kind(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Boxes (count, 4) for images of 64 px."""
    sides = rng.uniform(2, 50, (count, 2))
    corners = rng.uniform(0, SIDE, (count, 2)) - sides / 2
    if kind == 'grid':  # with ties: sides and corners of the priors' own grid
        sides, corners = (rng.integers(1, 5, (count, 2)) * 8 for _ in range(2))
    if kind == 'same':
        sides, corners = sides[:1].repeat(count, 0), corners[:1].repeat(count, 0)
    if kind == 'flat':
        sides[:, rng.integers(2)] = 0
    if kind == 'far':
        corners += 500
    if kind == 'huge':
        sides *= 400
    return np.concatenate([corners, corners + sides], 1)


counts = st.integers(0, 4) | st.just(30)
kinds = st.sampled_from(['any', 'any', 'grid', 'same', 'flat', 'far', 'huge'])
groups = st.lists(st.tuples(kinds, counts), max_size=2)
images = st.lists(st.tuples(groups, groups, st.booleans()), min_size=1, max_size=4)
shapes = st.lists(
    st.tuples(st.integers(33, SIDE), st.integers(33, SIDE)), min_size=4, max_size=4
) | st.just([(SIDE, SIDE)] * 4)
logits = st.sampled_from(['any', 'rounded', 'equal'])
batches = st.builds(dict, images=images, shapes=shapes, logits=logits, seed=st.integers(0, 99))


def instances(found: list[tuple[str, int]], rng: np.random.Generator) -> InstanceData:
    parts = [boxes_of_kind(kind, count, rng) for kind, count in found]
    boxes = torch.tensor(np.concatenate([np.zeros((0, 4)), *parts]), dtype=torch.float32)
    return InstanceData(bboxes=boxes, labels=torch.from_numpy(rng.integers(0, CLASSES, len(boxes))))


def ground_truth(batch: dict) -> tuple[list, list[dict], list]:
    """Instances, metas and ignored instances of each image."""
    rng = np.random.default_rng(batch['seed'])
    truth = [instances(found, rng) for found, _, _ in batch['images']]
    ignored = [instances(found, rng) if has else None for _, found, has in batch['images']]
    metas = [
        dict(img_shape=(h - 1, w - 1), pad_shape=(h, w), batch_input_shape=(SIDE, SIDE))
        for h, w in batch['shapes'][: len(truth)]
    ]
    return truth, metas, ignored


def outputs(batch: dict, *channels: list[int]) -> list[list[Tensor]]:
    """Raw maps of a head: for each of its outputs the channels by level."""
    generator = torch.Generator().manual_seed(batch['seed'])
    found = []
    for widths in channels:
        maps = [
            torch.randn(len(batch['images']), width, *size, generator=generator)
            for width, size in zip(widths, MAPS, strict=True)
        ]
        if batch['logits'] != 'any':
            maps = [m.round() if batch['logits'] == 'rounded' else m * 0 for m in maps]
        found.append([m.requires_grad_() for m in maps])
    return found


def both(config: dict, train_cfg: dict) -> tuple[Any, Any]:
    """mmdet's head, and the same with the targets of the whole batch at once."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(copy.deepcopy({**config, 'train_cfg': ConfigDict(train_cfg)}))
    batched = copy.deepcopy(head)
    assert batch_targets(batched)[0].endswith('at once')
    assert hasattr(batched, OWN_METHODS) and not hasattr(head, OWN_METHODS)
    return head, batched


def equal(ours: Any, own: Any) -> None:
    """Nested lists of tensors with the same values, types and shapes."""
    if isinstance(own, Tensor):
        torch.testing.assert_close(ours, own, rtol=0, atol=0, equal_nan=True)
        return
    assert len(ours) == len(own)
    for a, b in zip(ours, own, strict=True):
        equal(a, b)


def total(value: Any) -> Tensor:
    """A loss as ``parse_losses`` adds it up."""
    return value.mean() if isinstance(value, Tensor) else sum(v.mean() for v in value)


def same_losses(head: Any, batched: Any, maps: list[list[Tensor]], *truth: Any) -> None:
    """The same gradient to the bit, and the same loss to a millionth."""
    flat = [m for level in maps for m in level]
    results = []
    for one in (batched, head):
        losses = {k: total(v) for k, v in one.loss_by_feat(*maps, *copy.deepcopy(truth)).items()}
        gradients = torch.autograd.grad(sum(losses.values()), flat, allow_unused=True)
        results.append((losses, [g for g in gradients if g is not None]))
    (ours, our_gradients), (own, own_gradients) = results
    for name, value in own.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=0, equal_nan=True)
    equal(our_gradients, own_gradients)
