"""How a step's time and memory, and the start, grow with what a run is made of.

    python benchmarks/growth.py [--quick] [--log docs/growth.json]
    python benchmarks/growth.py --draw docs/growth.svg --log docs/growth.json

YOLOv5m to s as in the config: from 1 image of 160 px, 80 classes and 8 objects one of them grows at
a time; then the teacher, by depth and width as YOLOv5's n, s, m, l and x. One thread. Seconds are
the process's own CPU time, the least of three, so that other work on the machine does not count.
Memory is the most that torch's allocator had handed out in a step beyond the two models. Start is
building the pair. The second call draws the log of the first.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
import measured_pairs as pairs
import steps
import torch
from measure import peak_bytes
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS

GROWN: dict[str, tuple[int, ...]] = {
    'images': (1, 2, 4, 8),
    'side in px': (160, 320, 480, 640),
    'classes': (1, 20, 80, 320),
    'objects an image': (1, 8, 64, 256),
}
START = {'images': 1, 'side in px': 160, 'classes': 80, 'objects an image': 8}
TEACHERS = {'n': (0.33, 0.25), 's': (0.33, 0.5), 'm': (0.67, 0.75), 'l': (1, 1), 'x': (1.33, 1.25)}
FIGURES = {
    'step': 'CPU seconds of a step',
    'memory': 'MB in a step',
    'start': 'CPU seconds to build',
}


def build(classes: int, teacher: str) -> Any:
    """The pair with other classes and another teacher, untrained."""
    config = Config.fromfile(pairs.ROOT / 'configs/yolov5_kd_m_to_s.py')
    model = config.model
    model.update(teacher_ckpt=None)
    model.teacher = Config.fromfile(model.teacher).model
    depth, width = TEACHERS[teacher]
    for detector in (model.architecture, model.teacher):
        detector.init_cfg = detector.backbone.init_cfg = None
        detector['_scope_'] = config.default_scope
        detector.bbox_head.head_module.num_classes = classes
    for part in (model.teacher.backbone, model.teacher.neck):
        part.update(deepen_factor=depth, widen_factor=width)
    model.teacher.bbox_head.head_module.widen_factor = width
    model.distiller.distill_losses.loss_output.num_classes = classes
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return MODELS.build(model).train()


def cpu_seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def measured(rounds: int, teacher: str = 'm', **sizes: int) -> dict[str, Any]:
    """A row of the log."""
    at = {**START, **sizes}
    images, side, classes, objects = (at[name] for name in START)
    start = time.process_time()
    model = build(classes, teacher)
    start = time.process_time() - start
    batch = pairs.make_batch('yolov5', side, images, objects, classes)
    step = steps.stepper(model, batch)
    step()
    seconds = min(cpu_seconds(step) for _ in range(rounds))
    memory = peak_bytes(step) / 1e6
    return {**at, 'teacher': teacher, 'step': seconds, 'memory': memory, 'start': start}


def measure(rounds: int, quick: bool) -> list[dict[str, Any]]:
    """All rows; the name of what grows is that of ``grown``."""
    rows = []
    for name, values in GROWN.items():
        for value in values[:2] if quick else values:
            rows.append({'grown': name, **measured(rounds, **{name: value})})
    for teacher in list(TEACHERS)[: 1 if quick else None]:
        rows.append({'grown': 'teacher', **measured(rounds, teacher)})
    return rows


def table(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        what = f'{row["grown"]} = {row[row["grown"]]}'
        print(f'{what:24} {row["step"]:8.3f} s {row["memory"]:8.0f} MB {row["start"]:8.2f} s')


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A column for each thing that grows, a row for each figure."""
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt

    plt.rcParams.update({'svg.hashsalt': 'mmkd', 'svg.fonttype': 'none', 'font.size': 8})
    names = list(dict.fromkeys(row['grown'] for row in rows))
    figure, axes = plt.subplots(
        len(FIGURES), len(names), figsize=(11, 5.5), sharex='col', sharey='row', squeeze=False
    )
    for column, name in enumerate(names):
        own = [row for row in rows if row['grown'] == name]
        places = [row[name] for row in own]
        for axis, (key, label) in zip(axes[:, column], FIGURES.items(), strict=True):
            axis.plot(places, [row[key] for row in own], 'o-', color='#1f6f8b', markersize=3)
            axis.set_ylim(0, 1.05 * max(row[key] for row in rows))
            axis.grid(alpha=0.3)
            if not column:
                axis.set_ylabel(label)
        axes[-1, column].set_xlabel(name)
    figure.tight_layout()
    figure.savefig(path, metadata={'Date': None} if path.suffix == '.svg' else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='few sizes, once')
    parser.add_argument('--log', type=Path, help='what is measured is written to it')
    parser.add_argument('--draw', type=Path, help='draw that log instead of measuring')
    args = parser.parse_args()
    if args.draw:
        draw(json.loads(args.log.read_text())['rows'], args.draw)
        return
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    rows = measure(1 if args.quick else 3, args.quick)
    table(rows)
    if args.log:
        machine = f'1 thread, torch {torch.__version__}'
        args.log.write_text(json.dumps(dict(machine=machine, rows=rows), indent=1))


if __name__ == '__main__':
    main()
