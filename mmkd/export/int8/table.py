"""What a file costs and finds, in each precision."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mmkd.config.names import first_of
from mmkd.export.parity import Parity
from mmkd_onnx import load

_ROUNDS, _SECONDS = 31, 6.0  # of timing; at least three rounds


@dataclass
class Line:
    """A file of the table.

    Args:
        precision: 'float32', 'float16' or 'int8'.
        points: its mAP, 0 to 100; None if it was not measured.
        size: in bytes.
        ms: for one image by one thread, the median.
        note: why it is not there.
    """

    precision: str
    points: float | None = None
    size: int | None = None
    ms: float | None = None
    note: str = ''


@dataclass
class Int8Parity(Parity):
    """The steps of an INT8 file, with the table of all precisions.

    Args:
        steps: as of any file.
        table: a line for each precision.
        int8: how many layers are quantised, which are not, and where the ranges are from.
    """

    table: list[Line] = field(default_factory=list)
    int8: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **super().as_dict(),
            'int8': self.int8,
            'table': [asdict(row) for row in self.table],
        }

    def lines(self) -> list[str]:
        """A line for each step, and the table."""
        left_out = self.int8['left_out']
        told = f'{self.int8["quantised"]} layers in INT8, ranges {self.int8["ranges"]}'
        if left_out:
            told += f'; in float32: {first_of(left_out, counted=True)}'
        rows = [f'{"":10} {"mAP":>6} {"MB":>8} {"ms":>8}']
        for row in self.table:
            points = '-' if row.points is None else f'{row.points:.2f}'
            size = '-' if row.size is None else f'{row.size / 1e6:.2f}'
            ms = '-' if row.ms is None else f'{row.ms:.2f}'
            rows.append(f'{row.precision:10} {points:>6} {size:>8} {ms:>8}  {row.note}'.rstrip())
        return [*super().lines(), told, *rows]


def latencies(contents: Mapping[str, bytes], size: tuple[int, int]) -> dict[str, float]:
    """Milliseconds of one thread for one image: medians over rounds in which all take turns."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *size), dtype=np.uint8)
    found: dict[str, list[float]] = {name: [] for name in contents}
    with TemporaryDirectory() as folder:
        detectors = {}
        for name, content in contents.items():
            path = Path(folder) / f'{name}.onnx'
            path.write_bytes(content)
            detectors[name] = load(path, threads=1)
        start = time.perf_counter()
        for turn in range(_ROUNDS):
            for name, detector in detectors.items():
                inputs = pixels.astype(detector.metadata.preprocessing['input'])
                begin = time.thread_time()  # other programs' turns do not count
                detector.raw(inputs)
                found[name].append(1e3 * (time.thread_time() - begin))
            if turn >= 3 and time.perf_counter() - start > _SECONDS:
                break
    return {name: statistics.median(each[1:]) for name, each in found.items()}
