"""Pay for the teacher once: keep its records of V augmented views of each image on the disk.

Interrupted, it goes on where it was when called again with the same arguments.
"""

import argparse
from pathlib import Path

from mmkd_cli.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The pair, and what is kept of its teacher."""
    parser.add_argument('config', help='config file of a pair')
    parser.add_argument('--views', type=int, required=True, help='augmented views per image')
    parser.add_argument('--out', help="folder; else the config's model.teacher_cache or work_dirs/")
    parser.add_argument('--seed', type=int, default=0, help='of the views')
    parser.add_argument('--processes', type=int, default=1, help='each runs a teacher of its own')
    parser.add_argument('--batch-size', type=int, default=8)
    parser.add_argument(
        '--dry-run', action='store_true', help='only show what it needs of the disk'
    )
    add_config_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Fill the cache."""
    from logging import WARNING

    from mmengine.logging import print_log

    from mmkd.cache import fill_cache
    from mmkd.datasets.data_checks import check_data

    cfg = config_of(args)
    for note in check_data(cfg, ('train',)):
        print_log(note, 'current', WARNING)
    cache = cfg.model.get('teacher_cache')
    named = cache.get('folder') if isinstance(cache, dict) else cache
    folder = args.out or named or f'work_dirs/{Path(args.config).stem}/teacher_cache'
    fill_cache(cfg, folder, args.views, args.seed, args.processes, args.batch_size, args.dry_run)
