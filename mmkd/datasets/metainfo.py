"""The classes that a data set's config names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS

#: How the classes are called elsewhere, in small letters: in mmdet 2, in YOLO's files, by habit.
_OTHER_NAMES = ('class', 'class_name', 'class_names', 'classnames', 'names', 'labels', 'categories')


def classes_of(where: str, dataset: Mapping[str, Any], scope: str | None) -> Sequence[str] | None:
    """The classes that the labels of a data set mean.

    Args:
        where: the loader's key, for messages.
        dataset: config of a data set.
        scope: in which its type is looked up.

    Returns:
        Those of its ``metainfo``, or else of its type; None where neither has any.

    Raises:
        TypeError: ``metainfo`` is no dict, or the classes are no list of text.
        ValueError: they stand under another key, are none, or repeat.
    """
    metainfo = dataset.get('metainfo')
    if not isinstance(metainfo, Mapping | Config | None):
        raise TypeError(
            f'{where}: metainfo must be a dict, but got {_short(metainfo)}. Write '
            "metainfo=dict(classes=('cat', 'dog'))."
        )
    metainfo = dict(metainfo or {})
    if 'classes' not in metainfo:
        _refuse_other_names(where, metainfo)
    known = getattr(dataset_type(dataset, scope), 'METAINFO', None) or {}
    if 'classes' not in metainfo:
        return known.get('classes')
    return _names(where, metainfo['classes'])


def dataset_type(dataset: Mapping[str, Any], scope: str | None) -> type | None:
    """The class of a data set's config; None if it is not registered."""
    kind: Any = dataset.get('type')
    with DATASETS.switch_scope_and_registry(dataset.get('_scope_', scope)) as registry:
        return registry.get(kind) if isinstance(kind, str) else kind


def _refuse_other_names(where: str, metainfo: Mapping[str, Any]) -> None:
    for key in metainfo:
        if str(key).lower() in ('classes', *_OTHER_NAMES):
            raise ValueError(
                f'{where}: the classes must stand in metainfo.classes, but metainfo has "{key}", '
                'which mmdet does not read: the classes of the type would be taken. Write '
                'metainfo=dict(classes=...).'
            )


def _names(where: str, classes: Any) -> Sequence[str]:
    if isinstance(classes, str):
        if '://' in classes:
            return list_from_file(classes)
        try:
            classes = list_from_file(classes)
        except OSError:
            raise TypeError(
                f'{where}: metainfo.classes must be a tuple or list of names, or a file with a '
                f'name a line, but got the text "{classes}", and there is no such file. One class '
                f"is written classes=('{classes}',), with a comma."
            ) from None
    if not isinstance(classes, list | tuple) or not all(isinstance(n, str) and n for n in classes):
        raise TypeError(
            f'{where}: metainfo.classes must be a tuple or list of names, each of them text, but '
            f"got {_short(classes)}. Write classes=('cat', 'dog')."
        )
    repeated = [name for name, count in Counter(classes).items() if count > 1]
    if repeated or not classes:
        raise ValueError(
            f'{where}: metainfo.classes must name each class once, but got '
            f'{", ".join(repeated) + " twice" if repeated else "none"}. A class has one label: '
            'take the others out.'
        )
    return classes


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'
