"""What detectors cost, all measured in one run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config

from mmkd.cost.contender import Contender, Opened, Predicting, open_contender
from mmkd.cost.latency import ONNXRUNTIME, Latency, latencies, thread_counts
from mmkd.cost.measured_map import measured_map

ROUNDS = 50
LIMIT = 60.0  # seconds, for each number of threads


@dataclass(frozen=True)
class Cost:
    """What a detector costs.

    Args:
        role: what it is.
        name: the end of its path.
        size: (H, W) of its input.
        parameters: how many; None of an exported file, which does not tell them from constants.
        macs: multiplications with an addition, of one image; None where they were not counted.
        bytes: of its ONNX file, or else of its weights.
        suppresses: whether PyTorch's latency has suppression in it, as of a detector that cannot be
            a graph.
        latencies: by program and threads.
        map: from 0 to 1; None where it is not known.
        notes: what stood in the way of a figure.
    """

    role: str
    name: str
    size: tuple[int, int]
    parameters: int | None
    macs: int | None
    bytes: int
    suppresses: bool
    latencies: tuple[Latency, ...]
    map: float | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; latencies in milliseconds."""
        return {**asdict(self), 'latencies': [one._asdict() for one in self.latencies]}

    def latency(self) -> Latency:
        """That which a reader compares: with one thread, by onnxruntime where it runs there."""
        return min(self.latencies, key=lambda one: (one.threads, one.program != ONNXRUNTIME))


def measure_costs(
    contenders: Sequence[Contender],
    size: tuple[int, int] | None = None,
    rounds: int = ROUNDS,
    limit: float = LIMIT,
    data: Config | None = None,
    images: int | None = 0,
    watch: Callable[[float], object] = lambda share: None,
) -> list[Cost]:
    """Measure detectors side by side, on the CPU.

    Args:
        contenders: the detectors.
        size: (H, W) of their input. Defaults to None: what each one's test pipeline makes.
        rounds: of latencies.
        limit: seconds for the latencies with each number of threads.
        data: a config whose test set the mAP is measured on. Defaults to None: each one's own.
        images: of the test set; None for all. Defaults to 0: the mAP is not measured.
        watch: is told of the share of the rounds that is done, from 0 to 1.

    Raises:
        OSError, ValueError: there is no such file, or no detector in it.
    """
    with TemporaryDirectory() as folder:
        opened = [open_contender(one, Path(folder), size) for one in contenders]
        maps = [_map(one, data, images) for one in opened]
        done, total = 0, len(thread_counts()) * (rounds + 1)

        def count(_: int) -> None:
            nonlocal done
            done += 1
            watch(done / total)

        found = latencies(opened, rounds, limit, count)
    return [
        Cost(
            one.contender.role,
            one.contender.name,
            one.size,
            one.parameters,
            one.macs,
            one.bytes,
            isinstance(one.graph, Predicting),
            tuple(times),
            measured,
            tuple(one.notes),
        )
        for one, times, measured in zip(opened, found, maps, strict=True)
    ]


def _map(one: Opened, data: Config | None, images: int | None) -> float | None:
    if one.contender.map is not None or images == 0:
        return one.contender.map
    found = measured_map(one, data, images)
    if isinstance(found, str):
        one.notes.append(f'mAP was not measured: {found}')
        return None
    return found
