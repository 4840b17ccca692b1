"""Images that are nearly the same, found by thumbnails."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

#: Sides of a thumbnail in pixels.
_SIDE = 16

#: Correlations of thumbnails from which two images are twins, as they are and mirrored or turned:
#: frames of a film, copies of other size, light or compression. Of 364 blood cells one pair has
#: more than 0.65, and that pair shows one place; so do those of 363 cards above 0.9.
ALIKE, MIRRORED = 0.9, 0.97

#: Where these would leave no way to split, only stricter ones count: a camera that never moves.
STRICTER = ((0.97, 0.985), (0.99, 0.995), (0.999, 0.999))

#: Images that are compared with all others at once; a film may make a pair of each two.
_BLOCK = 512


def thumbnails(paths: Sequence[Path]) -> NDArray[np.float32]:
    """(N, 16, 16), grey, each with a mean of 0 and a norm of 1; 0 where an image is of one grey.

    An image that cannot be decoded counts as one of one grey: what loads it says so.
    """
    found = np.zeros((len(paths), _SIDE, _SIDE), np.float32)
    for i, path in enumerate(paths):
        grey = cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_4)
        if grey is None:
            continue
        small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        small -= small.mean()
        norm = float(np.linalg.norm(small))
        if norm > _SIDE:  # a grey level on the mean
            found[i] = small / norm
    return found


def twin_groups(
    thumbs: NDArray[np.float32], alike: float = ALIKE, mirrored: float = MIRRORED
) -> list[list[int]]:
    """The numbers of the images, those together of which each has a twin among the others.

    Args:
        thumbs: see :func:`thumbnails`.
        alike: the correlation from which two are twins.
        mirrored: the same if one of them is mirrored, or turned by 180°.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> thumbs = rng.normal(size=(2, 16, 16)).astype(np.float32)
        >>> thumbs /= np.linalg.norm(thumbs, axis=(1, 2), keepdims=True)
        >>> twin_groups(np.stack([thumbs[0], thumbs[1], thumbs[0][:, ::-1]]))
        [[0, 2], [1]]
    """
    count = len(thumbs)
    labels: NDArray[np.int64] = np.arange(count, dtype=np.int64)
    flat = thumbs.reshape(count, -1)
    views = [(thumbs, alike)]
    views += [(view, mirrored) for view in (thumbs[:, ::-1], thumbs[:, :, ::-1])]
    views.append((thumbs[:, ::-1, ::-1], mirrored))
    for view, limit in views:
        other = np.ascontiguousarray(view).reshape(count, -1)
        for start in range(0, count, _BLOCK):
            rows, columns = np.nonzero(flat[start : start + _BLOCK] @ other.T >= limit)
            labels = _joined(labels, rows + start, columns)
    groups: dict[int, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(i)
    return list(groups.values())


def _joined(
    labels: NDArray[np.int64], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The labels of groups when images of ``rows`` belong together with those of ``columns``."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = (np.ones(len(rows), bool), (labels[rows], labels[columns]))
    _, joined = connected_components(coo_matrix(edges, shape=(len(labels),) * 2), directed=False)
    return np.asarray(joined)[labels]
