"""ObjScaledBoxCls against the reference form written naively, side by side.

    python benchmarks/obj_scaled_box_cls.py [--quick] [--threads 1]

Raw YOLOv5 maps at batch 16, 640 px, 80 classes; forward and backward. Written naively, as in the
YOLOv5 forks, the weight is repeated over the channels and every step makes a tensor. Peak memory
is what torch's allocator handed out during forward and backward beyond the inputs, from the
profiler's record of each allocation, gradients of the student included; "with inputs" adds the
maps of both models. Ours is as a pair of one such loss runs it: nobody else needs the teacher's
maps, so the gradient is made in their memory. Where both compute the same form, their values are
compared. Target: at least 2 times as fast (median ratio of paired runs) and at most half the peak
memory, with the inputs counted.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
from measure import peak_bytes

from mmkd.losses import ObjScaledBoxCls

CLASSES, ANCHORS = 80, 3


def naive(preds_S, preds_T, cls_loss: str) -> torch.Tensor:
    """The reference form: repeat the weight, mean over all elements."""
    total = 0
    for c_S, b_S, o_S, c_T, b_T, o_T in zip(*preds_S, *preds_T, strict=True):
        batch, _, height, width = o_S.shape
        weight = o_T.sigmoid().view(batch, ANCHORS, 1, height, width)
        for_cls = weight.repeat(1, 1, CLASSES, 1, 1).view_as(c_S)
        for_box = weight.repeat(1, 1, 4, 1, 1).view_as(b_S)
        if cls_loss == 'l2':
            distance = (c_S - c_T) ** 2
        else:
            distance = F.binary_cross_entropy_with_logits(c_S, c_T, reduction='none')
        total = total + 0.5 * (distance * for_cls).mean()
        total = total + 0.05 * ((b_S - b_T) ** 2 * for_box).mean()
        total = total + ((o_S - o_T) ** 2 * o_T.sigmoid()).mean()
    return total


def maps(batch: int, size: int, seed: int, requires_grad: bool):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        [
            torch.randn(batch, ANCHORS * n, size // s, size // s, generator=generator)
            .sub_(3)
            .requires_grad_(requires_grad)
            for s in (8, 16, 32)
        ]
        for n in (CLASSES, 4, 1)
    )


def fresh(preds_T):
    """The teacher's maps as a step records them: nobody else's."""
    return tuple([level.clone() for level in kind] for kind in preds_T)


def step(loss, preds_S, preds_T) -> tuple[float, float]:
    """Value and seconds of a forward and backward."""
    for kind in preds_S:
        for level in kind:
            level.grad = None
    preds_T = fresh(preds_T)
    start = time.perf_counter()
    value = loss(preds_S, preds_T)
    value.backward()
    return value.item(), time.perf_counter() - start


def peak(loss, preds_S, preds_T) -> int:
    """Most that was allocated at once beyond the inputs."""
    for kind in preds_S:
        for level in kind:
            level.grad = None
    recorded = fresh(preds_T)
    return peak_bytes(lambda: loss(preds_S, recorded).backward())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='batch 2 and few repetitions')
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch, repetitions = (2, 3) if args.quick else (16, 9)
    preds = maps(batch, 640, 0, True), maps(batch, 640, 1, False)
    inputs = sum(level.nbytes for side in preds for kind in side for level in kind)

    reference = dict(box_loss='l2', normalizer='mean')
    rows = [
        ('reference l2', 'l2', ObjScaledBoxCls(CLASSES, cls_loss='l2', **reference)),
        ('reference bce', 'bce', ObjScaledBoxCls(CLASSES, cls_loss='bce', **reference)),
        ('corrected (default)', 'bce', ObjScaledBoxCls(CLASSES)),
    ]
    print(f'batch {batch}, 640 px, {CLASSES} classes, {args.threads} threads; naive / ours')
    print(f'{"form":20} {"seconds":>15} {"ratio":>6} {"peak MB":>13} {"ratio":>6} with inputs')
    for name, cls_loss, ours in rows:
        ours.overwrites_teacher = True
        # The corrected form has no naive twin: the reference's bce is its counterpart.
        functions = (lambda s, t, kind=cls_loss: naive(s, t, kind), ours)
        first = [step(function, *preds)[0] for function in functions]
        assert name.startswith('corrected') or abs(first[0] - first[1]) < 1e-4 * abs(first[0])
        pairs = [[step(f, *preds)[1] for f in functions] for _ in range(repetitions)]
        slow, fast = (statistics.median(column) for column in zip(*pairs, strict=True))
        faster = statistics.median(n / o for n, o in pairs)
        peaks = [peak(function, *preds) for function in functions]
        whole = (peaks[0] + inputs) / (peaks[1] + inputs)
        print(
            f'{name:20} {slow:7.3f} {fast:7.3f} {faster:6.2f} '
            f'{peaks[0] / 2**20:6.0f} {peaks[1] / 2**20:6.0f} {peaks[0] / peaks[1]:6.2f} '
            f'{whole:6.2f}'
        )
    print(f'targets: 2 in seconds and in peak with inputs; medians of {repetitions} paired runs')


if __name__ == '__main__':
    main()
