"""Reading a config file; why one cannot be read is told in one message."""

import os
import traceback
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hub import get_config

from mmkd.config.config_errors import ConfigError, ConfigFileNotFoundError
from mmkd.config.names import nearest


def read_config(
    source: str | Path, what: str = 'the config', options: Mapping[str, Any] | None = None
) -> Config:
    """A config file as mmengine reads it.

    Args:
        source: a path, or ``'mmdet::...'`` for an installed one.
        what: how an error calls it, say a config key.
        options: ``--cfg-options``, merged into it.

    Raises:
        ConfigFileNotFoundError: the file is missing, or one that it builds on.
        ConfigError: it is no config, or ``options`` do not fit it.
    """
    text = os.fspath(source)
    try:
        config = get_config(text) if '::' in text else Config.fromfile(text)
    except FileNotFoundError as error:
        raise ConfigFileNotFoundError(_missing(error, text, what)) from None
    except SyntaxError as error:
        raise ConfigError(
            f'{what} must be written in Python, but {_said(error)} ("{_file(error, text)}", '
            f'line {error.lineno}: {(error.text or "").strip()}). Correct that line.'
        ) from None
    except Exception as error:
        raise ConfigError(
            f'{what} must be a file that mmengine reads as a config, but of {_line(error, text)} '
            f'came {type(error).__name__}: {_said(error)}.'
        ) from error
    try:
        config.merge_from_dict(deepcopy(dict(options or {})))  # merging takes _delete_ out of them
    except Exception as error:
        raise ConfigError(
            f'--cfg-options must fit "{text}", but got {dict(options or {})}, and '
            f'{type(error).__name__} came of it: {_said(error)}.'
        ) from None
    return config


def _missing(error: FileNotFoundError, text: str, what: str) -> str:
    if error.filename is None:  # an installed config, or what a config's own code raised
        return f'{what} must be an existing config file, but got "{text}": {_said(error)}.'
    lost = os.path.normpath(str(error.filename))
    rule = 'must be an existing config file'
    if os.path.exists(text) or '::' in text:
        what, rule = f'{what} "{text}"', 'must build on files that exist'
    return f'{what} {rule}, but there is no "{lost}" (seen from {os.getcwd()}). {_instead_of(lost)}'


def _instead_of(lost: str) -> str:
    folder, name = os.path.split(lost)
    if not os.path.isdir(folder or '.'):
        return f'There is no folder "{folder}" either: correct the path.'
    near = nearest(name, os.listdir(folder or '.'), 1)
    return f'Did you mean "{os.path.join(folder, near[0])}"?' if near else 'Correct the path.'


def _file(error: SyntaxError, text: str) -> str:
    """The file with the syntax error: the config, one that it builds on, or one that it imports."""
    if error.filename and os.path.isfile(error.filename):
        return error.filename
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    named = [frame.f_locals['filename'] for frame in frames if 'filename' in frame.f_locals]
    files = [name for name in named if str(name).endswith('.py') and os.path.isfile(name)]
    return os.path.normpath(files[-1]) if files else text


def _line(error: Exception, text: str) -> str:
    """The line at fault: the last that is code of a config, not of a package's function."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f for f in frames if f.name == '<module>' and 'site-packages' not in f.filename]
    if not lines:
        return f'"{text}"'
    return f'"{os.path.normpath(lines[-1].filename)}", line {lines[-1].lineno},'


def _said(error: Exception) -> str:
    said = ' '.join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return (said if len(said) <= 400 else f'{said[:400]} ...').rstrip('.')
