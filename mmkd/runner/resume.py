"""Which checkpoint a run goes on from."""

import logging
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mmkd.checkpoints.detector_checkpoint import read_checkpoint


def prepare_resume(cfg: Config, checkpoint: str = 'auto') -> None:
    """Let a run go on from ``checkpoint``, with the seed that it began with.

    Args:
        cfg: config of the run with its ``work_dir``, changed in place.
        checkpoint: a file, or 'auto': the one that ``last_checkpoint`` names in the work dir; if
            that one is missing or torn, the newest whole one beside it. Without
            ``last_checkpoint`` the run begins anew. Defaults to 'auto'.

    Raises:
        FileNotFoundError, ValueError: the file is missing, is no whole checkpoint or has no
            optimizer state; none of the work dir's is whole.
    """
    if checkpoint == 'auto':
        last = Path(cfg.work_dir, 'last_checkpoint')
        if not last.is_file():
            print_log(f'No {last}: nothing to resume, the run begins anew', 'current')
            cfg.resume = False
            return
        path, loaded = _newest_whole(last)
    else:
        path, loaded = checkpoint, _read(checkpoint)
    cfg.resume, cfg.load_from = True, path
    # Before anything is built: order of the data and random teachers follow from it.
    seed, own = loaded['meta'].get('seed'), cfg.get('randomness', {}).get('seed')
    if own not in (None, seed):
        print_log(
            f'seed {own} of the config is not used: the run began with {seed}',
            'current',
            logging.WARNING,
        )
    cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}


def _newest_whole(last: Path) -> tuple[str, dict[str, Any]]:
    named = Path(last.read_text().strip() or '(nothing)')
    if not named.is_file():  # the run's folder was moved
        named = last.parent / named.name
    others = sorted(named.parent.glob('*.pth'), key=lambda path: -path.stat().st_mtime)
    faults = []
    for path in (named, *others):
        try:
            loaded = _read(str(path))
        except (OSError, ValueError) as error:
            faults.append(f'{path.name}: {error}')
            continue
        if faults:
            print_log(f'Resuming from {path}, since {faults[0]}', 'current', logging.WARNING)
        return str(path), loaded
    raise ValueError(
        f'--resume needs a whole checkpoint, but {last} names {named}, and neither that nor '
        f'another in {named.parent} is one ({faults[0]}). Remove {last} to begin anew.'
    )


def _read(path: str) -> dict[str, Any]:
    checkpoint = read_checkpoint(path, 'the checkpoint to resume from')
    if 'optimizer' not in checkpoint or 'epoch' not in checkpoint['meta']:
        raise ValueError(
            f'the checkpoint to resume from must hold the state of the run (optimizer, epoch), but '
            f'"{path}" holds weights alone. Give epoch_N.pth; to begin anew from weights, set '
            'load_from.'
        )
    return checkpoint
