"""How near a student's convolutions are to what the processor can do, in both memory layouts.

    python benchmarks/layouts.py [--quick]

A step of each student (forward, backward, SGD) is taken in the usual layout and with channels last
(`mmkd/hooks/channels_last_hook.py`). For each the table has the share of the step's CPU time that
convolutions take, and their rate as a share of that of a product of two matrices that fit the
cache: a rate near 1 leaves a layout nothing to gain. One thread, medians.
"""

import argparse
import copy
import logging
import statistics
import time

import measured_pairs as pairs
import steps
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

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
    return sum(times.values()), sum(s for name, s in times.items() if 'conv' in name)


def forward_operations(student, batch: dict) -> int:
    """Operations of the convolutions in a forward pass."""
    inputs = student.data_preprocessor(copy.deepcopy(batch), True)['inputs']
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        student(inputs, mode='tensor')
    counts = counter.get_flop_counts()['Global']
    return sum(n for op, n in counts.items() if 'conv' in str(op))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='SSD alone, one round of two images')
    quick = parser.parse_args().quick
    rounds = 1 if quick else 5
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
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
    main()
