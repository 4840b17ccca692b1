"""Times of several functions, measured side by side."""

import math
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

_Name = TypeVar('_Name', bound=Hashable)


def paired_seconds(
    contenders: Mapping[_Name, Callable[[], object]],
    rounds: int,
    limit: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
    watch: Callable[[int], object] = lambda number: None,
) -> dict[_Name, list[float]]:
    """Seconds of each contender in each round; a round runs all, after one round to warm up.

    The order turns by one from round to round, so that none always runs after the same one.

    Args:
        contenders: functions that take no arguments.
        rounds: at most; fewer, but no fewer than three, where they take longer than ``limit``.
        limit: seconds.
        clock: gives seconds. Defaults to those of the wall; ``time.process_time`` counts the
            process's CPU time, all threads together.
        watch: is told of each round that is done, by its number from 0, the warm-up.
    """
    names = list(contenders)
    seconds: dict[_Name, list[float]] = {name: [] for name in names}
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
        watch(number)
    return seconds
