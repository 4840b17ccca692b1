"""What targets for the whole batch save: time, operations, waits for the device, memory.

    python benchmarks/batched_targets.py [--quick] [--device cuda] [--rounds 9] [--heads SSD300]

Contenders: mmdet's ``loss_by_feat`` of a head, forward and backward, and the same after
``batch_targets``, on random raw maps. Both take turns in each round; a ratio is the median over the
rounds. An operation is one that computes, views left out; on a CPU those of the way of a GPU are
counted, with a wait for each operation whose result a GPU must hand over before the next.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
from measure import peak_bytes, ratio
from mmdet.models.dense_heads import FCOSHead
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmkd.cost.paired_seconds import paired_seconds
from mmkd.targets import dynamic_soft_label, ground_truth, ssd_head
from mmkd.targets.batch_targets import batch_targets

ROOT = Path(__file__).resolve().parents[1]
HEADS = {  # config, image size, sizes of the maps, batches
    'SSD300': (ROOT / 'configs/ssd300_mbv2_voc.py', 300, (38, 19, 10, 5, 3, 1), (4, 16, 32)),
    'RetinaNet': ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 256, (32, 16, 8, 4, 2), (4,)),
    'FCOS': ('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 256, (32, 16, 8, 4, 2), (4,)),
    'RTMDet': ('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 256, (32, 16, 8), (4, 16)),
}
WAITS = ('_local_scalar_dense', 'nonzero', '_unique2', 'masked_select', 'equal.default')


class Counter(TorchDispatchMode):
    """Counts operations, views left out, and those that a GPU would wait for."""

    operations = waits = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        returns = [value.alias_info for value in function._schema.returns]
        self.operations += not any(info and not info.is_write for info in returns)
        name = str(function)
        masks = name.startswith(('aten.index.', 'aten.index_put', 'aten._index_put')) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        self.waits += masks or any(word in name for word in WAITS)
        return function(*args, **(kwargs or {}))


def built(path: Any) -> tuple[nn.Module, nn.Module]:
    """A head as mmdet has it, and the same with the targets of the whole batch at once."""
    config = Config.fromfile(path) if isinstance(path, Path) else of_mmdet(path)
    model = config.model
    with DefaultScope.overwrite_default_scope('mmdet'):
        own = MODELS.build({**model.bbox_head, 'train_cfg': model.get('train_cfg')})
    ours = copy.deepcopy(own)
    print('\n' + batch_targets(nn.ModuleDict(dict(bbox_head=ours)))[0])
    return own, ours


def of_mmdet(path: str) -> Config:
    """One of mmdet's own configs."""
    from mmengine.hub import get_config

    return get_config(path)


def stepper(
    head: nn.Module, size: int, sides: tuple[int, ...], images: int, boxes: int, device: str
) -> Callable[[], None]:
    """A function that runs the head's loss on random maps, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    number = head.num_base_priors
    numbers = number if isinstance(number, list) else [number] * len(sides)
    widths = [[n * head.cls_out_channels for n in numbers], [4 * n for n in numbers]]
    if isinstance(head, FCOSHead):
        widths.append(numbers)
    maps = [
        [
            torch.randn(images, width, side, side, generator=generator).to(device).requires_grad_()
            for width, side in zip(row, sides, strict=True)
        ]
        for row in widths
    ]
    sizes = torch.rand(images, boxes, 2, generator=generator) * 0.4 * size + 0.1 * size
    corners = torch.rand(images, boxes, 2, generator=generator) * (size - sizes)
    truth = [
        InstanceData(
            bboxes=found.to(device),
            labels=torch.randint(head.num_classes, (boxes,), generator=generator).to(device),
        )
        for found in torch.cat([corners, corners + sizes], dim=2)
    ]
    metas = [dict(img_shape=(size, size), pad_shape=(size, size))] * images
    flat = [one for row in maps for one in row]

    def step() -> None:
        losses = head.loss_by_feat(*maps, truth, metas).values()
        total = sum(v.sum() if isinstance(v, torch.Tensor) else sum(v) for v in losses)
        torch.autograd.grad(total.sum(), flat, allow_unused=True)

    return step


def counted(step: Callable[[], None]) -> Counter:
    """Operations of a step as on a GPU."""
    with (
        mock.patch.object(ssd_head, 'hard_negatives', ssd_head._greatest),
        mock.patch.object(dynamic_soft_label, '_match_in_turn', dynamic_soft_label._match_at_once),
        mock.patch.dict(ground_truth._PAIRS, cpu=ground_truth._PAIRS['cuda']),
        Counter() as counter,
    ):
        step()
    return counter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='one round of two images of SSD')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--heads', nargs='+', choices=HEADS, default=list(HEADS))
    parser.add_argument('--threads', nargs='+', type=int, default=[1, 2], help='of a CPU')
    parser.add_argument('--cpu-time', action='store_true', help='count CPU seconds, not wall time')
    args = parser.parse_args()
    on_cpu = args.device == 'cpu' and not args.quick
    threads = args.threads if on_cpu else [torch.get_num_threads()]
    for name in args.heads[: 1 if args.quick else None]:
        path, size, sides, batches = HEADS[name]
        own, ours = (head.to(args.device) for head in built(path))
        for images in (2,) if args.quick else batches:
            steps = {
                what: stepper(head, size, sides, images, 6, args.device)
                for what, head in (('mmdet', own), ('at once', ours))
            }
            counts = {what: counted(step) for what, step in steps.items()}
            peaks = [peak_bytes(steps[what], args.device) for what in ('at once', 'mmdet')]
            for number in threads:
                torch.set_num_threads(number)
                clock = time.process_time if args.cpu_time else time.perf_counter
                seconds = paired_seconds(steps, 1 if args.quick else args.rounds, clock=clock)
                print(
                    f'{name}, {images:2} images, {number} threads: time ratio '
                    f'{ratio(seconds, "at once", "mmdet"):.3f} of {seconds["mmdet"][0]:.3f} s, '
                    f'peak memory {peaks[0] / peaks[1]:.3f}, operations '
                    f'{counts["mmdet"].operations} -> {counts["at once"].operations}, waits '
                    f'{counts["mmdet"].waits} -> {counts["at once"].waits}'
                )


if __name__ == '__main__':
    main()
