"""Time and memory, measured side by side: what the benchmarks share."""

import statistics
import time
from collections.abc import Callable, Mapping

from torch.profiler import ProfilerActivity, profile


def paired_seconds(
    contenders: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each contender in each round; a round runs all, after one round to warm up.

    The order turns by one from round to round, so that none always runs after the same one.
    """
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            contenders[name]()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, *floor: str) -> float:
    """Median over the rounds of a contender's time by the sum of the others' in the same round."""
    rounds = zip(seconds[name], *(seconds[other] for other in floor), strict=True)
    return statistics.median(first / sum(rest) for first, *rest in rounds)


def peak_bytes(function: Callable[[], object]) -> int:
    """Most that torch's CPU allocator had handed out at once, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == '[memory]']
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak
