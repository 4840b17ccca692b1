"""What is read is never written over, whatever may be replaced."""

import os
from collections.abc import Iterable
from pathlib import Path


def check_not_read(
    files: Iterable[str | os.PathLike[str]], read: Iterable[str | os.PathLike[str] | None]
) -> None:
    """Check that no file that is to be written is one that is read, by whatever name or link.

    Args:
        files: to be written.
        read: files that are read; None and what is no file, such as the name of a model, is none.

    Raises:
        FileExistsError: one is.
    """
    known = {os.path.realpath(path) for path in read if path is not None and os.path.exists(path)}
    for path in files:
        if os.path.realpath(path) in known:
            raise FileExistsError(
                'results must not replace what is there, but of the files to be written '
                f'{Path(path)} is read. Name another place.'
            )
