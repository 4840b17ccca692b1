"""Where the configs and tools lie that come with mmkd, and which of them a name means.

In a wheel they lie in ``mmkd/.mim``, as those of OpenMMLab's packages do; in a clone at its top.
"""

import difflib
from pathlib import Path

PREFIX = 'mmkd::'
_TOP = Path(__file__).resolve().parents[1]


def shipped(path: str) -> Path:
    """A file or folder that comes with mmkd, say ``configs`` or ``tools/train.py``."""
    wheel = _TOP / 'mmkd/.mim'
    return ((wheel if wheel.is_dir() else _TOP) / path).resolve()


def shipped_config(name: str) -> Path:
    """The file that a name like ``mmkd::ssd_kd_vgg_to_mbv2.py`` means; ``.py`` may be left out.

    Raises:
        FileNotFoundError: there is no such config.
    """
    folder = shipped('configs')
    wanted = name.removeprefix(PREFIX).removesuffix('.py') + '.py'
    names = [path.relative_to(folder).as_posix() for path in folder.rglob('*.py')]
    if wanted in names:
        return folder / wanted
    near = difflib.get_close_matches(wanted, names, 1)
    raise FileNotFoundError(
        f'A name after "{PREFIX}" must be that of a config that comes with mmkd, but there is no '
        f'"{wanted}". {f"Did you mean {near[0]}? " if near else ""}"mmkd configs" lists them.'
    )
