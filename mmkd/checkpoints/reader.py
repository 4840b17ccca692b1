"""The one way in for checkpoint files: found or fetched, named for what they are, read, never run.

Whatever reads weights comes through here: mmkd's own keys and tools, and through
``mmkd.compat.checkpoints.read_without_running`` all that mmengine loads (``load_from``, ``resume``,
``init_cfg=dict(type='Pretrained')``).
"""

import functools
import logging
import os
import re
import stat
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from mmkd.checkpoints.fetch import fetch, hash_in, is_address, sha256_of
from mmkd.checkpoints.foreign import describe_foreign, family_of, is_zip, root_of, shown, shown_path
from mmkd.checkpoints.ultralytics.errors import CheckpointError, EndlessError
from mmkd.checkpoints.ultralytics.inert_pickle import storages_of
from mmkd.checkpoints.ultralytics.opcodes import names_in
from mmkd.checkpoints.ultralytics.yolov5_file import is_yolov5_file, read_yolov5_file

_IRREGULAR = (
    (stat.S_ISDIR, 'a folder'),
    (stat.S_ISFIFO, 'a pipe'),
    (stat.S_ISSOCK, 'a socket'),
    (stat.S_ISCHR, 'a device'),
    (stat.S_ISBLK, 'a device'),
)


def find_checkpoint(address: str | Path, what: str = 'the checkpoint') -> Path:
    """The file at a path or an address, fetched into torch's cache where it is not there yet.

    Args:
        address: a path, or an address that mmengine knows (``https://``, ``torchvision://``, ...).
        what: how an error calls it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is a folder, a pipe or a device; it cannot be fetched, or what was
            fetched is no checkpoint.
    """
    if not isinstance(address, str | os.PathLike):
        raise CheckpointError(
            f'{what} must be a path or a URL, but got {shown(address, 80)} '
            f'({type(address).__name__}). Give the name of a file, in quotes.'
        )
    text = os.fspath(address)
    if is_address(text):
        return fetch(text, what, functools.partial(_check, what=what))
    path = Path(text).expanduser()
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f'{what} must be an existing file or a URL, but there is no file "{shown_path(text)}" '
            f'(seen from {os.getcwd()}). Train or download it first, or correct the path.'
        ) from error
    for test, name in _IRREGULAR:
        if test(mode):
            raise CheckpointError(
                f'{what} must be a regular file, but "{shown_path(text)}" is {name}. Give the path '
                'of the checkpoint itself.'
            )
    _warn_of_another_hash(path, path.stat().st_mtime_ns)
    return path


def read_file(path: Path, what: str = 'the checkpoint', map_location: Any = 'cpu') -> Any:
    """What an mmdet checkpoint holds: tensors, plain containers, mmengine's log; nothing is run.

    Args:
        path: as :func:`find_checkpoint` returns it.
        what: how an error calls it.
        map_location: as in :func:`torch.load`.

    Raises:
        CheckpointError: the file is something else, is damaged, or asks for what must be run.
    """
    foreign = describe_foreign(path)
    if foreign is None and is_yolov5_file(path):
        foreign = (
            'an Ultralytics YOLOv5 file, which only teacher_ckpt and student_ckpt take as it is '
            '(convert it with "mmkd convert")'
        )
    if foreign is not None:
        raise CheckpointError(
            f'{what} must be a checkpoint that mmdet can load, but "{shown_path(path)}" is '
            f'{foreign}. Give a .pth file that mmdet, mmengine or torch.save (of a state_dict) '
            'wrote.'
        )
    _check_storages(path, what)
    try:
        # An open file, not the path: its ending must not decide. Its warnings are about torch.
        with path.open('rb') as file, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:
        raise CheckpointError(_refusal(path, what, error)) from error


def read_anything(
    address: str | Path, what: str = 'the checkpoint', map_location: Any = 'cpu'
) -> Any:
    """:func:`read_file` of what :func:`find_checkpoint` finds."""
    return read_file(find_checkpoint(address, what), what, map_location)


def _check(path: Path, what: str) -> None:
    """Reads a file that was just fetched, so that only a sound one enters the cache."""
    if describe_foreign(path) is None and is_yolov5_file(path):
        read_yolov5_file(path)
    else:
        read_file(path, what)


def _check_storages(path: Path, what: str) -> None:
    # Older torch reads beyond the end of a storage that is smaller than its pickle says.
    if not is_zip(path):
        return
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    try:
        root, claims = root_of(sizes), storages_of(_pickle_of(path))
    except EndlessError as error:
        raise CheckpointError(
            f'{what} must be a checkpoint that mmdet wrote, but "{shown_path(path)}" is none: '
            f'{error}.'
        ) from error
    for claim in claims:
        size = sizes.get(f'{root}data/{claim.key}', 0)
        if size % claim.dtype.itemsize or size < claim.numel * claim.dtype.itemsize:
            raise CheckpointError(
                f'{what} must hold all of its weights, but in "{shown_path(path)}" the storage '
                f'{shown(claim.key, 40)!r} has {size} bytes for {claim.numel} elements of '
                f'{claim.dtype}. Fetch or copy the file again.'
            )


def _refusal(path: Path, what: str, error: Exception) -> str:
    """Why torch did not read a file, without its advice to read it unsafely."""
    # torch wraps the reason in its advice, and keeps the plain one as context.
    reason = str(error.__context__ or error)
    asked = re.search(r'GLOBAL ([\w.]+)', reason) or re.search(r'received .*?(\w+\.\w+)', reason)
    name = shown(asked[1], 100) if asked else ''
    family = family_of([*names_in(_pickle_of(path)), name])
    if family or name:
        found = f'is {family}' if family else f'asks for {name}'
        detail = f' (it asks for {name})' if family and name else ''
        return (
            f'{what} must be a checkpoint of tensors and plain values, but "{shown_path(path)}" '
            f'{found}{detail}. Nothing of it was run. Give a checkpoint that mmdet wrote, or save '
            "the network's state_dict with the program that wrote the file, if you trust it."
        )
    reason = shown(re.split(r'[.\n] |\n|Please|`', reason)[0], 160)
    return (
        f'{what} must be a checkpoint that PyTorch can read, but "{shown_path(path)}" is not '
        f'({type(error).__name__}: {reason}). Is the file complete?'
    )


def _pickle_of(path: Path) -> bytes:
    """The pickle in one of torch's zip archives, or nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(root_of(archive.namelist()) + 'data.pkl')
    except Exception:  # damaged in any way: torch, which reads it next, says what is wrong
        return b''


@functools.lru_cache
def _warn_of_another_hash(path: Path, _: int) -> None:
    expected = hash_in(path.name)
    if expected is None or not path.stat().st_size:
        return
    actual = sha256_of(path)
    if not actual.startswith(expected):
        print_log(
            f'"{shown_path(path)}" is named after the SHA-256 {expected}..., but has '
            f'{actual[: len(expected)]}...: it was changed, damaged or saved anew. Fetch it again '
            'unless you saved it.',
            'current',
            logging.WARNING,
        )
