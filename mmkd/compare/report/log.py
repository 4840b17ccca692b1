"""The log of a comparison in a few kilobytes of text, to be kept beside its figures."""

from collections.abc import Sequence

from mmkd.compare.report.runs import TITLES, Run

_LINES = 10  # of each training


def log_text(runs: Sequence[Run]) -> str:
    """For each run its loss terms in the course of the training, and what the test gave."""
    order = list(TITLES)
    sections = sorted(runs, key=lambda run: (order.index(run.arm), run.seed))
    return '\n'.join(f'== {run.arm} seed {run.seed}\n{_section(run)}' for run in sections)


def _section(run: Run) -> str:
    terms = {name: dict(curve) for name, curve in run.curves.items() if not _validation(name)}
    steps = sorted({step for curve in terms.values() for step in curve})
    lines = []
    for i in range(min(_LINES, len(steps))):
        step = steps[(i + 1) * len(steps) // min(_LINES, len(steps)) - 1]
        found = [f'{name}: {curve[step]:.4f}' for name, curve in terms.items() if step in curve]
        lines.append(f'step {step}  ' + '  '.join(found))
    for name, curve in run.curves.items():
        if _validation(name):
            lines.append(f'{name}  ' + '  '.join(f'{at}: {value:.4f}' for at, value in curve))
    figures = dict(mAP=run.map, mAP50=run.map50, **run.parts)
    lines.append('test  ' + '  '.join(f'{name}: {value:.4f}' for name, value in figures.items()))
    return '\n'.join(lines) + '\n'


def _validation(name: str) -> bool:
    return name.startswith('validation')
