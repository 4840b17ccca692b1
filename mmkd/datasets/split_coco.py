"""Parts of a COCO annotation file, drawn by chance."""

import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkd.datasets.annotations import check_coco
from mmkd.fileio.atomic_writes import write_atomic


def split_coco(
    content: dict[str, Any], shares: Mapping[str, float], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """The COCO content of each part: an image is in one of them, with its annotations."""
    order = list(range(len(content['images'])))
    random.Random(seed).shuffle(order)
    parts = {}
    before = 0.0
    for name, share in shares.items():
        start, end = (round(border * len(order)) for border in (before, before + share))
        before += share
        images = [content['images'][index] for index in sorted(order[start:end])]
        ids = {image['id'] for image in images}
        annotations = [a for a in content['annotations'] if a['image_id'] in ids]
        parts[name] = {**content, 'images': images, 'annotations': annotations}
    return parts


def write_parts(
    path: Path, shares: Sequence[tuple[str, float]], seed: int = 0, force: bool = False
) -> dict[Path, int]:
    """Split an annotation file into ``NAME.json`` beside it; none if one cannot be made.

    Args:
        path: the file to split.
        shares: each part's name and its share of the images; they add up to 1.
        seed: of the draw. Defaults to 0.
        force: overwrite parts that are there. Defaults to False.

    Returns:
        dict: how many images each file has.

    Raises:
        ValueError: the shares or the file are not as they must be, or a part would be empty.
        FileExistsError: a part is there.
    """
    by_name = dict(shares)
    if len(by_name) < len(shares) or not math.isclose(sum(by_name.values()), 1):
        raise ValueError(f'--shares must name each part once and add up to 1, got {shares}.')
    out = {name: path.with_name(f'{name}.json') for name in by_name}
    for part in out.values():
        if os.path.realpath(part) == os.path.realpath(path):
            raise ValueError(f'{part} is what is split: no part may have its name.')
        if part.exists() and not force:
            raise FileExistsError(f'{part} must not exist yet, but it does; --force overwrites it.')
    check_coco('annotations', str(path), None)
    parts = split_coco(json.loads(path.read_bytes()), by_name, seed)
    empty = [name for name, content in parts.items() if not content['images']]
    if empty:
        raise ValueError(f'Each part must have images, but none are left for {", ".join(empty)}.')
    for name, content in parts.items():
        write_atomic(out[name], json.dumps(content).encode())
    return {out[name]: len(content['images']) for name, content in parts.items()}
