"""What has been labelled so far, kept so that an interrupted labelling goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmkd.config.names import first_of
from mmkd.fileio.atomic_writes import write_atomic


class ProgressFile:
    """A line for each image that was looked at, beside the file that is to be.

    Args:
        out: the file that is to be.
        told: what decides the results: other work must not be mixed in.
        anew: whether what is there is thrown away.

    Raises:
        FileExistsError: it holds other work.
    """

    def __init__(self, out: Path, told: Mapping[str, Any], anew: bool = False) -> None:
        self.path = part_of(out)
        self._told = json.loads(json.dumps(told, default=str))
        #: By the image's id.
        self.lines: dict[Any, dict[str, Any]] = {}
        self._file: Any = None
        if self.path.exists() and not anew:
            self._read()

    def _read(self) -> None:
        first, *rest = self.path.read_text(encoding='utf-8', errors='replace').split('\n')
        try:
            there = dict(json.loads(first))
        except (TypeError, ValueError):
            there = {}
        if there != self._told:
            keys = {**there, **self._told}
            other = {key: (there.get(key), self._told.get(key)) for key in keys}
            differ = [
                f'{key} ({str(was)[:60]} there, {str(now)[:60]} here)'
                for key, (was, now) in other.items()
                if was != now
            ]
            raise FileExistsError(
                f'"{self.path}" holds the labels of another detector, of other options or other '
                f'images, which must not be mixed with these: they differ in {first_of(differ)}. '
                'Go on as it began, name another --out, or throw its work away: --force.'
            )
        for line in rest:
            try:
                found = json.loads(line)
            except ValueError:  # torn: the process was killed while it wrote
                continue
            self.lines[found['image']['id']] = found

    def begin(self) -> None:
        """Write what is known, without a torn last line, to be gone on with."""
        whole = map(json.dumps, [self._told, *self.lines.values()])
        write_atomic(self.path, ''.join(f'{line}\n' for line in whole).encode())
        self._file = self.path.open('a', encoding='utf-8')

    def keep(self, digests: Mapping[Any, str]) -> None:
        """Forget images that are not what they were: by id their digests now."""
        held = self.lines.items()
        self.lines = {k: v for k, v in held if v['image'].get('sha256') == digests.get(k)}

    def add(self, image: Mapping[str, Any], results: list[dict[str, Any]], **beside: Any) -> None:
        """Keep what was found in an image."""
        line = dict(image=dict(image), results=results, **beside)
        self.lines[image['id']] = line
        self._file.write(f'{json.dumps(line, allow_nan=False)}\n')
        self._file.flush()

    def close(self) -> None:
        """Let the file be; :meth:`remove` takes it away."""
        self._file.close()

    def remove(self) -> None:
        """The work is done."""
        self.close()
        self.path.unlink(missing_ok=True)


def part_of(out: Path) -> Path:
    """Where the work on a file is kept."""
    return out.with_name(f'{out.name}.part')
