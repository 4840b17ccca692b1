"""Checkpoints by address: fetched whole into torch's cache, checked, and only then read.

mmengine's own loaders unpickle what they fetch; here an address becomes a file on the disk, by the
same names and backends, and nothing else.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import torch
from filelock import FileLock
from mmengine.logging import print_log

from mmkd.checkpoints.download import cannot_fetch, download
from mmkd.checkpoints.foreign import shown, shown_path
from mmkd.checkpoints.ultralytics.errors import CheckpointError
from mmkd.config.names import nearest
from mmkd.fileio.atomic_writes import atomic_file, remove_partial

_CHUNK = 1 << 20
# "open-mmlab:s3://..." is an address of mmengine's, too.
_ADDRESS = re.compile(r'[a-zA-Z][\w+.-]*(:[a-zA-Z][\w+.-]*)?://')
_CEPH = re.compile(r'(\S+:)?(s3|petrel)://')
# As torch.hub names its files: the first eight or more digits of the SHA-256.
_HASH = re.compile(r'-([0-9a-f]{8,64})(\.[A-Za-z]+){1,2}')
_DATE = re.compile(r'(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])')


def is_address(text: str) -> bool:
    """Whether ``text`` is an address (``scheme://...``) and no path."""
    return _ADDRESS.match(text) is not None or bool(
        re.match('file:', text) and not os.path.exists(text)
    )


def hash_in(name: str) -> str | None:
    """The digits of the SHA-256 in a file's name such as ``yolox_s_20211121-4592a793.pth``.

    A date is none: ``rtmdet-20220610.pth``.
    """
    found = _HASH.search(name)
    if found is None or found.end() != len(name) or _DATE.fullmatch(found[1]):
        return None
    return found[1]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fetch(address: str, what: str, check: Callable[[Path], Any]) -> Path:
    """The file at ``address``, in the cache of :mod:`torch.hub`.

    Processes that want the same file wait for the one that fetches it.

    Args:
        address: ``http(s)://``, ``torchvision://``, ``modelzoo://``, ``open(-)mmlab://``,
            ``mmcls://``, ``s3://``, ``petrel://`` or ``pavi://``.
        what: how an error calls it.
        check: is given the file before it enters the cache, and raises where it is of no use.

    Raises:
        CheckpointError: the address is of another kind, or leads nowhere; the download is torn,
            too slow or too large; the file's hash is not the one in its name; ``check`` failed.
            The cache is as it was.
    """
    try:
        urlsplit(address)
    except ValueError as error:
        raise cannot_fetch(what, address, shown(error)) from error
    found = _resolve(address, what)
    if isinstance(found, Path):
        return found
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    name = _file_name(found)
    remote = urlsplit(found).scheme in ('http', 'https')
    if hash_in(name) is None:  # a name that others may have, too: best.pt
        if remote and (folder / name).is_file():
            print_log(
                f'{what}: "{shown_path(folder / name)}" is taken for {shown_path(address)}, by its '
                'name alone; remove it to fetch the file anew',
                'current',
                logging.WARNING,
            )
            return folder / name
        folder = folder / hashlib.sha256(found.encode()).hexdigest()[:16]
    target = folder / name
    if remote and _is_cached(target, what, address):
        return target
    try:
        with _alone(target):
            if not (remote and _is_cached(target, what, address)):
                _bring(found, target, what, address, check)
    except OSError as error:
        raise CheckpointError(
            f'{what} could not be fetched: "{shown_path(address)}" to "{shown_path(target)}" '
            f'({shown(error)}). Set TORCH_HOME to a folder with room that can be written, or fetch '
            'the file by other means and give its path.'
        ) from error
    return target


def _resolve(address: str, what: str) -> str | Path:
    """What an address stands for: one that can be fetched, or a file of mmengine's home."""
    from mmengine.runner import checkpoint as zoo

    scheme = address.split(':')[0].lower()
    if scheme in ('http', 'https', 'pavi') or _CEPH.match(address):
        return address
    name = address.partition('://')[2]
    if scheme in ('torchvision', 'modelzoo'):
        try:
            return _look_up(name, zoo.get_torchvision_models(), address, what)
        except ImportError as error:
            raise cannot_fetch(
                what, address, f'its addresses are in torchvision, and {error}'
            ) from error
    if scheme == 'mmcls':
        return _look_up(name, zoo.get_mmcls_models(), address, what)
    if scheme in ('open-mmlab', 'openmmlab'):
        name = zoo.get_deprecated_model_names().get(name, name)
        found = _look_up(name, zoo.get_external_models(), address, what)
        if is_address(found):
            return _resolve(found, what)
        path = Path(zoo._get_mmengine_home(), found)
        if not path.is_file():
            raise FileNotFoundError(
                f'{what}: "{shown_path(address)}" stands for the file "{shown_path(path)}", which '
                'does not exist. Put it there, or give the path of another.'
            )
        return path
    remedy = 'Give the path itself' if scheme == 'file' else 'Give a path or another address'
    raise CheckpointError(
        f'{what} must be a path or an address of http, https, torchvision, open-mmlab, mmcls, s3, '
        f'petrel or pavi, but got "{shown_path(address)}". {remedy}.'
    )


def _look_up(name: str, addresses: dict[str, str], address: str, what: str) -> str:
    if name not in addresses:
        near = nearest(name, addresses, cutoff=0.6)
        raise CheckpointError(
            f'{what} must be a known name, but "{shown_path(address)}" is none'
            + (f'. Near it are {", ".join(near)}.' if near else '. Give a path or a URL.')
        )
    return addresses[name]


def _file_name(address: str) -> str:
    # As torch.hub does, so that the cache is shared; but no name leads out of the folder.
    name = os.path.basename(urlsplit(address).path)
    return re.sub(r'[^\w.+%=@-]', '_', name).lstrip('.')[-180:] or 'checkpoint'


def _is_cached(target: Path, what: str, address: str) -> bool:
    if not target.is_file():
        return False
    if not _fits_its_name(target, target.name):
        raise CheckpointError(
            f'{what}: "{shown_path(target)}" is named after the SHA-256 {hash_in(target.name)}..., '
            f'but has {sha256_of(target)[:8]}...: it is damaged or another file. Remove it to '
            f'fetch "{shown_path(address)}" anew, or give its path.'
        )
    return True


def _fits_its_name(path: Path, name: str) -> bool:
    expected = hash_in(name)
    return expected is None or sha256_of(path).startswith(expected)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """No other process fetches ``target`` meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path = target.with_name(f'.{target.name}.lock')
    lock = FileLock(path)
    # Some network file systems have no locks: then each fetches, and the last file stays.
    with suppress(NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
        path.unlink(missing_ok=True)
        with suppress(OSError):
            target.parent.rmdir()  # where nothing came of it


def _bring(found: str, target: Path, what: str, address: str, check: Callable[[Path], Any]) -> None:
    remove_partial(target.parent, older_than=3600)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(target) as file:
        partial = Path(file.name)
        try:
            if urlsplit(found).scheme in ('http', 'https'):
                download(found, file, what, target.parent)
            else:
                _copy_from_store(found, file, partial, what)
            file.flush()
            if not _fits_its_name(partial, target.name):
                raise cannot_fetch(
                    what,
                    address,
                    f'its name promises the SHA-256 {hash_in(target.name)}..., but what came has '
                    f'{sha256_of(partial)[:8]}...',
                    'Try again; if the name is no hash, fetch it by other means and give its path',
                )
            check(partial)
        except CheckpointError as error:
            text = str(error).replace(shown_path(partial), shown_path(address))
            raise CheckpointError(text) from error


def _copy_from_store(address: str, file: BinaryIO, path: Path, what: str) -> None:
    from mmengine.runner import checkpoint as zoo

    try:
        if address.startswith('pavi://'):
            from pavi import modelcloud

            modelcloud.get(address.removeprefix('pavi://')).download(str(path))
        else:
            store = zoo.get_file_backend(address, backend_args={'backend': 'petrel'})
            file.write(store.get(address))
    except Exception as error:  # whatever the client of the store raises
        raise cannot_fetch(what, address, f'{type(error).__name__}: {shown(error)}') from error
