"""Two processes of one thread each against one: what training side by side costs.

    python benchmarks/scale.py [--quick] [--processes 2] [--rounds 9]

SSD300-VGG16 to MobileNetV2 with a lean teacher, 4 images a process, as tools/dist_train.sh sets it
up on a CPU: MMDistributedDataParallel over gloo. In each round the processes take a step together,
one of them takes it alone while the others wait, and each takes it by itself at the same time.

    efficiency     seconds of a step alone / together: images a second by processes x alone
    communication  seconds of a step side by side, without a word / together
    the machine    seconds of a step alone / side by side

The last two multiply to the first: what the processes tell each other, and what they share of the
machine. Medians over the rounds of the slowest process. Target: an efficiency of 0.9.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
import measured_pairs as pairs
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import distributed, multiprocessing


def stepper(model: Any, batch: dict[str, Any]) -> Callable[[], object]:
    """A step as the runner takes it, logs included."""
    own = getattr(model, 'module', model)
    optimizer = torch.optim.SGD([p for p in own.parameters() if p.requires_grad], 1e-6)
    wrapper = OptimWrapper(optimizer)
    return lambda: model.train_step({**batch}, wrapper)


def seconds(function: Callable[[], object]) -> float:
    distributed.barrier()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def work(rank: int, processes: int, rounds: int, images: int, folder: str) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    distributed.init_process_group('gloo', f'file://{folder}/meet', rank=rank, world_size=processes)
    batch = pairs.make_batch('ssd', 300, images, 6, pairs.CLASSES['ssd'])
    changes = dict(lean_teacher={})
    own = stepper(pairs.build('ssd', 'cpu', **changes), batch)

    def apart() -> None:
        with mock.patch.object(distributed, 'is_initialized', return_value=False):  # ask nobody
            own()

    model = MMDistributedDataParallel(
        pairs.build('ssd', 'cpu', **changes), broadcast_buffers=False, device_ids=None
    )
    together = stepper(model, batch)
    apart(), together()
    rows = []
    for _ in range(rounds):
        row = [seconds(together), seconds(apart if rank == 0 else int), seconds(apart)]
        found: list[Any] = [None] * processes
        distributed.all_gather_object(found, row)
        rows.append((max(r[0] for r in found), found[0][1], max(r[2] for r in found)))
    if rank == 0:
        torch.save(rows, Path(folder, 'rows'))
    distributed.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='one round of two images')
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=9)
    args = parser.parse_args()
    rounds, images = (1, 2) if args.quick else (args.rounds, 4)
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (args.processes, rounds, images, folder), nprocs=args.processes)
        rows = torch.load(Path(folder, 'rows'))
    together, alone, side = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f'seconds of a step: {together:.3f} together, {alone:.3f} alone, {side:.3f} side by side')
    for what, first, second in (
        ('efficiency', 1, 0),
        ('communication', 2, 0),
        ('the machine', 1, 2),
    ):
        print(f'{what:14} {statistics.median(row[first] / row[second] for row in rows):.3f}')
    load = f'load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores'
    print(f'{args.processes} processes of 1 thread, {rounds} rounds, target 0.9; {load}')


if __name__ == '__main__':
    main()
