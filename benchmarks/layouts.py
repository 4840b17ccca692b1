"""How near a student's convolutions are to what the processor can do, in both memory layouts.

    python benchmarks/layouts.py [--quick]
    python benchmarks/layouts.py --kinds yolov5

A step of each student (forward, backward, SGD) is taken in the usual layout and with channels last
(`mmkd/hooks/channels_last_hook.py`). For each the table has the share of the step's CPU time that
convolutions take, and their rate as a share of that of a product of two matrices that fit the
cache. One thread, medians.

With --kinds each convolution of a student is timed alone, forward and backward. The table has, for
each kind, the operations of a pass, and billions of them a second in each pass and layout.
"""

import argparse
import copy
import logging
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from unittest import mock

import measured_pairs as pairs
import steps
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mmkd.teachers import winograd_conv

_SIDE = 1024  # of the square matrices


def matrix_rate(rounds: int) -> float:
    """Operations a second of a product of matrices."""
    a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    seconds = []
    for _ in range(rounds + 1):
        start = time.process_time()
        torch.mm(a, b)
        seconds.append(time.process_time() - start)
    return 2 * _SIDE**3 / statistics.median(seconds[1:])


def convolutions(step) -> tuple[float, float]:
    """Seconds of CPU of a step, and of its convolutions."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    times = {e.key: e.self_cpu_time_total / 1e6 for e in profiled.key_averages()}
    return sum(times.values()), sum(
        s for name, s in times.items() if 'conv' in name or 'addmm' in name
    )


def forward_operations(student, batch: dict) -> int:
    """Operations of the convolutions in a forward pass."""
    inputs = student.data_preprocessor(copy.deepcopy(batch), True)['inputs']
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        student(inputs, mode='tensor')
    counts = counter.get_flop_counts()['Global']
    return sum(n for op, n in counts.items() if 'conv' in str(op))


def kind_of(conv: nn.Conv2d) -> str:
    """A word for convolutions that cost alike."""
    if conv.in_channels <= 3:
        return 'of the image'
    if conv.groups > 1:
        return 'in groups'
    size = f'{conv.kernel_size[0]} x {conv.kernel_size[1]}'
    return size if max(conv.stride) == 1 else f'{size}, stride {max(conv.stride)}'


def seconds_alone(conv: nn.Conv2d, shape: torch.Size, layout: Any, rounds: int) -> list[float]:
    """Of a convolution: of its forward pass, of the gradient of its inputs, of its weights."""
    inputs = torch.randn(shape).contiguous(memory_format=layout)
    of_weight = conv(inputs)
    conv.weight.requires_grad_(False)
    inputs.requires_grad_()
    of_inputs = conv(inputs)
    conv.weight.requires_grad_()
    grad = torch.randn_like(of_inputs)
    return [
        min(process_seconds(run) for _ in range(rounds))
        for run in (
            lambda: conv(inputs),
            lambda: torch.autograd.grad(of_inputs, inputs, grad, retain_graph=True),
            lambda: torch.autograd.grad(of_weight, conv.weight, grad, retain_graph=True),
        )
    ]


def process_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def by_kind(name: str, rounds: int) -> None:
    """Print a row for each kind of a student's convolutions."""
    _, size, images, objects = pairs.PAIRS[name]
    batch = pairs.make_batch(name, size, images, objects, pairs.CLASSES[name])
    counts: dict[str, int] = defaultdict(int)
    spent: dict[str, list[float]] = defaultdict(list)
    for layout in (torch.contiguous_format, torch.channels_last):
        student = pairs.build(name, 'cpu').student
        if layout == torch.channels_last:
            steps.with_options(student)
        seen: list[tuple[nn.Conv2d, torch.Size]] = []
        for conv in (m for m in student.modules() if isinstance(m, nn.Conv2d)):
            conv.register_forward_hook(
                lambda conv, args, _, seen=seen: seen.append((conv, args[0].shape))
            )
        inputs = student.data_preprocessor(copy.deepcopy(batch), True)['inputs']
        with torch.no_grad():
            student(inputs, mode='tensor')
        found: dict[str, list[float]] = defaultdict(lambda: [0.0] * 3)
        for conv, shape in list(seen):
            parts = seconds_alone(conv, shape, layout, rounds)
            kind = kind_of(conv)
            found[kind] = [a + b for a, b in zip(found[kind], parts, strict=True)]
            if layout == torch.channels_last:
                cells = conv(torch.zeros(shape))[:, 0].numel()
                counts[kind] += 2 * cells * conv.weight.numel()
        for kind, parts in found.items():
            spent[kind] += parts
    print(f'{"":16} 10^9  usual: forward, inputs, weights   channels last: the same')
    for kind, parts in spent.items():
        rates = ''.join(f'{counts[kind] / s / 1e9:9.0f}' for s in parts)
        print(f'{kind:16} {counts[kind] / 1e9:4.1f} {rates}')
    whole = [sum(column) for column in zip(*spent.values(), strict=True)]
    print(f'{"seconds":21} ' + ''.join(f'{s:9.3f}' for s in whole))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='SSD alone, one round of two images')
    parser.add_argument('--kinds', choices=pairs.PAIRS, help='the convolutions of a student alone')
    args = parser.parse_args()
    quick = args.quick
    rounds = 1 if quick else 3 if args.kinds else 5
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if args.kinds:
        by_kind(args.kinds, rounds)
        return
    print('student  layout         step, s  convolutions  their rate / a matrix product')
    for name, (_, size, images, objects) in list(pairs.PAIRS.items())[: 1 if quick else None]:
        count = 2 if quick else images
        batch = pairs.make_batch(name, size, count, objects, pairs.CLASSES[name])
        for layout in ('usual', 'channels last'):
            student = pairs.build(name, 'cpu').student
            if layout == 'channels last':
                steps.with_options(student)
            step = steps.stepper(student, batch, fused=True)
            step()
            operations = 3 * forward_operations(student, batch)  # backward takes two of a kind
            found = [(*convolutions(step), matrix_rate(3)) for _ in range(rounds)]
            whole = statistics.median(row[0] for row in found)
            share = statistics.median(row[1] / row[0] for row in found)
            rate = statistics.median(operations / row[1] / row[2] for row in found)
            print(f'{name:8} {layout:14} {whole:7.3f}  {share:12.2f}  {rate:.2f}')


if __name__ == '__main__':
    with mock.patch.object(winograd_conv, '_CHANNELS', sys.maxsize):  # it is about oneDNN's own
        main()
