"""The methods of ``configs/_base_/methods/``: what they need, and what they gained here."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import yaml
from mmengine.config import Config
from torch import nn

from mmkd.config.config_literals import read_literals
from mmkd.pairing.needs import FACTS, head_name


class Gain(NamedTuple):
    """What a shipped pair gained, in points of box AP, on the mean of its seeds."""

    points: float
    data: str
    pair: str
    student: str  # config of its student
    teacher: str = ''  # of its teacher; left out for one with the student's head


class Figure(NamedTuple):
    """What its authors report that a method gains with a pair of heads, in points of box AP."""

    teacher: str  # class of its head
    student: str
    points: float

    def __str__(self) -> str:
        return f'{self.points:+.1f} ({_spoken(self.teacher)} to {_spoken(self.student)})'


@dataclass(frozen=True)
class Method:
    """A method, as ``__method__`` of its file and the index of models tell.

    Args:
        name: of the file.
        teaches: in a line.
        needs: see :func:`mmkd.pairing.needs.unmet`.
        source: paper or repository.
        published: what its authors report of pairs of heads that are known here.
        gains: of the shipped pairs that use it.
        lost: what pairs of heads lost with it in pilots here, a run each.
    """

    name: str
    teaches: str
    needs: tuple[str, ...]
    source: str
    published: tuple[Figure, ...] = ()
    gains: tuple[Gain, ...] = field(default=())
    lost: tuple[Figure, ...] = ()

    def gained(self) -> str:
        """What it gained or lost here, in words."""
        lost = f'; in pilots {", ".join(map(str, self.lost))}' if self.lost else ''
        return self._gained() + lost

    def _gained(self) -> str:
        if self.gains:
            return ', '.join(f'{gain.points:+.1f} ({gain.pair})' for gain in self.gains)
        if self.published:
            return f'not measured here; its authors report {", ".join(map(str, self.published))}'
        return 'not measured here'

    def lines(self, width: int) -> list[str]:
        """What is known of it, in lines of at most ``width`` characters where words allow it."""
        said = {
            'needs': ', '.join(self.needs) or 'nothing',
            'source': self.source,
            'gained': self.gained(),
        }
        texts = [(f'{self.name}: ', self.teaches)]
        texts += [(f'    {key:8}', text) for key, text in said.items()]
        lines = []
        for head, text in texts:
            indent = ' ' * (4 if head[0] != ' ' else 12)
            lines += textwrap.wrap(
                head + text,
                max(width, 2 * len(indent)),
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        return lines


def read_methods(configs: Path) -> list[Method]:
    """All methods of a folder of configs.

    Args:
        configs: the folder, with ``metafile.yml`` and ``_base_/methods``.

    Raises:
        ValueError: a method does not say what it teaches, needs, and where it is from.
    """
    gains = dict(_gains(configs))
    found = []
    for path in sorted((configs / '_base_/methods').glob('*.py')):
        said = read_literals(path.read_text()).values.get('__method__', {})
        lacking = [key for key in ('teaches', 'needs', 'source') if key not in said]
        if lacking:
            raise ValueError(
                f'{path}: __method__ must say what a method teaches, needs and where it is from, '
                f'but lacks {", ".join(lacking)}. Add it: see CONTRIBUTING.md.'
            )
        found.append(
            Method(
                path.stem,
                said['teaches'],
                tuple(said['needs']),
                said['source'],
                tuple(Figure(*figure) for figure in said.get('published', ())),
                tuple(gains.get(path.stem, ())),
                tuple(Figure(*figure) for figure in said.get('lost', ())),
            )
        )
    return found


def _gains(configs: Path) -> Iterable[tuple[str, list[Gain]]]:
    found: dict[str, list[Gain]] = {}
    for model in yaml.safe_load((configs / 'metafile.yml').read_text())['Models']:
        about = model['Metadata']
        if 'Gain box AP' not in about:
            continue
        [result] = model['Results']
        configs_of = about['Student']['Config'], about['Teacher']['Config']
        gain = Gain(about['Gain box AP'], result['Dataset'], model['Name'], *configs_of)
        for name in _methods_of(configs / Path(model['Config']).name):
            found.setdefault(name, []).append(gain)
    return found.items()


def _methods_of(pair: Path) -> Iterator[str]:
    bases = read_literals(pair.read_text()).values.get('_base_', ())
    for base in [bases] if isinstance(bases, str) else bases:
        if '/methods/' in base:
            yield Path(base).stem


def ranked(
    methods: Iterable[Method], configs: Path, student: nn.Module, teacher: nn.Module
) -> list[tuple[Method, str]]:
    """Methods, the best supported first, each with the reason.

    What was measured here with students of the same head counts most, then what its authors report
    of these two heads, then what was measured here with others, both in pairs that are alike (of
    two equal heads, or of two that differ), then what authors report of pairs that are alike, then
    of any. Of a DETR the figures of others say nothing.
    Of methods without a figure the one that is made for fewer detectors comes first. A method that
    gained nothing here comes last, and so does one without a gain that lost in pilots.

    Args:
        methods: those that fit the two detectors.
        configs: the folder of configs that the gains are of.
        student: the built student.
        teacher: the built teacher.
    """
    heads = head_name(teacher), head_name(student)
    is_detr = FACTS['DETR'](student)

    mixed = heads[0] != heads[1]

    def judge(method: Method) -> tuple[int, float, str]:
        measured = [g for g in method.gains if _is_mixed(configs, g) == mixed]
        own = [g for g in measured if _head(configs, g.student) == heads[1]]
        exact = [f for f in method.published if (f.teacher, f.student) == heads]
        others = () if is_detr else method.published
        alike = [f for f in others if (f.teacher != f.student) == mixed]
        evidence: list[tuple[Sequence[Gain | Figure], str]] = [
            (own, heads[1]),
            (exact, ''),
            ([] if is_detr else measured, 'other heads'),
            (alike, ''),
            (others, ''),
        ]
        for rank, (found, whose) in zip(range(len(evidence), 0, -1), evidence, strict=True):
            if found:
                points = mean(one.points for one in found)
                # What gained nothing here comes last.
                why = _why(found, whose, '' if found is exact else ' to '.join(map(_spoken, heads)))
                return (-1 if whose and points <= 0 else rank), points, why
        why = 'it fits these heads; of such a pair no gain was measured here or published'
        lost = [f for f in method.lost if (f.teacher != f.student) == mixed]
        if lost:
            why += f', and in pilots here it lost: {", ".join(map(str, lost))}'
            return -1, mean(one.points for one in lost), why
        return 0, len(method.needs), why

    found = [(judge(method), method) for method in methods]
    found.sort(key=lambda item: item[0][:2], reverse=True)
    return [(method, why) for (_, _, why), method in found]


def _why(found: Sequence[Gain | Figure], whose: str, pair: str) -> str:
    """Args: of figures of other heads, the pair that these are no figures of; else ''."""
    gains = [one for one in found if isinstance(one, Gain)]
    if not gains:
        figures = ', '.join(map(str, found))
        if pair:
            return (
                f'it fits these heads; of {pair} no gain was measured here or published, but of '
                f'other pairs of heads: its authors report {figures}'
            )
        return f'its authors report {figures}; it was not measured here'
    names = ', '.join(sorted({gain.data for gain in gains}))
    pairs = 'in one pair' if len(gains) == 1 else f'on the mean of {len(gains)} pairs'
    points = mean(gain.points for gain in gains)
    return f'students with {whose} gained {points:+.1f} points with it here, {pairs} ({names})'


def _is_mixed(configs: Path, gain: Gain) -> bool:
    # Rows of equal priors and rows by overlap, say, are taught differently.
    return bool(gain.teacher) and _head(configs, gain.teacher) != _head(configs, gain.student)


@cache
def _head(configs: Path, name: str) -> str:
    try:
        model = Config.fromfile(configs / Path(name).name).model
    except (ImportError, FileNotFoundError):  # it needs a package that is not installed
        return ''
    head = (model.get('roi_head') or model).get('bbox_head') or {}
    return str(head.get('type', '')).split('.')[-1] if isinstance(head, Mapping) else ''


def _spoken(head: str) -> str:
    return head.removesuffix('Head')
