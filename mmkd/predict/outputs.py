"""Where results go: checked before work starts, written whole or not at all."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
from numpy.typing import NDArray

from mmkd.config.names import first_of
from mmkd.fileio.atomic_writes import PARTIAL, put_in_place, write_atomic
from mmkd.fileio.check_not_read import check_not_read
from mmkd.predict.frames import Frame
from mmkd.predict.sources import Source

#: Endings of images that hold three channels of 8 bits and that OpenCV writes everywhere.
_DRAWN = ('.jpg', '.jpeg', '.jpe', '.png', '.bmp', '.dib', '.tif', '.tiff', '.webp')

#: The one kind of video that OpenCV writes wherever it is installed from a package.
_VIDEO = '.mp4'


def drawn_file(out: Path, source: Source) -> Path:
    """The file that a source is drawn into: its own name, with an ending that can be written."""
    if source.kind == 'image':
        suffix = '' if source.name.lower().endswith(_DRAWN) else '.png'
    else:
        suffix = '' if source.name.lower().endswith(_VIDEO) else _VIDEO
    return out / (source.name + suffix)


def check_outputs(files: Sequence[Path], inputs: Iterable[str | Path], overwrite: bool) -> None:
    """Check that files can be written, and make their folders.

    Args:
        files: to be written.
        inputs: files that are read.
        overwrite: whether files that exist may be replaced, though never what is read.

    Raises:
        FileExistsError: one is there already, or is read.
        NotADirectoryError, PermissionError: one cannot be written.
    """
    twice = [path for path, count in Counter(files).items() if count > 1]
    if twice:
        raise FileExistsError(
            f'each result must have a name of its own, but two would be "{twice[0]}". Take '
            'them one by one.'
        )
    check_not_read(files, inputs)
    there = [path for path in files if os.path.lexists(path)]
    folders = [path for path in there if path.is_dir()]
    if folders or (there and not overwrite):
        faults, why = (folders, 'is a folder') if folders else (there, 'exists')
        remedy = 'Name another place' + ('' if folders else ', or allow it (--force)')
        raise FileExistsError(
            'results must not replace what is there, but of the files to be written '
            f'{first_of(faults, 3, counted=True)} {why}. {remedy}.'
        )
    for folder in sorted({path.absolute().parent for path in files}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NotADirectoryError(
                f'results must go into a folder, but "{folder}" lies in a file or is one. Name '
                'another place.'
            ) from None
        if not os.access(folder, os.W_OK):
            raise PermissionError(
                f'results must go into a folder that is open to us, but "{folder}" is not.'
            )


class Drawings:
    """Writes the drawn images of sources that come one after the other; a context manager.

    A video is written beside its place, which it takes when its last frame is in it.

    Args:
        out: the folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._video: _Video | None = None

    def __enter__(self) -> 'Drawings':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.close(keep=error is None)

    def add(self, frame: Frame, image: NDArray[Any]) -> None:
        """Write an image, or the next frame of a video.

        Raises:
            OSError: there is no room, or the file cannot be written.
        """
        target = drawn_file(self.out, frame.source)
        if self._video is not None and self._video.target != target:
            self.__exit__(None, None, None)
        if frame.number is None:
            write_atomic(target, encoded(target.suffix, image))
            return
        if self._video is None:
            self._video = _Video(target, frame.rate, image.shape[1::-1])
        self._video.write(image)


def encoded(suffix: str, image: NDArray[Any]) -> bytes:
    """An image as a file of the kind that an ending names.

    Raises:
        OSError: it cannot be one, as it is too large for it.
    """
    try:
        done, content = cv2.imencode(suffix, image)
    except cv2.error:
        done = False
    if not done:
        raise OSError(f'an image of {image.shape} cannot be written as {suffix}.')
    return content.tobytes()


class _Video:
    def __init__(self, target: Path, rate: float, size: tuple[int, ...]) -> None:
        self.target, self.size = target, size
        self._partial = target.with_name(f'.{target.stem}{PARTIAL}{_VIDEO}')
        code = cv2.VideoWriter.fourcc(*'mp4v')
        self._writer = cv2.VideoWriter(str(self._partial), code, rate, size)
        if not self._writer.isOpened():
            raise OSError(
                f'a video must be written, but OpenCV cannot write "{target}" ({_VIDEO}, mp4v). '
                'Install opencv-python from its package, or predict without --out.'
            )

    def write(self, image: NDArray[Any]) -> None:
        if image.shape[1::-1] != self.size:  # a stream may change
            image = cv2.resize(image, self.size)
        self._writer.write(image)

    def close(self, keep: bool) -> None:
        self._writer.release()
        if keep:
            put_in_place(self._partial, self.target)
        else:
            self._partial.unlink(missing_ok=True)
