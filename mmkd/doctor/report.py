"""What an examination found: facts in tables, findings, and how they are shown."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@dataclass(frozen=True)
class Finding:
    """Something that is not well.

    Args:
        severity: 'error' where training would be pointless, else 'warning'.
        found: what is wrong.
        change: the remedy.
    """

    severity: str
    found: str
    change: str


@dataclass
class Section:
    """A table of facts, with what is not well about them.

    Args:
        title: heading.
        columns: names of the columns.
        rows: strings, numbers, lists or None, one for each column.
        findings: what is not well.
        notes: what was left out, and why.
    """

    title: str
    columns: Sequence[str] = ()
    rows: list[Sequence[Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def error(self, found: str, change: str) -> None:
        """Add a finding that makes training pointless."""
        self.findings.append(Finding('error', found, change))

    def warn(self, found: str, change: str) -> None:
        """Add a finding that may be meant."""
        self.findings.append(Finding('warning', found, change))

    def facts(self) -> list[str]:
        """The rows in plain text, a line each."""
        cells = [list(map(text, row)) for row in self.rows]
        named = [
            ', '.join(
                f'{name} {cell}' for name, cell in zip(self.columns[1:], row[1:], strict=True)
            )
            for row in cells
        ]
        return [f'{row[0]}: {rest}' for row, rest in zip(cells, named, strict=True)]

    def lines(self, most: int | None = None) -> list[str]:
        """The section in plain text, a line each, for a log; of its rows so many at most."""
        facts = self.facts()
        if most is not None and len(facts) > most:
            facts[most:] = [f'and {len(facts) - most} more']
        found = [f'{f.severity}: {f.found} {f.change}' for f in self.findings]
        return [f'{self.title}: {line}' for line in [*facts, *self.notes, *found]]


@dataclass
class Report:
    """All sections of an examination.

    Args:
        config: the examined config file.
        sections: in the order in which they were examined.
        seconds: how long it took.
    """

    config: str
    sections: list[Section] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def findings(self) -> list[Finding]:
        """The findings of all sections."""
        return [finding for section in self.sections for finding in section.findings]

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not self.findings

    @contextmanager
    def section(self, title: str, *columns: str) -> Iterator[Section]:
        """A new section; an exception inside becomes its finding."""
        section = Section(title, columns)
        self.sections.append(section)
        try:
            yield section
        except Exception as error:
            section.findings.append(finding_of(error))

    def as_dict(self) -> dict[str, Any]:
        """The same data for JSON, in which NaN and infinities are strings."""
        return _jsonable({'ok': self.ok, **asdict(self)})


def finding_of(error: Exception) -> Finding:
    """An exception as a finding; mmkd's messages end with the remedy."""
    message = re.sub(r'^(class `\w+` in \S+: )+', '', str(error))  # mmengine's registry
    known = isinstance(error, FileNotFoundError | ValueError | TypeError | ImportError)
    found, _, change = message.rpartition('. ') if known else ('', '', '')
    if not found or not change[:1].isupper():
        found, change = f'{type(error).__name__}: {message}', 'Correct what the message names.'
    return Finding('error', found if found.endswith('.') else f'{found}.', change)


def text(value: Any) -> str:
    """A cell of a table."""
    if value is None:
        return '-'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, list | tuple):
        return '[' + ', '.join(map(text, value)) + ']'
    return str(value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return value


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> 'Table':
    """A table that a narrow terminal folds, and never cuts: numbers and names stay whole."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style='dim')
    for column in columns:
        table.add_column(escape(column), overflow='fold')
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def show_table(section: Section, console: 'Console', indent: int = 0) -> None:
    """Print a section's table, or a line for each row where the terminal is too narrow for it."""
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.padding import Padding

    table = table_of(section.columns, [list(map(text, row)) for row in section.rows])
    # What is measured is no more than the width.
    room = console.width - max(indent, 1)
    wide = Measurement.get(console, console.options, table).minimum <= room
    shown = [table] if wide else [escape(line) for line in section.facts()]
    for one in shown:
        console.print(Padding(one, (0, 0, 0, indent)))


def show(report: Report, console: 'Console') -> None:
    """Print a report."""
    from rich.markup import escape
    from rich.padding import Padding

    for section in report.sections:
        console.print(f'\n[bold]{escape(section.title)}[/]')
        if section.rows:
            show_table(section, console, indent=2)
        for note in section.notes:
            console.print(Padding(escape(note), (0, 0, 0, 2)))
        for finding in section.findings:
            colour = 'red' if finding.severity == 'error' else 'yellow'
            line = f'[{colour}]{finding.severity}[/]: {escape(finding.found)}'
            console.print(Padding(f'{line} [bold]{escape(finding.change)}[/]', (0, 0, 0, 2)))
    count = len(report.findings)
    verdict = '[green]All is well[/]' if report.ok else f'[red]{count} to change[/]'
    console.print(f'\n{verdict}: {escape(report.config)}, {report.seconds:.0f} s')
