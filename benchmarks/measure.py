"""Time and memory, measured side by side: what the benchmarks share."""

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile


def paired_seconds(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    limit: float = math.inf,
    cpu_time: bool = False,
) -> dict[str, list[float]]:
    """Seconds of each contender in each round; a round runs all, after one round to warm up.

    The order turns by one from round to round, so that none always runs after the same one.

    Args:
        contenders: functions that take no arguments.
        rounds: at most; fewer, but no fewer than three, where they take longer than ``limit``.
        limit: seconds.
        cpu_time: count the process's CPU time, all threads together, in place of wall time.
    """
    clock = time.process_time if cpu_time else time.perf_counter
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    begin = time.perf_counter()
    for number in range(rounds + 1):
        if number > 3 and time.perf_counter() - begin > limit:
            break
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            start = clock()
            contenders[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # it works on after the call
            if number:
                seconds[name].append(clock() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, *floor: str) -> float:
    """Median over the rounds of a contender's time by the sum of the others' in the same round."""
    rounds = zip(seconds[name], *(seconds[other] for other in floor), strict=True)
    return statistics.median(first / sum(rest) for first, *rest in rounds)


def peak_bytes(function: Callable[[], object], device: str = 'cpu') -> int:
    """Most that torch's allocator had handed out at once, beyond what was there before."""
    if device != 'cpu':
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == '[memory]']
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
