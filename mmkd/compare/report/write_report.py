"""The report as a page that is whole in itself, as Markdown and as JSON."""

import base64
import html
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmkd.compare.report.curves import bands
from mmkd.compare.report.log_text import log_text
from mmkd.compare.report.results import Results
from mmkd.compare.report.summary import summary
from mmkd.compare.report.tables import Table, main_table, parts_table, seed_table


@dataclass(frozen=True)
class Report:
    """What a report says beside its runs.

    Args:
        title (str): Heading.
        notes (str): How to get these figures.
        pictures (dict): By file name of a PNG in the report's folder its caption.
        settings (dict): What was compared, on which machine; into the page's last table and JSON.
    """

    title: str
    notes: str
    pictures: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def markdown(rows: Table) -> str:
    """A table in Markdown: the first row is its header."""
    lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
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
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
color: #222; background: #fff }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100% }}
</style></head><body><h1>{title}</h1><p><b>{summary}</b></p>{body}<p>{notes}</p></body></html>
"""


def write_report(folder: Path, report: Report, results: Results) -> Path:
    """Write report.html (whole in itself), .md, .json and .log, and curves.json, into ``folder``.

    Returns:
        Path: The page.
    """
    folder, verdict = Path(folder), summary(results)
    tables = [main_table(results), seed_table(results), parts_table(results)]
    first, *others = [table for table in tables if len(table) > 1]
    others.append([['setting', ''], *([str(k), _plain(v)] for k, v in report.settings.items())])
    page = _PAGE.format(
        title=html.escape(report.title),
        summary=html.escape(verdict),
        body=_html_table(first)
        + ''.join(_html_picture(folder / name, text) for name, text in report.pictures.items())
        + ''.join(map(_html_table, others)),
        notes=html.escape(report.notes),
    )
    (folder / 'report.html').write_text(page, encoding='utf-8')
    parts = [f'# {report.title}\n', f'**{verdict}**\n', markdown(first)]
    parts += [f'![{text}]({name})\n' for name, text in report.pictures.items()]
    parts += [*map(markdown, others), f'{report.notes}\n']
    (folder / 'report.md').write_text('\n'.join(parts), encoding='utf-8')
    (folder / 'report.json').write_text(json.dumps(_content(report, results), indent=1) + '\n')
    curves = dict(columns=['x', 'mean', 'lowest', 'highest'], by_name=bands(results))
    (folder / 'curves.json').write_text(json.dumps(curves) + '\n')
    (folder / 'report.log').write_text(log_text(results), encoding='utf-8')
    return folder / 'report.html'


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {item}' for key, item in value.items())
    return ', '.join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _content(report: Report, results: Results) -> dict[str, Any]:
    gains = {
        arm: dict(
            mean=round(gain.mean, 4),
            interval95=round(gain.half, 4) if gain.has_interval else None,
            by_seed={seed: round(value, 4) for seed, value in gain.by_seed.items()},
            gap_closed=None if gain.gap_closed is None else round(gain.gap_closed, 4),
        )
        for arm, gain in results.gains.items()
    }
    return dict(
        title=report.title,
        summary=summary(results),
        notes=report.notes,
        settings=dict(report.settings),
        gains=gains,
        runs=[{k: v for k, v in asdict(run).items() if k != 'curves'} for run in results.runs],
    )
