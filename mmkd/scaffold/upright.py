"""Whether the look of objects tells which side of them is up."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd.scaffold.labelled_images import LabelledImage

_IMAGES = 128  # at most, of which objects are looked at
_SIDE = 16  # of an object as it is looked at, in pixels
_FEW = 40  # objects say nothing of what they have in common
#: Of the squares' energy, the part that turns over with the object and that all have in common:
#: blood cells have 0.01, playing cards that lie anyhow up to 0.035, a drawn face 0.25.
_COMMON = 0.05


def look_upright(images: Sequence[LabelledImage]) -> bool:
    """Whether the objects of some class look the same way up, by their pixels.

    Each object is scaled to a square, of its grey levels and of its edges, which are the same
    whether it is lighter or darker than what is behind it. What changes when a square is turned
    over cancels out over many objects that lie anyhow, and does not over those that stand.
    """
    step = -(-len(images) // _IMAGES)
    found: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for image in images[::step]:
        pixels = cv2.imread(str(image.path), cv2.IMREAD_GRAYSCALE)
        if pixels is None or pixels.shape[::-1] != tuple(image.size):
            continue
        for one in image.objects:
            left, top, right, bottom = (max(round(side), 0) for side in one.box)
            crop = pixels[top:bottom, left:right]
            if not one.crowd and min(crop.shape) > 1:
                found[one.name].append(_square(crop))
    most = max(map(len, found.values()), default=0)
    kinds = [looks for looks in found.values() if len(looks) * 4 > most]
    together = [one for looks in found.values() for one in looks]  # of classes with few objects
    known = [np.stack(looks) for looks in [*kinds, together] if len(looks) >= _FEW]
    return any(_common(looks[:, kind]) > _COMMON for looks in known for kind in (0, 1))


def _square(crop: NDArray[Any]) -> NDArray[np.float64]:
    """(2, _SIDE, _SIDE), grey levels and edges, each with mean 0 and norm 1."""
    large = cv2.resize(crop, (3 * _SIDE, 3 * _SIDE), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    edges = np.hypot(cv2.Sobel(large, -1, 1, 0), cv2.Sobel(large, -1, 0, 1))
    found = []
    for seen in (large, edges):
        scaled = cv2.resize(seen, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
        scaled -= scaled.mean()
        found.append(scaled / max(float(np.linalg.norm(scaled)), 1.0))
    return np.stack(found)


def _common(each: NDArray[np.float64]) -> float:
    """The larger part of two ways to turn over, without what chance has in common."""
    found = []
    for turned in (each[:, ::-1], each[:, ::-1, ::-1]):
        odd = (each - turned) / 2
        energy = float((odd**2).sum((1, 2)).mean())
        found.append(float((odd.mean(0) ** 2).sum()) - energy / len(each))
    return max(found)
