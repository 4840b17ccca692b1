"""What an annotation file has, and how the first offenders against a rule are told."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mmkd.config.names import first_of
from mmkd.fileio.nearby import absent, hint

#: What is not taken as it is: for :attr:`Split.tally`.
NOT_KEPT = 'boxes without a pixel in the image left out'
CLIPPED = 'boxes clipped to the image'


class Split(NamedTuple):
    """What an annotation file has."""

    path: str
    #: The images' file names; of VOC without suffix.
    names: list[str]
    #: How many boxes a loss or a metric gets of each class, 0 included.
    found: Counter[str]
    #: How much of what is left out or clipped.
    tally: Counter[str]
    #: Whether it gives the size of each image.
    sized: bool = True
    #: Class and id of the annotations without a mask; in VOC form, which has none, class and None.
    bare: Sequence[tuple[str, Any]] = ()
    #: Whether each mask is one of polygons.
    polygons: bool = True

    def notes(self, where: str) -> list[str]:
        """One line for the log on what is left out, or none."""
        return [f'{where}: of "{self.path}", {_told(self.tally)} (docs/data.md)'] * bool(self.tally)


class Faults:
    """What one annotation file breaks: the first offender against the rules is an error."""

    def __init__(self, where: str, path: str) -> None:
        self.where = where
        self.path = path

    def refuse(self, rule: str, offenders: Iterable[Any], remedy: str) -> None:
        """Raise if there are ``offenders``: each is named up to the third, and all are counted."""
        found = list(offenders)
        if found:
            first = ', '.join(map(str, found[:3])) + (', ...' if len(found) > 3 else '')
            raise ValueError(
                f'{self.where}: {rule}, but in "{self.path}" {len(found)} '
                f'{"does" if len(found) == 1 else "do"} not: {first}. {remedy}'
            )


def check_found(
    where: str, splits: Sequence[Split], training: bool = False, measured: bool = False
) -> list[str]:
    """Check what a loss or a metric gets of a loader's data: boxes that it ignores do not count.

    A part of the data may be of images without objects.

    Args:
        where: the loader's key, for messages.
        splits: all that it loads.
        training: whether a loss must get any box. Defaults to False.
        measured: whether a metric must. Defaults to False.

    Returns:
        A line on the classes without a box, for the log.

    Raises:
        ValueError: there is no box.
    """
    found, tally = Counter[str](), Counter[str]()
    for split in splits:
        found.update(split.found)
        tally.update(split.tally)
    paths = first_of(f'"{split.path}"' for split in splits)
    rules = {
        'some box must be left to learn from': training,
        'some box must be left to find': measured,
    }
    for rule, holds in rules.items():
        if holds and not found.total():
            raise ValueError(
                f'{where}: {rule}, but in {paths} none is{f" ({_told(tally)})" * bool(tally)}. '
                'Correct the boxes, what makes them ignored (iscrowd, ignore, difficult), '
                'filter_cfg, indices or metainfo.classes.'
            )
    lacking = [name for name, count in found.items() if not count]
    if not lacking or not found.total():
        return []
    classes = '1 class' if len(lacking) == 1 else f'{len(lacking)} classes'
    return [f'{where}: {paths} has no box of {classes}: {first_of(lacking)}']


def check_images(where: str, folder: str, names: Iterable[str], key: str) -> None:
    """Check that the files ``names``, which may name folders too, are in ``folder``.

    Raises:
        FileNotFoundError: some are not; the first are named, and all counted.
    """
    names = list(names)
    lost = absent(folder, names)
    if lost:
        raise FileNotFoundError(
            f'{where}: each image of the split must exist, but of {len(names)} in "{folder}" '
            f'{len(lost)} do not: {first_of(lost)}. Put them there, or correct {key}.'
            f'{hint(folder, lost)}'
        )


def _told(tally: Counter[str]) -> str:
    return ', '.join(f'{count} {what}' for what, count in tally.items())
