"""What a step costs, by part."""

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.doctor.report import Section


def check_time(
    section: Section, pair: DetectionDistill, batch: Mapping[str, Any], steps: int = 3
) -> None:
    """Median seconds of a step (forward and backward) by part."""
    student: Any = pair.student
    balance: Any = pair.balance
    parts: dict[str, Callable[[Any, Any], Any]] = {
        'student': lambda inputs, samples: student(inputs, samples, mode='loss'),
        'teacher': pair.teacher_source,
        'whole': pair.loss,
    }
    pair.train()
    if balance is not None:
        balance.eval()  # its factors go on; it measures in few of a training's steps
        section.notes.append(
            f'Without the steps in which balance measures, each {balance.interval}th: they '
            'cost a backward pass more for each term.'
        )
    rounds: dict[str, list[float]] = {'student': [], 'teacher': [], 'losses': [], 'whole step': []}
    for _ in range(steps):
        # Part by part within a round: what else the machine does falls on all of them.
        seconds = {}
        for name, part in parts.items():
            data = pair.data_preprocessor(copy.deepcopy(batch), training=True)
            pair.zero_grad()
            _wait()
            start = time.perf_counter()
            losses = part(data['inputs'], data['data_samples'])
            if name != 'teacher':
                pair.parse_losses(losses)[0].backward()
            _wait()
            seconds[name] = time.perf_counter() - start
        whole = seconds.pop('whole')
        rest = max(whole - sum(seconds.values()), 0.0)
        for name, value in {**seconds, 'losses': rest, 'whole step': whole}.items():
            rounds[name].append(value)
    pair.zero_grad()
    pair.train()
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    section.rows += [
        [name, value, value / medians['whole step']] for name, value in medians.items()
    ]
    section.notes.append(f'Median of {steps} steps; "losses" is the rest of the whole step.')


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
