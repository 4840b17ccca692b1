"""Slots of equal size in files: random access, each slot with its checksum."""

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd.cache.key import digest
from mmkd.fileio.atomic_writes import write_atomic

_HEADER = struct.Struct('<II')  # checksum of the rest, fingerprint of the view
_FILE_BYTES = 2**28
_INDEX = {'key', 'views', 'seed', 'fields', 'complete'}


class Store:
    """``count`` slots of ``nbytes`` and a header of 8 bytes, in files of at most 256 MiB.

    A slot's checksum covers its number and the key of the cache, so neither half a write nor a
    file of another cache passes for a record. Processes may write different slots side by side.

    Args:
        folder: where the files are.
        nbytes: of a record.
        count: number of slots.
        key: what the records depend on.
    """

    def __init__(self, folder: str | Path, nbytes: int, count: int, key: Any) -> None:
        self.folder, self.count = Path(folder), count
        self.slot_bytes = _HEADER.size + nbytes
        self.slots_per_file = max(1, _FILE_BYTES // self.slot_bytes)
        self._seed = zlib.crc32(digest(key).encode())
        self._files: dict[tuple[int, int], int] = {}

    def write(self, slot: int, fingerprint: int, record: NDArray[Any]) -> None:
        """Write ``record`` (nbytes,), uint8, and the fingerprint of the view it belongs to."""
        body = struct.pack('<I', fingerprint) + record.tobytes()
        data = struct.pack('<I', self._checksum(slot, body)) + body
        file, offset = self._place(slot, os.O_RDWR | os.O_CREAT)
        if os.pwrite(file, data, offset) != len(data):
            raise OSError(f'a record must be written whole, but {self.folder} is full. Make room.')

    def read(self, slot: int) -> tuple[int, NDArray[Any]] | None:
        """The fingerprint and the record (nbytes,), uint8; None if it is missing or torn."""
        try:
            file, offset = self._place(slot, os.O_RDONLY)
        except FileNotFoundError:
            return None
        data = os.pread(file, self.slot_bytes, offset)
        if len(data) != self.slot_bytes:
            return None
        checksum, fingerprint = _HEADER.unpack_from(data)
        if checksum != self._checksum(slot, memoryview(data)[4:]):
            return None
        return fingerprint, np.frombuffer(data, np.uint8, offset=_HEADER.size)

    def missing(self) -> list[int]:
        """The slots without a whole record."""
        return [slot for slot in range(self.count) if self.read(slot) is None]

    def _checksum(self, slot: int, body: bytes | memoryview) -> int:
        return zlib.crc32(body, zlib.crc32(struct.pack('<Q', slot), self._seed))

    def _place(self, slot: int, flags: int) -> tuple[int, int]:
        number, place = divmod(slot, self.slots_per_file)
        if (number, flags) not in self._files:
            path = self.folder / f'views_{number:05d}.bin'
            self._files[number, flags] = os.open(path, flags, 0o644)
        return self._files[number, flags], place * self.slot_bytes

    def close(self) -> None:
        """Close the files; they open again where needed."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_files': {}}  # a data loader's worker opens its own


def write_index(folder: str | Path, index: dict[str, Any]) -> None:
    """Write ``cache.json``, whole or not at all."""
    write_atomic(Path(folder, 'cache.json'), json.dumps(index, indent=1).encode())


def read_index(folder: str | Path) -> dict[str, Any]:
    """Read ``cache.json``: key, views, seed, fields, and whether the cache is complete.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another kind.
    """
    path = Path(folder, 'cache.json')
    if not path.is_file():
        raise FileNotFoundError(
            f'teacher_cache must be the folder of a cache, but there is no {path}. Fill it: '
            'mmkd cache CONFIG --views V.'
        )
    try:
        index = json.loads(path.read_text())
        lacking = _INDEX - index.keys()
    except (ValueError, AttributeError) as error:
        raise ValueError(f'{path} must be JSON that "mmkd cache" wrote: {error}') from error
    if lacking:
        raise ValueError(
            f'{path} must be as "mmkd cache" wrote it, but lacks '
            f'{", ".join(sorted(lacking))}. Fill another cache.'
        )
    return index
