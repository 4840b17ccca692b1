"""Images of scikit-learn's real handwritten digits, drawn on the spot.

Each image is a textured canvas with one to four of the 1797 digits of
``sklearn.datasets.load_digits`` on it; train and val use disjoint digits. All
arithmetic on pixels is in integers and every image has a random stream of its own,
so image ``i`` of a split is the same on every machine, whatever the number of images.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
VERSION = 1  # raise it when the same settings give other pixels
SPLITS = ('train', 'val')


@dataclass(frozen=True)
class DigitsSettings:
    """What a digits data set depends on.

    Args:
        train (int): Training images. Defaults to 2400.
        val (int): Validation images. Defaults to 300.
        seed (int): Seed of the split, the placement and the looks. Defaults to 0.
        canvas (int): Side of the square images in pixels. Defaults to 128.
        min_size (int): Smallest longer side of a digit's 8x8 grid in pixels. Defaults to 16.
        max_size (int): Largest longer side of a digit's 8x8 grid in pixels. Defaults to 56.
    """

    train: int = 2400
    val: int = 300
    seed: int = 0
    canvas: int = 128
    min_size: int = 16
    max_size: int = 56

    def __post_init__(self) -> None:
        if min(self.train, self.val) < 1:
            raise ValueError(
                f'a split needs at least one image, got train={self.train}, val={self.val}: '
                'raise the smaller one'
            )
        if not 8 <= self.min_size <= self.max_size <= self.canvas:
            raise ValueError(
                'digit sizes must satisfy 8 <= min_size <= max_size <= canvas, got '
                f'{self.min_size}, {self.max_size}, {self.canvas}'
            )


@dataclass(frozen=True)
class DigitsImage:
    """One image with its objects.

    Args:
        name (str): File name without extension, e.g. ``'train_00003'``.
        pixels (np.ndarray): (H, W, 3) uint8, BGR as OpenCV writes it.
        boxes (np.ndarray): (G, 4) int64, ``(x1, y1, x2, y2)`` in pixels, x2 and y2 exclusive.
        labels (np.ndarray): (G,) int64, the digit's value.
        sources (np.ndarray): (G,) int64, index of the digit in ``load_digits``.
    """

    name: str
    pixels: NDArray[Any]
    boxes: NDArray[Any]
    labels: NDArray[Any]
    sources: NDArray[Any]


def split_digits(seed: int) -> dict[str, NDArray[Any]]:
    """Indices into ``load_digits``: one digit in five of each class for val, the rest train."""
    from sklearn.datasets import load_digits

    target = load_digits().target
    rng = np.random.default_rng([seed, len(SPLITS)])
    held = []
    for label in range(len(CLASSES)):
        members = np.flatnonzero(target == label)
        held.append(members[rng.permutation(len(members))[: len(members) // 5]])
    val = np.sort(np.concatenate(held))
    return {'train': np.setdiff1d(np.arange(len(target)), val), 'val': val}


def _bilinear(size: int, source: int) -> NDArray[Any]:
    """(size, source) int64 weights of a linear upscaling; each row sums to 256."""
    centre = ((2 * np.arange(size) + 1) * source * 256) // (2 * size) - 128
    centre = np.clip(centre, 0, (source - 1) * 256)
    low, frac = centre >> 8, centre & 255
    weights = np.zeros((size, source), dtype=np.int64)
    rows = np.arange(size)
    weights[rows, low] = 256 - frac
    weights[rows, np.minimum(low + 1, source - 1)] += frac
    return weights


def _upscale(grid: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """(h, w) int64 to (height, width), in the same units."""
    rows = _bilinear(height, grid.shape[0]) @ grid
    return (rows @ _bilinear(width, grid.shape[1]).T) >> 16


def _texture(rng: np.random.Generator, size: int) -> NDArray[Any]:
    """(size, size, 3) int64: a base colour, two scales of blotches, and faint stripes."""
    canvas = np.broadcast_to(rng.integers(40, 216, size=3), (size, size, 3)).copy()
    for cells, contrast in ((rng.integers(2, 6), 40), (rng.integers(8, 33), 24)):
        shared = rng.integers(-contrast, contrast + 1, size=(cells, cells))
        for channel in range(3):
            own = rng.integers(-contrast, contrast + 1, size=(cells, cells))
            canvas[..., channel] += _upscale((shared + own) // 2, size, size)
    y, x = np.mgrid[:size, :size]
    dx, dy = rng.integers(-3, 4, size=2)
    period = rng.integers(12, 48)
    stripes = np.abs((dx * x + dy * y) % period - period // 2) * 2 - period // 2
    return canvas + (stripes * rng.integers(0, 17) // period)[..., None]


def _overlaps(box: NDArray[Any], boxes: list[NDArray[Any]], gap: int) -> bool:
    return any(
        box[0] < o[2] + gap and o[0] < box[2] + gap and box[1] < o[3] + gap and o[1] < box[3] + gap
        for o in boxes
    )


def draw_image(split: str, index: int, settings: DigitsSettings) -> DigitsImage:
    """Draw image ``index`` of a split."""
    return next(draw_images(split, settings, [index]))


def draw_images(
    split: str, settings: DigitsSettings, indices: Iterable[int] | None = None
) -> Iterator[DigitsImage]:
    """Draw a split's images one after the other, or those of the given indices."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grids = digits.images.astype(np.int64)  # (1797, 8, 8), ink from 0 to 16
    pool = split_digits(settings.seed)[split]
    if indices is None:
        indices = range(getattr(settings, split))
    for index in indices:
        rng = np.random.default_rng([settings.seed, SPLITS.index(split), index])
        yield _draw(rng, f'{split}_{index:05d}', grids, digits.target, pool, settings)


def _draw(
    rng: Any,
    name: str,
    grids: Any,
    target: Any,
    pool: Any,
    settings: DigitsSettings,
) -> DigitsImage:
    size = settings.canvas
    canvas = _texture(rng, size)
    boxes: list[NDArray[Any]] = []
    sources: list[int] = []
    for _ in range(rng.integers(1, 5)):
        source = pool[rng.integers(len(pool))]
        for _attempt in range(20):
            longer = rng.integers(settings.min_size, settings.max_size + 1)
            shorter = max(8, longer * rng.integers(75, 101) // 100)
            height, width = (longer, shorter) if rng.integers(2) else (shorter, longer)
            ink = _upscale(grids[source] * 16, height, width)
            ink = np.clip((ink - 64) * 2, 0, 255)  # crisper strokes
            rows, columns = (np.flatnonzero((ink > 127).any(axis)) for axis in (1, 0))
            top, left = rng.integers(0, size - height + 1), rng.integers(0, size - width + 1)
            box = np.array(
                [left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1]
            )
            if not _overlaps(box, boxes, gap=2):
                break
        else:
            continue  # a full canvas
        window = canvas[top : top + height, left : left + width]
        # A colour that stands out: away from the mean below it, by 56 to 120 grey levels.
        mean = window.sum(axis=(0, 1)) // (height * width)
        shift = rng.integers(56, 121)
        sign = 1 if mean.sum() < 3 * 96 or (mean.sum() < 3 * 160 and rng.integers(2)) else -1
        colour = mean + sign * shift + rng.integers(-24, 25, size=3)
        window += ((colour - window) * ink[..., None]) >> 8
        boxes.append(box)
        sources.append(source)
    return DigitsImage(
        name=name,
        pixels=np.clip(canvas, 0, 255).astype(np.uint8),
        boxes=np.array(boxes, dtype=np.int64).reshape(-1, 4),
        labels=target[sources].astype(np.int64),
        sources=np.array(sources, dtype=np.int64),
    )
