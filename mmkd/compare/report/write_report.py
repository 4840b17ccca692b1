"""The report as a page that is whole in itself, as Markdown and as JSON."""

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from mmkd.compare.arms import Arm
from mmkd.compare.measure.errors import KINDS
from mmkd.compare.report.curves import bands
from mmkd.compare.report.log_text import log_text
from mmkd.compare.report.results import Gain, Results
from mmkd.compare.report.summary import sentences, summary
from mmkd.compare.report.tables import Table, error_table, main_table, parts_table, seed_table


@dataclass(frozen=True)
class Report:
    """What a report says beside its runs.

    Args:
        title (str): Heading.
        notes (str): How to get these figures.
        pictures (dict): By file name of a PNG in the report's folder its caption; they come first.
        settings (dict): What was compared, on which machine; into the page's last table and JSON.
        curves (dict): Pictures that come after the figures.
        folded (dict): Pictures that are shown when they are asked for.
        costs (Table): What the detectors cost, below their gain; empty where it is not known.
    """

    title: str
    notes: str
    pictures: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, str] = field(default_factory=dict)
    folded: Mapping[str, str] = field(default_factory=dict)
    costs: Table = field(default_factory=list)


def markdown(rows: Table) -> str:
    """A table in Markdown: the first row is its header."""
    lines = ['| ' + ' | '.join(cell.replace('|', '\\|') for cell in row) + ' |' for row in rows]
    lines.insert(1, '| ' + ' | '.join(['---'] + ['---:'] * (len(rows[0]) - 1)) + ' |')
    return '\n'.join(lines) + '\n'


def _html_table(rows: Table) -> str:
    def line(cells: list[str], tag: str) -> str:
        return ''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)

    body = ''.join(f'<tr>{line(row, "td")}</tr>' for row in rows[1:])
    return f'<table><tr>{line(rows[0], "th")}</tr>{body}</table>'


def _html_picture(file: Path, caption: str) -> str:
    data, text = base64.b64encode(file.read_bytes()).decode(), html.escape(caption)
    return f'<p><img alt="{text}" src="data:image/png;base64,{data}"><br>{text}</p>'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem;
color: #222; background: #fff }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100% }}
summary {{ cursor: pointer; margin: 1rem 0 }}
ul {{ color: #555 }}
</style></head><body><h1>{title}</h1><p><b>{verdict}</b></p>{rest}{body}</body></html>
"""

#: What an arm is, for one who has not read the docs.
_ARMS = {
    Arm.BASELINE: 'the same student without a teacher',
    Arm.DISTILLED: 'the student that the teacher teaches',
    Arm.SHUFFLED: 'the control, whose teacher looks at another image of the batch: a gain that it '
    'has, too, does not come from what the teacher sees',
    Arm.LONGER: 'the student without a teacher, trained for the time that distillation takes',
}


def write_report(folder: Path, report: Report, results: Results) -> Path:
    """Write report.html (whole in itself), .md, .json and .log, and curves.json, into ``folder``.

    Returns:
        Path: The page.
    """
    folder = Path(folder)
    (folder / 'report.html').write_text(_page(folder, report, results), encoding='utf-8')
    (folder / 'report.md').write_text(_text(report, results), encoding='utf-8')
    (folder / 'report.json').write_text(json.dumps(_content(report, results), indent=1) + '\n')
    curves = dict(columns=['x', 'mean', 'lowest', 'highest'], by_name=bands(results))
    (folder / 'curves.json').write_text(json.dumps(curves) + '\n')
    (folder / 'report.log').write_text(log_text(results), encoding='utf-8')
    return folder / 'report.html'


def _tables(report: Report, results: Results) -> tuple[list[Table], list[Table]]:
    """Those that are shown, and those that are folded away."""
    folded = [seed_table(results), parts_table(results)]
    folded.append([['setting', ''], *([str(k), _plain(v)] for k, v in report.settings.items())])
    return (
        [table for table in (main_table(results), report.costs, error_table(results)) if table[1:]],
        [table for table in folded if len(table) > 1],
    )


def _told(results: Results) -> list[str]:
    """What the rows of the tables are, a line each."""
    lines = [f'{arm.heading}: {text}.' for arm, text in _ARMS.items() if arm in results.arms]
    if len(error_table(results)) > 1:
        lines += [f'{kind}: {text}.' for kind, text in KINDS.items()]
        lines.append('Mending one kind of error changes the others, so the points do not add up.')
    return lines


def _page(folder: Path, report: Report, results: Results) -> str:
    shown, folded = _tables(report, results)

    def pictures(found: Mapping[str, str]) -> str:
        return ''.join(_html_picture(folder / name, text) for name, text in found.items())

    def tables(found: list[Table]) -> str:
        return ''.join(f'<div>{_html_table(table)}</div>' for table in found)

    told = ''.join(f'<li>{html.escape(line)}</li>' for line in _told(results))
    body = (
        f'{pictures(report.pictures)}{tables(shown)}<ul>{told}</ul>{pictures(report.curves)}'
        f'<details><summary>{_FOLDED}</summary>{pictures(report.folded)}{tables(folded)}'
        f'<p>{html.escape(report.notes)}</p></details>'
    )
    verdict, *rest = map(html.escape, sentences(results))
    return _PAGE.format(
        title=html.escape(report.title),
        verdict=verdict,
        rest=''.join(f'<p>{sentence}</p>' for sentence in rest),
        body=body,
    )


_FOLDED = 'By seed, size and class; statistics of the losses; settings'


def _text(report: Report, results: Results) -> str:
    shown, folded = _tables(report, results)

    def pictures(found: Mapping[str, str]) -> list[str]:
        return [f'![{text}]({name})\n' for name, text in found.items()]

    verdict, *rest = sentences(results)
    parts = [f'# {report.title}\n', f'**{verdict}**\n', *(f'{sentence}\n' for sentence in rest)]
    parts += pictures(report.pictures)
    parts += [*map(markdown, shown), ''.join(f'- {line}\n' for line in _told(results))]
    parts += [*pictures(report.curves), f'<details><summary>{_FOLDED}</summary>\n']
    parts += [*pictures(report.folded), *map(markdown, folded), f'{report.notes}\n', '</details>\n']
    return '\n'.join(parts)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {item}' for key, item in value.items())
    return ', '.join(map(str, value)) or 'none' if isinstance(value, list | tuple) else str(value)


def _content(report: Report, results: Results) -> dict[str, Any]:
    evidence = results.evidence
    return dict(
        title=report.title,
        summary=summary(results),
        notes=report.notes,
        settings=dict(report.settings),
        costs={
            row[0]: dict(zip(report.costs[0][1:], row[1:], strict=True)) for row in report.costs[1:]
        },
        gains={
            arm: dict(**_gain(gain), gap_closed=_rounded(results.share_of_gap(arm)))
            for arm, gain in results.gains.items()
        },
        runs=[{k: v for k, v in asdict(run).items() if k != 'curves'} for run in results.runs],
        teacher_over_baseline=_gain(results.gap) if results.gap else None,
        distilled_over={arm: _gain(gain) for arm, gain in results.over.items()},
        test_images=evidence.images if evidence else None,
        test_objects=evidence.objects if evidence else None,
        errors=[
            dict(arm=arm, seed=seed, ap50_lost={k: round(v, 4) for k, v in costs.items()})
            for (arm, seed), costs in (evidence.costs if evidence else {}).items()
        ],
    )


def _gain(gain: Gain) -> dict[str, Any]:
    return dict(
        mean=_rounded(gain.mean),
        interval95=_rounded(gain.half),
        of_seeds=_rounded(gain.seeds),
        of_images=_rounded(gain.images),
        by_seed={seed: _rounded(value) for seed, value in gain.by_seed.items()},
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None or isnan(value) else round(value, 4)
