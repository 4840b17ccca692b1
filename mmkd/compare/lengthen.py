"""The step of a comparison that finds how long plain training may last: as distillation took.

python -m mmkd.compare.lengthen BASELINE_CONFIG OUT DISTILLED_FOLDER BASELINE_FOLDER
"""

import sys
from pathlib import Path

from mmengine.config import Config

from mmkd.compare.configs import LONGER_CHECKPOINT, text_of
from mmkd.compare.report.run import step_seconds
from mmkd.config.scaled_schedule import scale_schedule
from mmkd.fileio.atomic_writes import write_atomic


def lengthen(config: str, out: Path, distilled: Path, baseline: Path) -> None:
    """Write the baseline's config with as many more epochs as a distilled step takes longer.

    Args:
        config: of the baseline.
        out: gets its config, whose schedule is stretched in proportion.
        distilled: work dir of a distilled student's training.
        baseline: that of the baseline with the same seed.

    Raises:
        ValueError: one of them has logged no step.
    """
    times = [step_seconds(folder) for folder in (distilled, baseline)]
    taught, plain = times
    if not taught or not plain:
        raise ValueError(
            'the arm longer needs the step times of the distilled student and the baseline, but '
            f'their trainings logged {taught} and {plain} seconds. Add default_hooks.logger.'
        )
    cfg = Config.fromfile(config)
    loop = cfg.train_cfg
    own = loop.get('max_epochs') or loop.get('max_iters')
    length = max(int(own * taught / plain + 0.5), 1)
    for line in scale_schedule(cfg, length / own, length):
        print(line)
    # its length, and so the name of its last checkpoint, was not known when the steps were planned
    hooks = dict(type='ExportStudentHook', filename=LONGER_CHECKPOINT)
    cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'export': hooks}
    write_atomic(out, text_of(cfg).encode())
    print(
        f'A distilled step takes {taught:.3f} s, a plain one {plain:.3f} s: {own} become {length}.'
    )


if __name__ == '__main__':
    lengthen(sys.argv[1], *map(Path, sys.argv[2:5]))
