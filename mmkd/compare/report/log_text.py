"""The log of a comparison in a few kilobytes of text, to be kept beside its figures."""

from mmkd.compare.report.results import Results
from mmkd.compare.report.run import Run

_LINES = 10  # of each training


def log_text(results: Results) -> str:
    """For each run its loss terms in the course of the training, and what the test gave."""
    runs = [run for runs in results.arms.values() for run in sorted(runs, key=lambda run: run.seed)]
    return '\n'.join(f'== {run.arm} seed {run.seed}\n{_section(run)}' for run in runs)


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
