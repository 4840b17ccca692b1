"""Costs as a table, as JSON and as a picture."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmkd.cost.latency import Latency
from mmkd.cost.measure_costs import Cost
from mmkd.fileio.atomic_writes import write_atomic

_UNKNOWN = '-'


def cost_table(costs: Sequence[Cost]) -> list[list[str]]:
    """A column for each detector, the first row is the header; milliseconds as median (95 %)."""
    rows = [
        ['', *(f'{cost.role}: {cost.name}' for cost in costs)],
        ['input', *(f'{cost.size[0]} x {cost.size[1]}' for cost in costs)],
        ['parameters', *(_short(cost.parameters) for cost in costs)],
        ['MACs', *(_short(cost.macs) for cost in costs)],
        ['file', *(f'{cost.bytes / 1e6:.2f} MB' for cost in costs)],
    ]
    found = [{(one.threads, one.program): one for one in cost.latencies} for cost in costs]
    for kind in sorted({kind for times in found for kind in times}):
        title = f'{kind[1]}, {_counted(kind[0], "thread")}'
        rows.append([title, *(_milliseconds(times.get(kind)) for times in found)])
    rows.append(['mAP', *(_UNKNOWN if cost.map is None else f'{cost.map:.3f}' for cost in costs)])
    return rows


def _short(count: int | None) -> str:
    if count is None:
        return _UNKNOWN
    return f'{count / 1e9:.2f} G' if count >= 1e9 else f'{count / 1e6:.2f} M'


def _milliseconds(time: Latency | None) -> str:
    return _UNKNOWN if time is None else f'{time.median:.2f} ms ({time.p95:.2f})'


def _counted(count: int, what: str) -> str:
    return f'{count} {what}' + ('' if count == 1 else 's')


def cost_notes(costs: Sequence[Cost]) -> list[str]:
    """What a reader must know of single figures."""
    told = [f'{cost.name}: {note}' for cost in costs for note in cost.notes]
    told += [
        f'{cost.name}: its latency by PyTorch has suppression in it; that of the others has not'
        for cost in costs
        if cost.suppresses
    ]
    return list(dict.fromkeys(told))


def write_costs(out: Path, costs: Sequence[Cost]) -> list[Path]:
    """Write ``out`` (JSON) and, where an mAP is known, a picture beside it; what was written."""
    content = dict(
        machine=dict(processor=platform.machine(), system=platform.system()),
        versions={name: _version(name) for name in ('torch', 'onnxruntime')},
        unit='ms',
        detectors=[cost.as_dict() for cost in costs],
    )
    write_atomic(out, (json.dumps(content, indent=1) + '\n').encode())
    picture = out.with_suffix('.png')
    return [out, picture] if draw_costs(picture, costs) else [out]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def draw_costs(path: Path, costs: Sequence[Cost]) -> bool:
    """Draw mAP against latency into a PNG; False if no detector has both."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogFormatter

    known = [(cost, cost.map) for cost in costs if cost.map is not None]
    if not known:
        return False
    figure, axis = plt.subplots(figsize=(6, 3.6), layout='constrained')
    kinds: dict[str, None] = {}
    for cost, found in known:
        shown = cost.latency()
        kinds[f'{shown.program}, {_counted(shown.threads, "thread")}'] = None
        axis.errorbar(
            [shown.median],
            [found],
            xerr=[[0.0], [max(shown.p95 - shown.median, 0.0)]],
            fmt='o',
            capsize=3,
            label=f'{cost.role}: {cost.name}',
        )
    axis.set_xscale('log')
    axis.xaxis.set_major_formatter(LogFormatter())  # 20, not 2 x 10^1
    axis.xaxis.set_minor_formatter(LogFormatter())
    axis.set_xlabel(f'milliseconds for an image, median and 95 % ({" or ".join(kinds)})')
    axis.set_ylabel('mAP')
    axis.grid(alpha=0.3, which='both')
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={'Software': None})
    plt.close(figure)
    return True
