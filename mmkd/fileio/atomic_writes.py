"""Files and folders that appear whole or not at all, whatever ends the process."""

import io
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: What the name of an unfinished file ends with; a killed process leaves one behind.
PARTIAL = '.partial'


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A new file beside ``path`` to write to, which takes its place when the block ends.

    Where the block raises, ``path`` is as it was. The folder must exist. The name of the file is
    ``.name`` of what is yielded, for a check of what was written before it takes the place.
    """
    path = Path(path)
    partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}{PARTIAL}')
    try:
        with partial.open('xb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if hasattr(os, 'O_DIRECTORY'):
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the new name itself
        finally:
            os.close(folder)


def put_in_place(partial: Path, path: Path) -> None:
    """Let a finished file, written beside ``path`` by other means, take its place."""
    os.replace(partial, path)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` appears whole or not at all, also after a power cut.

    Raises:
        OSError: the disk is full, or the folder is closed to us; ``path`` is as it was.
    """
    path = Path(os.path.realpath(path))  # through a link, as a plain write would
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a device or a pipe
        path.write_bytes(data)
        return
    try:
        with atomic_file(path) as file:
            file.write(data)
    except OSError as error:
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            error.errno,
            f'a file must be written whole, but "{path}" ({len(data) / 1e6:.1f} MB) could not be: '
            f'{error.strerror}, with {free / 1e6:.1f} MB free there. Earlier files are intact. '
            'Make room or open the folder, and go on with --resume.',
        ) from error


@contextmanager
def open_atomic(path: str | Path, mode: str = 'w') -> Iterator[io.StringIO]:
    """Like ``open(path, 'w')``, but the text reaches ``path`` at the end and whole."""
    text = io.StringIO()
    yield text
    write_atomic(path, text.getvalue().encode())


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A new folder beside ``path`` to fill, which takes its place when the block ends.

    Where the block raises, ``path`` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f'.{path.name}-', dir=path.parent))
    try:
        new = scratch / 'new'
        new.mkdir()
        yield new
        if path.exists():
            path.rename(scratch / 'old')
        new.rename(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_partial(folder: str | Path, older_than: float = 0.0) -> None:
    """Remove what a process that was killed while writing left in ``folder``.

    Args:
        folder: is looked into, not below.
        older_than: seconds; younger files may be another process's that still writes. Defaults to
            0, all.
    """
    for partial in Path(folder).glob(f'.*{PARTIAL}'):
        with suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime >= older_than:
                partial.unlink()
