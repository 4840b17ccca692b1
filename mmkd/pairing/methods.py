"""The methods of ``configs/_base_/methods/``: what they need, and what they gained here."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import yaml
from mmengine.config import Config

from mmkd.config.config_literals import read_literals


class Gain(NamedTuple):
    """What a shipped pair gained, in points of box AP, on the mean of its seeds."""

    points: float
    data: str
    pair: str
    student: str  # config of its student


@dataclass(frozen=True)
class Method:
    """A method, as ``__method__`` of its file and the index of models tell.

    Args:
        name: of the file.
        teaches: in a line.
        needs: see :func:`mmkd.pairing.needs.unmet`.
        source: paper or repository.
        published: gain in points that its authors report, if any.
        gains: of the shipped pairs that use it.
    """

    name: str
    teaches: str
    needs: tuple[str, ...]
    source: str
    published: float | None = None
    gains: tuple[Gain, ...] = field(default=())

    def gained(self) -> str:
        """What it gained here, in words."""
        if self.gains:
            return ', '.join(f'{gain.points:+.1f} ({gain.pair})' for gain in self.gains)
        if self.published is not None:
            return f'not measured here; its authors report {self.published:+.1f}'
        return 'not measured here'


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
                said.get('published'),
                tuple(gains.get(path.stem, ())),
            )
        )
    return found


def _gains(configs: Path) -> Iterable[tuple[str, list[Gain]]]:
    found: dict[str, list[Gain]] = {}
    for model in yaml.safe_load((configs / 'metafile.yml').read_text())['Models']:
        about = model['Metadata']
        if 'Results' not in model or 'Baseline box AP' not in about:
            continue
        [result] = model['Results']
        points = result['Metrics']['box AP'] - about['Baseline box AP']
        student = about['Student']['Config']
        gain = Gain(points, result['Dataset'], model['Name'], student)
        for name in _methods_of(configs / Path(model['Config']).name):
            found.setdefault(name, []).append(gain)
    return found.items()


def _methods_of(pair: Path) -> Iterator[str]:
    bases = read_literals(pair.read_text()).values.get('_base_', ())
    for base in [bases] if isinstance(bases, str) else bases:
        if '/methods/' in base:
            yield Path(base).stem


def ranked(
    methods: Iterable[Method], configs: Path, student: Mapping[str, Any]
) -> list[tuple[Method, str]]:
    """Methods, the best supported first, each with the reason.

    What was measured here with students of the same head counts most, then what was measured with
    others, then what its authors report. A method that gained nothing here comes last.

    Args:
        methods: those that fit the two detectors.
        configs: the folder of configs that the gains are of.
        student: the student's model config.
    """
    kind = _head(student)

    def judge(method: Method) -> tuple[int, float, str]:
        own = [gain.points for gain in method.gains if _student_head(configs, gain) == kind]
        for rank, points, whose in (
            (3, own, kind),
            (2, [g.points for g in method.gains], 'others'),
        ):
            if points:
                gain = mean(points)
                names = ', '.join(sorted({g.data for g in method.gains}))
                why = (
                    f'students with {whose} gained {gain:+.1f} points with it here, on the mean of '
                    f'{len(points)} pairs ({names})'
                )
                return (rank if gain > 0 else -1), gain, why
        if method.published is not None:
            why = f'not measured here; its authors report {method.published:+.1f} points'
            return 1, method.published, why
        return 0, 0.0, 'not measured here, and it fits these heads'

    found = [(judge(method), method) for method in methods]
    found.sort(key=lambda item: item[0][:2], reverse=True)
    return [(method, why) for (_, _, why), method in found]


def _student_head(configs: Path, gain: Gain) -> str:
    try:
        return _head(Config.fromfile(configs / Path(gain.student).name).model)
    except (ImportError, FileNotFoundError):  # it needs a package that is not installed
        return ''


def _head(model: Mapping[str, Any]) -> str:
    for name in ('roi_head', 'bbox_head'):
        if isinstance(model.get(name), Mapping):
            return str(model[name].get('type', '')).split('.')[-1]
    return str(model.get('type', '')).split('.')[-1]
