"""Time and memory, measured side by side: what the benchmarks share."""

import statistics
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile


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
