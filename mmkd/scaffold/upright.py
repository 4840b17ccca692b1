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
#: Of the squares' energy, the part that turns over with the object and that those of a class have
#: in common: blood cells have 0.01, playing cards that lie anyhow 0.02, digits 0.07, a face 0.25.
_COMMON = 0.05


def look_upright(images: Sequence[LabelledImage]) -> bool:
    """Whether the objects of some class look the same way up, by their pixels.

    Each object is scaled to a square, of its grey levels and of its edges, which are the same
    whether it is lighter or darker than what is behind it. What changes when a square is turned
    over cancels out over objects of a class that lie anyhow, and does not over those that stand.
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
    looks = [np.stack(each) for each in found.values()]
    most = max(map(len, looks), default=0)
    # One class may stand where the others lie; many classes may have few objects each.
    groups = [[kind] for kind in looks if len(kind) * 4 > most]
    groups += [looks, [np.concatenate(looks)]] if looks else []
    return any(
        _common([kind[:, seen] for kind in kinds]) > _COMMON
        for kinds in groups
        if sum(len(kind) for kind in kinds if len(kind) > 1) >= _FEW
        for seen in (0, 1)
    )


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


def _common(kinds: Sequence[NDArray[np.float64]]) -> float:
    """What the objects of a kind have in common, without chance; mean over the objects.

    That is the mean product of two objects of a kind; the larger part of two ways to turn over.
    """
    found = []
    for axes in ((1,), (1, 2)):
        total, count = 0.0, 0
        for each in kinds:
            if len(each) > 1:
                odd = (each - np.flip(each, axes)) / 2
                own = float((odd.sum(0) ** 2).sum() - (odd**2).sum())
                total, count = total + own / (len(each) - 1), count + len(each)
        found.append(total / count)
    return max(found)
