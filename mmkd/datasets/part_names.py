"""Which part of a data set a file or a folder is meant for, by its name."""

import re

#: By the name of a part, words that stand for it.
WORDS = {
    'train': ('train', 'training'),
    'val': ('val', 'valid', 'validation', 'dev', 'eval'),
    'test': ('test', 'testing'),
}


def part_of(name: str) -> str | None:
    """The part that a name speaks of; None where it speaks of none, or of several.

    >>> [part_of(name) for name in ('instances_val2017', 'train', 'trainval', 'latest', 'all')]
    ['val', 'train', None, None, None]
    """
    words = re.findall('[a-z]+', name.lower())
    found = [part for part, known in WORDS.items() if set(words) & set(known)]
    return found[0] if len(found) == 1 else None
