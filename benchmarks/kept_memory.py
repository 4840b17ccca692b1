"""What it brings that a training keeps the memory its steps free, and how much memory that takes.

    python benchmarks/kept_memory.py [--pairs ssd yolov5] [--rounds 9] [--threads 1]

Each step is taken by two processes in turn: one gives freed memory back, as ever, the other keeps
it. Ratios of CPU time are medians over the rounds; the peak is that of the process.
"""

import argparse
import functools
import logging
import re
import statistics
from pathlib import Path

from measured_pairs import CLASSES, PAIRS, build, make_batch
from peers import Peers, Steps
from steps import stepper, with_options

# isort: split
from mmkd.runner.kept_memory import keep_memory

STEPS = {
    'student': "the student's own step",
    'shipped': 'the pair as shipped, teacher in float32',
    'mmdet': "mmdet's step of the student, in the same process",
}


def steps(name: str, keep: bool) -> Steps:
    """Each step, built when it is asked for."""
    if keep and not keep_memory():
        raise RuntimeError('freed memory is not kept here: no glibc, or MALLOC_ variables are set')
    _, size, images, objects = PAIRS[name]
    batch = make_batch(name, size, images, objects, CLASSES[name])

    @functools.cache
    def built(what: str):
        if what == 'mmdet':
            return stepper(build(name, 'cpu').student, batch)
        pair = build(name, 'cpu', lean_teacher={})
        model = with_options(pair.student if what == 'student' else pair)
        return stepper(model, batch, fused=True)

    return {what: functools.partial(lambda what: built(what)(), what) for what in STEPS}


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
            sides = [
                Peers(steps, name, keep, threads=args.threads, device='cpu')
                for keep in (False, True)
            ]
            seconds: tuple[list[float], list[float]] = [], []
            for number in range(args.rounds + 1):
                for side in (0, 1) if number % 2 else (1, 0):
                    before = sides[side].own_time()
                    sides[side].step(what)()
                    if number:
                        seconds[side].append(sides[side].own_time() - before)
            ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
            peaks = [peak(side.pid) for side in sides]
            for side in sides:
                side.close()
            print(
                f'{name}: {title}: {ratio:.3f} of the CPU time, peak {peaks[0]} -> {peaks[1]} MB',
                flush=True,
            )


if __name__ == '__main__':
    main()
