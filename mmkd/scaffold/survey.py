"""What a data set is like: its images, its objects, how they lie, the light."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd.scaffold.labelled_images import LabelledImage
from mmkd.scaffold.upright import look_upright

#: So many images say how the light of all varies.
_LOOKED_AT = 128

#: Grey levels by which images of one instrument under one light differ at most: blood cells under
#: a microscope have 4, photographs of cards 28.
_ONE_LIGHT = 10.0

#: Fewer objects say nothing of how they lie, and fewer images nothing of their light.
_FEW, _FEW_IMAGES = 100, 20

#: So large a share of the objects decides for all of them.
_GOOD_PART = 0.25

#: Names whose objects are others in the mirror: letters and numbers; and words of such names.
_READ = re.compile(r'[^\W_]|\d+|zero|one|two|three|four|five|six|seven|eight|nine|ten')
_READ_WORD = re.compile('left|right|letters?|digits?|numbers?|licen[cs]e|text|words?|arrows?')

#: Of names whose objects are told by their colour.
_COLOURED = re.compile(
    '(red|green|blue|yellow|orange|purple|violet|pink|brown|black|white|gr[ae]y|ripe|unripe|'
    'rotten|fresh)'
)


class Survey(NamedTuple):
    """What a data set is like.

    Args:
        widths: (N,) of the images, in pixels.
        heights: (N,).
        sizes: (G, 2), width and height of the objects in pixels.
        owners: (G,), of each object the number of its image.
        counts: of the objects by class.
        light: standard deviation of the images' mean brightness, in grey levels.
        lies_anyhow: whether objects lie everywhere and either way, as seen from above.
        read: classes whose objects are others in the mirror.
        coloured: classes that are told by their colour.
    """

    widths: NDArray[np.float64]
    heights: NDArray[np.float64]
    sizes: NDArray[np.float64]
    owners: NDArray[np.int64]
    counts: Counter[str]
    light: float
    lies_anyhow: bool
    read: list[str]
    coloured: list[str]

    @property
    def one_instrument(self) -> bool:
        """Whether all images have one light: a microscope, a scanner, a fixed camera."""
        return self.light < _ONE_LIGHT and len(self.widths) >= _FEW_IMAGES

    @property
    def aspect(self) -> float:
        """Width over height of the image in the middle."""
        return math.exp(float(np.median(np.log(self.widths / self.heights))))

    def sides(self, width: int, height: int, keep_ratio: bool) -> NDArray[np.float64]:
        """Side lengths of the objects (square roots of their areas) in pixels of an input."""
        return np.sqrt(self.scaled(width, height, keep_ratio).prod(1))

    def scaled(self, width: int, height: int, keep_ratio: bool) -> NDArray[np.float64]:
        """(G, 2), the objects in pixels of an input."""
        scale = np.stack([width / self.widths, height / self.heights], 1)
        if keep_ratio:
            scale = np.repeat(scale.min(1, keepdims=True), 2, axis=1)
        return self.sizes * scale[self.owners]


def survey(images: Sequence[LabelledImage], classes: Sequence[str]) -> Survey:
    """Look at the training images of a data set.

    Args:
        images: at least one has an object.
        classes: their names.
    """
    objects = [(i, one) for i, p in enumerate(images) for one in p.objects if not one.crowd]
    boxes = np.array([one.box for _, one in objects], np.float64).reshape(-1, 4)
    owners = np.array([i for i, _ in objects], np.int64)
    sizes = boxes[:, 2:] - boxes[:, :2]
    large = (sizes >= 1).all(1)
    counts = Counter(one.name for _, one in objects)
    widths, heights = np.array([p.size for p in images], np.float64).T
    return Survey(
        widths,
        heights,
        sizes[large],
        owners[large],
        counts,
        _light([p.path for p in images]),
        _lies_anyhow(boxes[large], heights[owners[large]], widths[owners[large]])
        and not look_upright(images),
        _many([n for n in classes if _READ.fullmatch(n.lower()) or _has(n, _READ_WORD)], counts),
        _many([n for n in classes if _has(n, _COLOURED)], counts),
    )


def _light(paths: Sequence[Path]) -> float:
    step = max(len(paths) // _LOOKED_AT, 1)
    found = [cv2.imread(str(p), cv2.IMREAD_REDUCED_GRAYSCALE_8) for p in paths[::step]]
    means = [float(grey.mean()) for grey in found if grey is not None]
    return float(np.std(means)) if means else 0.0


def _lies_anyhow(
    boxes: NDArray[np.float64], heights: NDArray[np.float64], widths: NDArray[np.float64]
) -> bool:
    """Whether nothing in the boxes tells which side is up.

    Things on the ground stand taller than wide or lie, keep to a height in the image, and are
    larger the lower they stand; seen from above they do none of that.
    """
    if len(boxes) < _FEW:
        return False
    size = boxes[:, 2:] - boxes[:, :2]
    # Of the room that an object has: 0 at the top, 1 at the bottom, whatever its size.
    place = np.clip(boxes[:, 1] / np.maximum(heights - size[:, 1], 1), 0, 1)
    tall = np.log(size[:, 1] / size[:, 0])
    side = np.log(np.sqrt(size.prod(1) / widths / heights))
    slope = 0.0
    if side.std() > 0 and place.std() > 0:
        slope = float(np.corrcoef(place, side)[0, 1])
    return bool(
        abs(place.mean() - 0.5) < 0.03
        and place.std() > 0.24
        and abs(tall.mean()) < 0.1
        and abs(slope) < 0.1
    )


def _many(names: list[str], counts: Counter[str]) -> list[str]:
    """The names, if a good part of the objects has one of them; else none."""
    return names if sum(counts[n] for n in names) >= _GOOD_PART * counts.total() else []


def _has(name: str, words: re.Pattern[str]) -> bool:
    return any(words.fullmatch(word) for word in re.findall(r'[^\W_]+', name.lower()))
