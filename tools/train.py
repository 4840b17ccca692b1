"""Train a config: a distillation pair, or a detector on its own."""

import argparse
import os
import sys
from pathlib import Path

from mmengine.config import Config, DictAction

from mmkd.cache import draw_cached_views
from mmkd.config.config_errors import ConfigError, config_errors, message_first
from mmkd.config.pair_config import is_distillation
from mmkd.config.read_config import read_config
from mmkd.datasets.data_checks import check_data
from mmkd.rules.schedule import check_schedule
from mmkd.runner.amp import use_amp
from mmkd.runner.exact_runner import ExactRunner
from mmkd.runner.launch import prepare_launch
from mmkd.runner.resume import prepare_resume


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 without'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, or without a value from the latest in the work dir',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='key=value, into the config'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes it; the environment is what counts
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    sys.excepthook = message_first
    cfg = read_config(args.config, options=args.cfg_options)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
            raise SystemExit(
                f'--auto-scale-lr needs auto_scale_lr.base_batch_size, which {args.config} lacks. '
                'Add auto_scale_lr = dict(base_batch_size=...) to the config.'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        prepare_resume(cfg, args.resume)
    train(cfg, args.launcher)


def train(cfg: Config, launcher: str = 'none') -> None:
    """Train ``cfg``; an error names its key."""
    with config_errors(cfg):
        hooks = dict(non_finite=dict(type='NonFiniteHook'))
        if is_distillation(cfg):
            hooks['pair_report'] = dict(type='PairReportHook')
            hooks['export_student'] = dict(type='ExportStudentHook')
        cfg.default_hooks = {**hooks, **(cfg.get('default_hooks') or {})}
        prepare_launch(cfg, launcher)
        notes = check_data(cfg, ('train', 'val')) + check_schedule(cfg)
        runner = ExactRunner.from_cfg(cfg)
        draw_cached_views(runner)
        for note in notes:
            runner.logger.warning(note)
        runner.train()
    if runner.iter == 0:
        raise ConfigError(
            'train_cfg and train_dataloader must make at least one iteration, but there was none: '
            'is max_epochs or max_iters 0, or the data set smaller than a batch with drop_last?'
        )


if __name__ == '__main__':
    main()
