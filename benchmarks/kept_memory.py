"""What it brings that a training keeps the memory its steps free, and how much memory that takes.

    python benchmarks/kept_memory.py [--pairs ssd yolov5] [--rounds 9] [--threads 1]

Each step is taken by two processes in turn: one gives freed memory back, as ever, the other keeps
it. Ratios of CPU time are medians over the rounds; the peak is that of the process.
"""

import argparse
import logging
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from apart import Apart
from measured_pairs import CLASSES, PAIRS, build, make_batch
from steps import stepper, with_options

# isort: split
from mmkd.runner.kept_memory import keep_memory

STEPS = {
    'student': "the student's own step",
    'shipped': 'the pair as shipped, teacher in float32',
    'mmdet': "mmdet's step of the student, in the same process",
}


def make(name: str, what: str, keep: bool) -> Callable[[], object]:
    """A step of a pair."""
    if keep and not keep_memory():
        raise RuntimeError('freed memory is not kept here: no glibc, or MALLOC_ variables are set')
    _, size, images, objects = PAIRS[name]
    batch = make_batch(name, size, images, objects, CLASSES[name])
    if what == 'mmdet':
        return stepper(build(name, 'cpu').student, batch)
    pair = build(name, 'cpu', lean_teacher={})
    return stepper(with_options(pair.student if what == 'student' else pair), batch, fused=True)


def peak(pid: int) -> int:
    """MB that a process has held at once."""
    found = re.search(r'VmHWM:\s+(\d+) kB', Path(f'/proc/{pid}/status').read_text())
    return int(found[1]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--pairs', nargs='+', choices=PAIRS, default=list(PAIRS))
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    for name in args.pairs:
        for what, title in STEPS.items():
            made = [Apart(make, name, what, keep, threads=args.threads) for keep in (False, True)]
            with made[0], made[1]:
                seconds: tuple[list[float], list[float]] = [], []
                for number in range(args.rounds + 1):
                    for side in (0, 1) if number % 2 else (1, 0):
                        before = made[side].cpu_seconds()
                        made[side]()
                        if number:
                            seconds[side].append(made[side].cpu_seconds() - before)
                peaks = [peak(side.pid) for side in made]
            ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
            print(
                f'{name}: {title}: {ratio:.3f} of the CPU time, peak {peaks[0]} -> {peaks[1]} MB',
                flush=True,
            )


if __name__ == '__main__':
    main()
