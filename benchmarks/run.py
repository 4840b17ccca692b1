"""What distillation costs: each target, what stands beside it, the ratio.

    python benchmarks/run.py [--quick] [--threads 2] [--rounds 9] [--pairs ssd yolov5] [--log FILE]
    python benchmarks/run.py --device cuda --images 32

A step is forward, backward and an SGD step on one synthetic batch, untrained models.
All contenders of a pair run in turn in each round; a ratio is the median over the rounds.

    mmdet     mmdet's own step of the student, which knows nothing of a teacher
    mmrazor   SingleTeacherDistill with the same distiller
    student   the student's step with the options of a run: channels last, targets of the whole
              batch at once, fused optimizer
    shipped   DetectionDistill's step with these options and the teacher in float32
    fast      with the teacher in bfloat16
    both      with the student in bfloat16 as well (autocast)
    cached    the teacher's records read from a cache and decoded
    losses    mmkd's losses and connectors alone, forward and backward

Each runs in a process of its own (apart.py), as a training does, so that no setting of one is
another's: mmkd's keep the memory that steps free, mmdet's and MMRazor's do not. Of mmkd's patches
three touch what these two do in a step: stand-ins for compiled ops, without which mmdet cannot be
imported, and none of which a step of these students calls; SSD's normaliser over ranks, which looks
at the number of ranks and goes on; and heads that ask for methods of their own, of which these have
none. So no patch helps or hinders them. The log, where one does, is no part of a step here; in
end_to_end.py it is.

All takes at most six minutes on two idle cores. On a busy machine there are fewer rounds, at least
three, and --cpu-time counts the seconds of the processes. tables.py puts a log into
docs/performance.md.
"""

import argparse
import logging
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import contenders
import torch
from apart import Apart
from end_to_end import end_to_end
from measure import peak_bytes, ratio
from measured_pairs import CLASSES, PAIRS, build, make_batch
from steps import loss_stepper, record_bytes, stepper, with_options

# isort: split
from cached_teacher import cached

from mmkd.cost.paired_seconds import paired_seconds
from mmkd.losses.log_keys import DISTILL, is_term
from mmkd.runner.kept_memory import keep_memory

CONTENDERS = 'mmdet', 'mmrazor', 'student', 'shipped', 'fast', 'both', 'cached', 'losses'
#: Highest ratios on a CPU and on a GPU; None where there is no target.
TARGETS: dict[str, dict[str, tuple[float | None, float | None]]] = {
    'ssd': dict(student=(0.80, 0.40), shipped=(0.61, 0.30), cached=(0.85, 0.50), fast=(0.60, None)),
    'yolov5': dict(
        student=(0.80, None), shipped=(0.75, None), cached=(0.85, 0.50), fast=(0.80,) * 2
    ),
}
#: Seconds that the rounds of a pair may take: those of all contenders, those of the cheap ones.
LIMITS = 45, 25


class Report:
    """Lines as they are found: each row has a target, the figure and whether it is met."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.say(f'{"":58} {"target":>8} {"found":>8}')

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line.rstrip() + '\n')

    def row(self, what: str, target: float | None, found: float) -> None:
        verdict = '' if target is None else 'met' if found <= target else 'missed'
        shown = f'{"-":>8}' if target is None else f'{target:8.3f}'
        self.say(f'{what:58} {shown} {found:8.3f}  {verdict}')


def measure(name: str, report: Report, images: int, size: int, args: argparse.Namespace) -> None:
    """The rows of a pair."""
    made = name, images, size, args.device
    with ExitStack() as stack:
        steps = {
            what: stack.enter_context(Apart(contenders.make, what, *made, threads=args.threads))
            for what in (*CONTENDERS, 'exact')
        }
        exact = steps.pop('exact')()
        terms = {form: steps[form]() for form in contenders.FORMS if form != 'exact'}

        def cpu_seconds() -> float:
            return sum(step.cpu_seconds() for step in steps.values())

        clock = cpu_seconds if args.cpu_time else time.perf_counter
        seconds = paired_seconds(steps, args.rounds, LIMITS[0], clock)
        # These are cheap, and near each other: more rounds tell them apart.
        near = {what: steps[what] for what in ('mmdet', 'student', 'cached')}
        close = paired_seconds(near, 4 * args.rounds, LIMITS[1], clock)
    report.say(f'\n{PAIRS[name][0]}, {images} images of {size} px: median seconds of a step')
    for contender, values in seconds.items():
        report.say(f'  {contender:10} {sorted(values)[len(values) // 2]:.3f}')
    targets = {what: pair[args.device != 'cpu'] for what, pair in TARGETS[name].items()}
    for what, key, floor in (
        ("student's own step / mmdet's", 'student', 'mmdet'),
        ("shipped, float32 / MMRazor's", 'shipped', 'mmrazor'),
        ('fast / float32', 'fast', 'shipped'),
        ('fast, bfloat16 student too / float32', 'both', 'shipped'),
    ):
        report.row(what, targets.get(key), ratio(seconds, key, floor))
    report.row("mmkd's losses / shipped", 0.03, ratio(seconds, 'losses', 'shipped'))
    report.row('cached / student', 1.02, ratio(close, 'cached', 'student'))
    report.row("cached / mmdet's plain step", targets['cached'], ratio(close, 'cached', 'mmdet'))
    for form, found in terms.items():
        worst = max(
            abs(found[key] / value - 1)
            for key, value in exact.items()
            if key.startswith(DISTILL) and is_term(key) and value
        )
        target = None if form == 'both' else 0.01
        report.row(f'{form}: largest deviation of a distillation term', target, worst)
    memory(name, report, images, size, args.device)


def memory(name: str, report: Report, images: int, size: int, device: str) -> None:
    """The rows in bytes."""
    batch = make_batch(name, size, images, PAIRS[name][3], CLASSES[name])
    with tempfile.TemporaryDirectory() as folder:
        view = cached(build(name, device), batch, folder)
    report.row('cached: KB of a view', 64 if name == 'ssd' else 200, view / 1024)
    pair = with_options(build(name, device, **contenders.FORMS['shipped']))
    own = with_options(build(name, device).student)
    peaks = []
    for model in (own, pair):
        step = stepper(model, batch, fused=True)
        step()
        peaks.append(peak_bytes(step, device))
    beyond = peaks[1] - peaks[0] - record_bytes(pair, batch)
    report.row("shipped: peak memory beyond the records, by the student's", 0.05, beyond / peaks[0])


def growth(name: str, report: Report, images: int, size: int, args: argparse.Namespace) -> None:
    """How the losses' cost grows with image size, objects and classes."""
    classes, objects = CLASSES[name], PAIRS[name][3]
    grown = {
        'as above': (classes, size, objects),
        'eight times the objects': (classes, size, 8 * objects),
    }
    if name == 'yolov5':
        grown['half the side'] = (classes, size // 64 * 32, objects)
    else:
        grown['four times the classes'] = (4 * classes, size, objects)
    contenders = {
        what: loss_stepper(
            build(name, args.device, classes=number), make_batch(name, side, images, many, number)
        )
        for what, (number, side, many) in grown.items()
    }
    clock = time.process_time if args.cpu_time else time.perf_counter
    seconds = paired_seconds(contenders, 3 * args.rounds, 10, clock)
    factors = [(ratio(seconds, what, 'as above'), what) for what in list(grown)[1:]]
    report.say(
        "  mmkd's losses take " + ', '.join(f'{f:.2f} times as long with {w}' for f, w in factors)
    )


def machine(args: argparse.Namespace, kept: bool) -> str:
    """What the figures are of."""
    if args.device != 'cpu':
        return torch.cuda.get_device_name(args.device)
    load = f'load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores'
    memory = f'freed memory {"kept" if kept else "given back"}'
    return f'{args.threads} threads, {load}, {"CPU" if args.cpu_time else "wall"} seconds, {memory}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='one round on two images')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--images', type=int, help='in a batch; by default 4 of SSD, 2 of YOLOv5')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--pairs', nargs='+', choices=PAIRS, default=list(PAIRS))
    parser.add_argument('--cpu-time', action='store_true', help='count CPU seconds, not wall time')
    parser.add_argument('--log', type=Path, help='keep what is printed in this file')
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # what mmengine says of each initialised layer
    torch.set_num_threads(args.threads)
    kept = keep_memory()
    report = Report()
    for name in args.pairs:
        _, size, images, _ = PAIRS[name]
        images = args.images or images
        if args.quick:
            size, images, args.rounds = (300 if name == 'ssd' else 160), 2, 1
        measure(name, report, images, size, args)
        growth(name, report, images, size, args)
    report.say('\n' + end_to_end(args.device, 16, 32))
    report.say(f'\n{machine(args, kept)}, up to {args.rounds} rounds, torch {torch.__version__}')
    if args.log:
        args.log.write_text(''.join(report.lines))


if __name__ == '__main__':
    main()
