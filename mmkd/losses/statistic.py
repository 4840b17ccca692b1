"""What a loss says of an item of its ``logs``."""

from typing import NamedTuple


class Statistic(NamedTuple):
    """Meaning of a logged statistic; a loss lists them by key in its attribute ``statistics``.

    Args:
        meaning: in a few words.
        remedy: what to look at where it is 0; '' where that is no fault. Defaults to ''.
    """

    meaning: str
    remedy: str = ''
