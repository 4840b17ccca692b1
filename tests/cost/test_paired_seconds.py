"""Each round runs all contenders, and no one always after the same other."""

import math

from hypothesis import given
from hypothesis import strategies as st

from mmkd.cost.paired_seconds import paired_seconds


@given(count=st.integers(1, 5), rounds=st.integers(1, 6))
def test_a_round_runs_all_in_another_order(count, rounds):
    calls, told = [], []
    contenders = {name: lambda name=name: calls.append(name) for name in range(count)}
    seconds = paired_seconds(contenders, rounds, watch=told.append)
    assert {name: len(times) for name, times in seconds.items()} == dict.fromkeys(
        range(count), rounds
    )
    assert told == list(range(rounds + 1))
    for number in range(rounds + 1):
        own = calls[number * count : (number + 1) * count]
        assert own == [(number + place) % count for place in range(count)]
    assert all(math.isfinite(s) and s >= 0 for times in seconds.values() for s in times)


def test_there_are_three_rounds_however_long_they_take():
    assert len(paired_seconds({'a': lambda: None}, 20, limit=-1)['a']) == 3
