"""How messages tell of names: those that may be meant, and the first of many."""

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], count: int = 3, cutoff: float = 0.5) -> list[str]:
    """Those of ``names`` that are written most like ``name``, the nearest first.

    Args:
        name: what was received.
        names: what is known.
        count: how many at most. Defaults to 3.
        cutoff: how like they must be, from 0 to 1, the same. Defaults to 0.5.

    >>> nearest('bbox_haed', ['backbone', 'neck', 'bbox_head'])
    ['bbox_head']
    """
    return difflib.get_close_matches(name, list(names), count, cutoff)


def first_of(items: Iterable[object], count: int = 5, counted: bool = False) -> str:
    """The first ``count`` of some items, and that there are more, or how many more.

    >>> first_of('abcd', 2), first_of('abcd', 2, counted=True), first_of('ab', 2)
    ('a, b, ...', 'a, b and 2 more', 'a, b')
    """
    texts = [str(item) for item in items]
    rest = len(texts) - count
    more = f' and {rest} more' if counted else ', ...'
    return ', '.join(texts[:count]) + (more if rest > 0 else '')
