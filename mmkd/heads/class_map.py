"""Which class of a teacher is which of a student, by their names (torch only)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmkd.config.names import first_of, nearest

_SHOWN = 20  # names of a list, in messages


@dataclass(frozen=True)
class ClassMap:
    """The partners of a student's classes among its teacher's.

    Args:
        teacher: names of the teacher's T classes, in order.
        student: names of the student's S classes, in order.
        places: of each of the teacher's classes the place of its partner among the student's;
            None for a class without one.

    Example:
        >>> found = ClassMap.from_names(
        ...     ('cat', 'car', 'truck'), ('vehicle', 'bike'), dict(car='vehicle', truck='vehicle')
        ... )
        >>> found.matrix.tolist(), found.matched.tolist()
        ([[0, 0], [1, 0], [1, 0]], [True, False])
        >>> found.apply(torch.tensor([0.5, 0.25, 0.125]), softmax=False)
        tensor([0.3750, 0.0000])
        >>> found.apply(torch.tensor([0.5, 0.25, 0.125]), softmax=True)
        tensor([0.7500, 0.0000])
    """

    teacher: tuple[str, ...]
    student: tuple[str, ...]
    places: tuple[int | None, ...]

    @classmethod
    def from_names(
        cls,
        teacher_classes: Sequence[str],
        student_classes: Sequence[str],
        class_map: Mapping[str, str | None] | None = None,
    ) -> 'ClassMap':
        """Partners are classes of equal names, letter by letter, and those of ``class_map``.

        Args:
            teacher_classes: T names, in the order of the teacher's scores.
            student_classes: S names, in the order of the student's.
            class_map: by a teacher's class the student's class that it is, or None for none; it
                goes before equal names. Defaults to None.

        Raises:
            TypeError: ``class_map`` is no dict of names.
            ValueError: it names a class that the model does not have, or no class has a partner.
        """
        own, taught = tuple(teacher_classes), tuple(student_classes)
        said = _checked(class_map, own, taught)
        place = {name: i for i, name in enumerate(taught)}
        partners = [said.get(name, name) for name in own]
        places = tuple(None if name is None else place.get(name) for name in partners)
        if all(found is None for found in places):
            raise ValueError(
                'teacher and student must have at least one class in common, by name, but the '
                f"teacher's are {_listed(own)}, and the student's {_listed(taught)}. Say by "
                'class_map=dict(...) which class of the teacher is which of the student'
                f'{_maybe(own, taught)}.'
            )
        return cls(own, taught, places)

    @property
    def matrix(self) -> Tensor:
        """(T, S), 1 where class t of the teacher is class s of the student, else 0."""
        found = torch.zeros(len(self.teacher), len(self.student), dtype=torch.long)
        for t, s in enumerate(self.places):
            if s is not None:
                found[t, s] = 1
        return found

    @property
    def matched(self) -> Tensor:
        """(S,), bool: the student's classes that have a partner."""
        return self.matrix.any(0)

    @property
    def identity(self) -> bool:
        """Whether both have the same classes in the same order."""
        same = self.places == tuple(range(len(self.student)))
        return same and len(self.teacher) == len(self.student)

    @property
    def unheard(self) -> list[str]:
        """The teacher's classes that are none of the student's: left out of all losses."""
        return [name for name, s in zip(self.teacher, self.places, strict=True) if s is None]

    @property
    def untaught(self) -> list[str]:
        """The student's classes that the teacher does not know: left out of all losses."""
        pairs = zip(self.student, self.matched.tolist(), strict=True)
        return [name for name, known in pairs if not known]

    def partners(self) -> list[tuple[str, list[str]]]:
        """Of each of the student's classes the teacher's that are it."""
        pairs = list(zip(self.teacher, self.places, strict=True))
        return [(name, [t for t, s in pairs if s == i]) for i, name in enumerate(self.student)]

    def partners_of_teacher(self) -> list[str | None]:
        """Of each of the teacher's classes the student's that it is."""
        return [None if s is None else self.student[s] for s in self.places]

    def spelled(self) -> str:
        """Classes without a partner that may be one, as ``class_map`` would say it; '' if none."""
        return _maybe(self.unheard, self.untaught)

    def apply(self, scores: Tensor, softmax: bool) -> Tensor:
        """The student's classes in the scores of the teacher's.

        Scores of classes that are one add up. The teacher's classes without a partner are dropped:
        of a softmax the rest, the background included, is divided by what is left, so that it adds
        up to 1 again.

        Args:
            scores: (..., T), probabilities, without the background of a softmax.
            softmax: whether they exclude each other; sigmoids else, whose sum is at most 1.

        Returns:
            Tensor: (..., S), 0 for classes without a partner (see ``matched``).
        """
        _check_width(scores, len(self.teacher))
        found = scores @ self.matrix.to(scores)
        if not softmax:
            return found.clamp(max=1)
        dropped = scores @ (1 - self.matrix.sum(1)).to(scores)
        # Where nearly all is dropped, rounding may leave less than the classes that are kept.
        left = torch.maximum(1 - dropped, found.sum(-1))
        return found / left.clamp(min=torch.finfo(scores.dtype).tiny).unsqueeze(-1)


class ClassNames(NamedTuple):
    """What is known of the classes of two models, before it is asked whether they are compared."""

    teacher: Sequence[str]
    student: Sequence[str]
    class_map: Mapping[str, str | None] | None = None
    #: The student's classes that this teacher is to teach; None for all that it knows.
    only: Sequence[str] | None = None

    @property
    def alike(self) -> bool:
        """Whether some of the names are equal."""
        return not set(self.teacher).isdisjoint(self.student)

    def map(self) -> ClassMap:
        """Which class is which.

        Raises:
            TypeError, ValueError: see :meth:`ClassMap.from_names`; ``only`` names what one of the
                two does not know.
        """
        found = ClassMap.from_names(self.teacher, self.student, self.class_map)
        for name in self.only or ():
            known = [own for own, partners in found.partners() if partners]
            if name not in known:
                near = nearest(name, known, cutoff=0.4) or known
                raise ValueError(
                    "a teacher's classes must be classes of the student that it knows, too, but "
                    f'got "{name}". Nearest: {first_of(near)}.'
                )
        return found

    def taught(self, found: ClassMap) -> list[bool]:
        """Of each of the student's classes whether this teacher teaches it."""
        pairs = zip(found.student, found.matched.tolist(), strict=True)
        return [known and (self.only is None or name in self.only) for name, known in pairs]


def _check_width(scores: Tensor, width: int) -> None:
    if scores.dim() < 1 or scores.size(-1) != width:
        raise ValueError(
            f'scores must have {width} classes in their last axis, those of the teacher, but are '
            f'{tuple(scores.shape)}. Leave the background out, or correct the names.'
        )


def check_form(class_map: Any) -> None:
    """Check that a ``class_map`` is one, whatever the classes are.

    Raises:
        TypeError: it is no dict of names.
    """
    names = class_map is None or (
        isinstance(class_map, Mapping)
        and all(isinstance(k, str) and isinstance(v, str | None) for k, v in class_map.items())
    )
    if not names:
        raise TypeError(
            "class_map must be a dict from names of the teacher's classes to names of the "
            f"student's, but got {class_map!r}. Write class_map=dict(car='vehicle')."
        )


def _checked(class_map: Any, own: Sequence[str], taught: Sequence[str]) -> Mapping[str, str | None]:
    check_form(class_map)
    found: Mapping[str, str | None] = class_map or {}
    for name, partner in found.items():
        for one, among, whose in ((name, own, 'teacher'), (partner, taught, 'student')):
            if one is not None and one not in among:
                near = nearest(one, among, cutoff=0.4) or _alike(one, among)
                hint = f'Nearest: {", ".join(near)}' if near else f'It has {_listed(among)}'
                raise ValueError(
                    f'class_map must name classes of the {whose} as '
                    f'{"keys" if whose == "teacher" else "values"}, but the {whose} has no '
                    f'"{one}". {hint}.'
                )
    return found


def _alike(name: str, among: Sequence[str]) -> list[str]:
    return [other for other in among if _plain(other) == _plain(name)]


def _plain(name: str) -> str:
    """A name without what is often written otherwise: case, spaces, hyphens, underscores."""
    return ''.join(letter for letter in name.casefold() if letter not in ' -_')


def _maybe(own: Sequence[str], taught: Sequence[str]) -> str:
    pairs = {name: _alike(name, taught)[:1] for name in own}
    said = [f'{name!r}: {near[0]!r}' for name, near in pairs.items() if near]
    return f', perhaps class_map={{{first_of(said, _SHOWN)}}}' if said else ''


def _listed(names: Sequence[str]) -> str:
    return f'({first_of(names, _SHOWN)})'
