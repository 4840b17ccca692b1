"""Imitation masks against a loop over images and boxes, side by side.

    python benchmarks/imitation_masks.py [--quick] [--threads 1]

8 images of 50 boxes on an 80 x 80 grid with 3 anchors. The loop computes, for each box, its IoU
with all 19200 anchors of the grid (made once, outside the loop), as the published code does. Both
give the same mask. Target: at least 20 times as fast (median ratio of paired runs).
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmkd.geometry.anchor_grid import imitation_masks

SIZES = [(10.0, 13.0), (16.0, 30.0), (33.0, 23.0)]
STRIDE, GRID, IMAGES, BOXES = 8, 80, 8, 50


def by_loop(gt_bboxes: list[torch.Tensor], anchors: torch.Tensor) -> torch.Tensor:
    """Per image, per box over the full IoU matrix."""
    masks = torch.zeros(len(gt_bboxes), 1, GRID, GRID)
    areas = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
    for image, boxes in enumerate(gt_bboxes):
        for box in boxes:
            low = torch.maximum(anchors[:, :2], box[:2])
            high = torch.minimum(anchors[:, 2:], box[2:])
            inter = (high - low).clamp(min=0).prod(1)
            iou = inter / (areas + (box[2:] - box[:2]).prod() - inter)
            lit = (iou > 0.5 * iou.max()).view(GRID, GRID, -1).any(-1)
            masks[image, 0] = torch.maximum(masks[image, 0], lit.float())
    return masks


def seconds(function, *args) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='few repetitions')
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    generator = torch.Generator().manual_seed(0)
    corner = 560 * torch.rand(IMAGES, BOXES, 2, generator=generator, dtype=torch.float64)
    extent = 5 + 200 * torch.rand(IMAGES, BOXES, 2, generator=generator, dtype=torch.float64)
    gt_bboxes = list(torch.cat([corner, corner + extent], -1))
    center = (torch.arange(GRID, dtype=torch.float64) + 0.5) * STRIDE
    y, x = torch.meshgrid(center, center, indexing='ij')
    half = torch.tensor(SIZES, dtype=torch.float64) / 2
    centers = torch.stack([x, y], -1)[:, :, None]  # (H, W, 1, 2)
    anchors = torch.cat([centers - half, centers + half], -1).view(-1, 4)

    ours = (gt_bboxes, [SIZES], [STRIDE], [(GRID, GRID)])
    assert torch.equal(imitation_masks(*ours)[0], by_loop(gt_bboxes, anchors))
    for _ in range(3):
        imitation_masks(*ours)
    pairs = [
        (seconds(imitation_masks, *ours), seconds(by_loop, gt_bboxes, anchors))
        for _ in range(5 if args.quick else 31)
    ]
    fast, slow = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(loop / ours for ours, loop in pairs)
    print(f'imitation_masks {1e3 * fast:8.2f} ms')
    print(f'loop            {1e3 * slow:8.2f} ms')
    print(f'ratio           {ratio:8.1f} (median of {len(pairs)} paired runs; target 20)')


if __name__ == '__main__':
    main()
