"""Train a config: a distillation pair, or a detector on its own."""

import argparse
import sys

from mmkd_cli.options import add_config_options, add_epochs, add_launcher, config_of, prepare_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The config, and how it is trained."""
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
    add_epochs(parser)
    add_config_options(parser)
    add_launcher(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train the config."""
    from mmkd.config.config_errors import message_last
    from mmkd.config.scaled_schedule import set_epochs
    from mmkd.runner.amp import use_amp
    from mmkd.runner.resume import prepare_resume
    from mmkd.runner.train import train

    cfg = config_of(args)
    if args.epochs is not None:
        print('\n'.join(set_epochs(cfg, args.epochs)))
    prepare_run(cfg, args)
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
            sys.exit(
                f'--auto-scale-lr needs auto_scale_lr.base_batch_size, which {args.config} lacks. '
                'Add auto_scale_lr = dict(base_batch_size=...) to the config.'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        prepare_resume(cfg, args.resume)
    sys.excepthook = message_last
    train(cfg, args.launcher)
