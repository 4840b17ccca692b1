"""The files of a folder."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path


def files_below(
    folder: str | Path, endings: Collection[str], left_out: Collection[str] = ()
) -> Iterator[str]:
    """The files in a folder and below it, also behind links, in order; hidden ones are left out.

    Those of a folder come before those of its subfolders. A link to a folder in which it lies ends
    there.

    Args:
        folder: seen from it, or absolute, as the paths are to be.
        endings: of the files, in lower case, such as ``.jpg``.
        left_out: real paths of folders below that are left out.
    """
    return _below(str(folder), endings, {*left_out, os.path.realpath(folder)})


def _below(folder: str, endings: Collection[str], closed: set[str]) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(
                (entry for entry in found if not entry.name.startswith('.')), key=lambda e: e.name
            )
    except OSError:  # as os.walk does: what may not be read has no files
        return
    folders = [entry.path for entry in entries if entry.is_dir()]
    for entry in entries:
        if os.path.splitext(entry.name)[1].lower() in endings and not entry.is_dir():
            yield entry.path
    for path in folders:
        real = os.path.realpath(path)
        if real not in closed:
            yield from _below(path, endings, closed | {real})
