"""The tables of docs/parts.md, of what is registered; run as a program it writes the page."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import mmkd  # noqa: F401  (first: it makes mmdet importable, and registers everything)

# isort: split
import mmrazor.models  # noqa: F401
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import MODELS, TASK_UTILS

from mmkd.binding.arguments import from_models
from mmkd.pairing import read_methods
from tests.tiny import ROOT

PAGE = ROOT / 'docs/parts.md'


def tables() -> str:
    """All three, in Markdown."""
    methods = [
        (method.name, method.teaches, ', '.join(method.needs) or 'nothing')
        for method in read_methods(ROOT / 'configs')
    ]
    return '\n\n'.join(
        [
            '## Methods',
            _table(('method', 'teaches', 'needs'), methods),
            '## Connectors',
            'What is taken from the two models may be left out.',
            _table(
                ('connector', 'does', 'must be given', 'taken from the models'),
                _rows(MODELS, BaseConnector),
            ),
            '## Recorders',
            'A config names them without "Recorder" at the end.',
            _table(
                ('recorder', 'does', 'must be given'),
                (row[:3] for row in _rows(TASK_UTILS, BaseRecorder)),
            ),
        ]
    )


def _rows(registry: Any, base: type) -> Iterator[tuple[str, str, str, str]]:
    for name, kind in sorted(registry.module_dict.items()):
        package = kind.__module__.split('.')[0]
        if package not in ('mmkd', 'mmrazor') or not inspect.isclass(kind):
            continue  # of a test
        if not issubclass(kind, base):
            continue
        own = package == 'mmkd'
        first = (inspect.getdoc(kind) or '').split('\n\n')[0] if own else "MMRazor's"
        filled = set(from_models(kind)) if base is BaseConnector else set()
        needed = [argument for argument in _needed(kind) if argument not in filled]
        yield (
            name.removesuffix('Recorder') if base is BaseRecorder else name,
            _plain(first),
            ', '.join(f'`{argument}`' for argument in needed),
            ', '.join(f'`{argument}`' for argument in sorted(filled)),
        )


def _needed(kind: type) -> list[str]:
    """The arguments without a default, through the classes that pass the rest on."""
    found: dict[str, bool] = {}
    for owner in kind.__mro__:
        if '__init__' not in vars(owner) or owner is object:
            continue
        parameters = list(inspect.signature(owner.__init__).parameters.values())[1:]
        for one in parameters:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                found.setdefault(one.name, one.default is one.empty)
        if not any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters):
            break
    return [name for name, needed in found.items() if needed]


def _plain(text: str) -> str:
    """A docstring's first paragraph in Markdown."""
    text = re.sub(r':\w+:`~?([^`]*)`', r'`\1`', ' '.join(text.split()))
    return text.replace('``', '`').replace('|', '\\|')


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ('---',) * len(head)]
    lines += [(f'`{name}`', *rest) for name, *rest in rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


if __name__ == '__main__':
    start = PAGE.read_text().split('## Methods')[0]
    PAGE.write_text(f'{start}{tables()}\n')
