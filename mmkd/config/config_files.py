"""The files that a config is made of."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config


def config_files(config: Any) -> list[Path]:
    """A config's file and those of its bases; none of a shipped name or a config without a file.

    Args:
        config: a path, a config that was read, or None.
    """
    name = config.filename if isinstance(config, Config) else config
    found = [Path(name)] if isinstance(name, str | os.PathLike) and Path(name).is_file() else []
    for path in found:
        bases: Any = []
        with suppress(Exception):  # what is no config is told by what reads it
            bases = Config._get_base_files(str(path))
        for base in bases:
            file = path.parent / str(base).replace('{{ fileDirname }}', '.')
            if file.is_file() and file not in found:
                found.append(file)
    return found
