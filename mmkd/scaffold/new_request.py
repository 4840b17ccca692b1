"""What a new pair is asked for with."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NewRequest:
    """What a new pair is asked for with.

    Args:
        data: see :func:`mmkd.scaffold.read_source.read_source`.
        out: the folder to write.
        configs: the folder of the configs that come with mmkd.
        images: where the images lie. Defaults to None: with the data.
        size: 'small' or 'medium'.
        head: a key of :data:`mmkd.scaffold.recipes.RECIPES`.
        offline: without weights of others.
        force: overwrite files that are there. Defaults to False.
    """

    data: Path
    out: Path
    configs: Path
    images: Path | None = None
    size: str = 'small'
    head: str = 'ssd'
    offline: bool = False
    force: bool = False
