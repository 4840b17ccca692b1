"""The names of the classes of a detector of another program."""

import logging
from collections import Counter
from typing import Any

from mmengine.logging import print_log

from mmkd.config.names import first_of


def class_names(told: Any, remedy: str = 'Give classes=[...].') -> tuple[str, ...]:
    """Names by which each class can be told: repeated and empty ones get the number of the label.

    Tables of labels have such names for numbers that stand for no class, as those of COCO's 91.

    Args:
        told: names, in the order of the labels.
        remedy: what to do where they are none.

    Raises:
        ValueError: they are no list of names.

    >>> class_names(['cat', 'dog'])
    ('cat', 'dog')
    """
    names = [] if told is None or isinstance(told, str) else list(told)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            'classes must be a list of different names, in the order of the labels, but got '
            f'{told!r:.200}. {remedy}'
        )
    count = Counter(names)
    found = list(names)
    for i, name in enumerate(names):
        if count[name] > 1 or not name.strip():
            found[i] = f'{name if name.strip() else "class"} {i}'
            while found[i] in count or found[i] in found[:i]:
                found[i] += '_'
    changed = [name for name, own in zip(found, names, strict=True) if name != own]
    if changed:
        print_log(
            'classes: names that are repeated or empty have the number of their label: '
            f'{first_of(changed, counted=True)}. class_map may say what they are.',
            'current',
            logging.WARNING,
        )
    return tuple(found)
