"""The zip archives that ``torch.save`` writes, read without ``torch.load``."""

import stat
import zipfile
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from mmkd.checkpoints.foreign import describe_foreign
from mmkd.checkpoints.ultralytics.errors import CheckpointError
from mmkd.checkpoints.ultralytics.inert_objects import StorageRef, TensorRef

_ZIP_MAGIC = b'PK\x03\x04'
# torch.save's first bytes before it wrote zip archives (torch < 1.6).
_LEGACY_MAGIC = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'
# YOLOv5x's pickle takes 0.3 MB; a pickle of this size is something else.
_MAX_PICKLE_BYTES = 1 << 26


class TorchArchive:
    """One open file. Bytes are read when asked for, and never more than the file holds.

    Args:
        path: A file that ``torch.save`` (torch >= 1.6) wrote.

    Raises:
        CheckpointError: It is no such file, is damaged, or claims more than it holds.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
                raise OSError(0, 'it is no regular file')
            self._bytes_left = status.st_size
            with self.path.open('rb') as file:
                head = file.read(len(_LEGACY_MAGIC))
        except OSError as error:
            raise CheckpointError(f'{self.path}: cannot be opened ({error.strerror})') from error
        if head == _LEGACY_MAGIC:
            raise CheckpointError(
                f"{self.path}: a checkpoint must be in torch's zip format, got the format from "
                'before torch 1.6; load it in the program that wrote it and save it again'
            )
        if not head.startswith(_ZIP_MAGIC):
            raise CheckpointError(
                f"{self.path}: a checkpoint must be a file in torch's zip format, but is "
                f'{describe_foreign(self.path)}'
            )
        try:
            self._zip = zipfile.ZipFile(self.path)
        except Exception as error:
            raise self._damaged(error) from error
        self._storages: dict[str, Tensor] = {}
        pickles = [name for name in self._zip.namelist() if name.endswith('/data.pkl')]
        if len(pickles) != 1:
            self._zip.close()
            raise CheckpointError(
                f'{self.path}: a checkpoint must hold one data.pkl, got {len(pickles)}'
            )
        self._root = pickles[0].removesuffix('data.pkl')
        # Files from before torch 2.1 do not say; they are little-endian in practice.
        order = self._read('byteorder', 16) if self._has('byteorder') else b'little'
        if order != b'little':
            self._zip.close()
            raise CheckpointError(
                f'{self.path}: weights must be little-endian, got {order!r}; save them again on '
                'an ordinary machine'
            )

    def __enter__(self) -> 'TorchArchive':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def pickle(self) -> bytes:
        """The pickle that describes the archive's objects."""
        return self._read('data.pkl', _MAX_PICKLE_BYTES)

    def tensor(self, ref: TensorRef) -> Tensor:
        """The tensor that a pickle's reference stands for, in the file's own dtype.

        The view is checked against its storage, which is checked against the file: so the memory
        taken is bounded by the size of the file, whatever the pickle claims.
        """
        storage = self._storage(ref.storage)
        numel = 1
        last = ref.offset
        for size, stride in zip(ref.size, ref.stride, strict=True):
            numel *= size
            last += max(size - 1, 0) * stride
        if numel > len(storage) or (numel and last >= len(storage)):
            raise CheckpointError(
                f'{self.path}: a tensor must lie inside its storage of {len(storage)} elements, '
                f'got shape {ref.size} from element {ref.offset}'
            )
        return storage.as_strided(ref.size, ref.stride, ref.offset)

    def _storage(self, ref: StorageRef) -> Tensor:
        if ref.key not in self._storages:
            data = self._read(f'data/{ref.key}', ref.numel * ref.dtype.itemsize)
            if len(data) % ref.dtype.itemsize:
                raise CheckpointError(
                    f'{self.path}: storage {ref.key!r} must hold whole elements of {ref.dtype}, '
                    f'got {len(data)} bytes'
                )
            # bytearray: a tensor on read-only memory draws a warning from torch.
            empty = torch.empty(0, dtype=ref.dtype)
            storage = torch.frombuffer(bytearray(data), dtype=ref.dtype) if data else empty
            self._storages[ref.key] = storage
        storage = self._storages[ref.key]
        if storage.dtype != ref.dtype or len(storage) != ref.numel:
            raise CheckpointError(
                f'{self.path}: storage {ref.key!r} holds {len(storage)} elements of '
                f'{storage.dtype}, but the pickle claims {ref.numel} of {ref.dtype}'
            )
        return storage

    def _has(self, name: str) -> bool:
        return self._root + name in self._zip.NameToInfo

    def _read(self, name: str, limit: int) -> bytes:
        if not self._has(name):
            raise CheckpointError(f'{self.path}: the archive holds no {name!r}')
        info = self._zip.getinfo(self._root + name)
        # torch.save never compresses, so a compressed entry can only be a zip bomb or another
        # program's; and what is stored plainly cannot be larger than the file. Entries that
        # overlap would break that bound, hence the running account.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise CheckpointError(
                f'{self.path}: entry {name!r} must be stored, got a compressed one'
            )
        if info.file_size > limit or info.file_size > self._bytes_left:
            raise CheckpointError(
                f'{self.path}: entry {name!r} must take {limit} bytes or less, within the file, '
                f'got a claim of {info.file_size}'
            )
        self._bytes_left -= info.file_size
        try:
            return self._zip.read(info)
        except Exception as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> CheckpointError:
        # zipfile raises BadZipFile, EOFError, OSError, ValueError, NotImplementedError, ... here.
        return CheckpointError(
            f'{self.path}: the zip archive is damaged or cut short ({error!s:.200}); '
            'fetch or copy the file again'
        )
