"""What has been labelled so far, kept so that an interrupted labelling goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmkd.fileio.atomic_writes import write_atomic


class ProgressFile:
    """A line for each image that was looked at, beside the file that is to be.

    Args:
        out: the file that is to be.
        told: what decides the results: another detector's must not be mixed in.
        anew: whether what is there is thrown away.

    Raises:
        FileExistsError: it holds the work of another detector.
    """

    def __init__(self, out: Path, told: Mapping[str, Any], anew: bool = False) -> None:
        self.path = out.with_name(f'{out.name}.part')
        self._told = json.dumps(told, sort_keys=True)
        self.lines: dict[str, dict[str, Any]] = {}
        if self.path.exists() and not anew:
            self._read()
        whole = [self._told, *map(json.dumps, self.lines.values())]
        # without a torn last line
        write_atomic(self.path, ''.join(f'{line}\n' for line in whole).encode())
        self._file = self.path.open('a')

    def _read(self) -> None:
        first, *rest = self.path.read_text().split('\n')
        if first != self._told:
            raise FileExistsError(
                f'"{self.path}" holds the labels of another detector, or of other options '
                f'({first[:200]}), which must not be mixed with these ({self._told[:200]}). Go on '
                'with that one, name another --out, or throw its work away: --force.'
            )
        for line in rest:
            try:
                found = json.loads(line)
            except ValueError:  # torn: the process was killed while it wrote
                continue
            self.lines[found['image']['file_name']] = found

    def add(self, image: Mapping[str, Any], results: list[dict[str, Any]]) -> None:
        """Keep what was found in an image."""
        line = dict(image=dict(image), results=results)
        self.lines[image['file_name']] = line
        self._file.write(f'{json.dumps(line, allow_nan=False)}\n')
        self._file.flush()

    def close(self) -> None:
        """Let the file be; :meth:`remove` takes it away."""
        self._file.close()

    def remove(self) -> None:
        """The work is done."""
        self.close()
        self.path.unlink(missing_ok=True)
