"""How long a detector takes for one image, by PyTorch and by onnxruntime."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from mmkd.cost.contender import Opened
from mmkd.cost.paired_seconds import paired_seconds

PYTORCH, ONNXRUNTIME = 'PyTorch', 'onnxruntime'


class Latency(NamedTuple):
    """Of one image, from its pixels in the input to the rows or the detections.

    Args:
        program: ``PYTORCH`` or ``ONNXRUNTIME``.
        threads: of the program.
        median: milliseconds.
        p95: milliseconds, which 95 of 100 images do not exceed.
        rounds: how many were measured.
    """

    program: str
    threads: int
    median: float
    p95: float
    rounds: int


def thread_counts() -> list[int]:
    """One, and as many as this process has cores."""
    known = getattr(os, 'sched_getaffinity', None)
    cores = len(known(0)) if known else os.cpu_count() or 1
    return sorted({1, cores})


def latencies(
    opened: Sequence[Opened],
    rounds: int,
    limit: float,
    watch: Callable[[int], object] = lambda number: None,
) -> list[list[Latency]]:
    """Measure detectors in turn, batch 1, on the CPU.

    Args:
        opened: the detectors.
        rounds: in each of which every program runs every detector once.
        limit: seconds for each number of threads, after which no more rounds are begun.
        watch: is told of each round.

    Returns:
        list: of each detector its latencies.
    """
    found: list[list[Latency]] = [[] for _ in opened]
    for count in thread_counts():
        with _threads(count):
            contenders: dict[tuple[int, str], Callable[[], object]] = {}
            for number, one in enumerate(opened):
                if one.graph is not None:
                    contenders[number, PYTORCH] = _in_pytorch(one)
                if one.exported is not None:
                    contenders[number, ONNXRUNTIME] = _in_onnxruntime(one, count)
            seconds = paired_seconds(contenders, rounds, limit, watch=watch)
        for (number, program), times in seconds.items():
            middle, late = (1000 * float(np.percentile(times, share)) for share in (50, 95))
            found[number].append(Latency(program, count, middle, late, len(times)))
    return found


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _image(size: tuple[int, int]) -> Any:
    return np.random.default_rng(0).integers(0, 256, (1, 3, *size), dtype=np.uint8)


def _in_pytorch(one: Opened) -> Callable[[], object]:
    image, graph = torch.from_numpy(_image(one.size)), one.graph
    assert graph is not None

    def run() -> None:
        with torch.inference_mode():
            graph(image)

    return run


def _in_onnxruntime(one: Opened, threads: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Its threads would go on turning, and take time from what runs next.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    session: Any = onnxruntime.InferenceSession(
        str(one.exported), options, providers=['CPUExecutionProvider']
    )
    [given] = session.get_inputs()
    image = _image(one.size).astype(np.float32 if given.type == 'tensor(float)' else np.uint8)
    return lambda: session.run(None, {given.name: image})
