"""The step of a comparison that chooses the teacher's form, for all arms and seeds.

python -m mmkd.runner.choose_teacher CONFIG OUT SEED
"""

import json
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from mmkd.algorithms.idle_terms import PATIENCE
from mmkd.algorithms.teacher_forms import choose_form
from mmkd.distributed.unwrapped import unwrapped
from mmkd.fileio.atomic_writes import write_atomic
from mmkd.runner.exact_runner import ExactRunner
from mmkd.teachers.lean_teacher import EXACT


def choose_teacher(config: str, out: Path, seed: int) -> None:
    """Write the form that a run of the pair would choose.

    Args:
        config: of a taught arm.
        out: the file that its ``lean_teacher`` names.
        seed: of the run.
    """
    cfg = Config.fromfile(config)
    cfg.model.lean_teacher = None
    cfg.work_dir = str(out.with_suffix(''))
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    runner = ExactRunner.from_cfg(cfg)
    loader = runner.train_loop.dataloader
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner._init_model_weights()
    pair = unwrapped(runner.model).train()
    form = None
    for _, batch in zip(range(PATIENCE), loader, strict=False):
        with runner.optim_wrapper.optim_context(runner.model):
            form, table = choose_form(pair, batch, runner.max_iters)
        if form is not None:
            print_log(f'{table}\nOne form for all arms and seeds: {form}', 'current')
            break
    write_atomic(out, json.dumps(form or EXACT).encode())


if __name__ == '__main__':
    choose_teacher(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
