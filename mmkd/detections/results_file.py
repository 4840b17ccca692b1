"""Files of detections: COCO results from anywhere, or what ``mmkd label`` writes."""

import functools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd.config.given_teacher import RESULTS, content_of, state_of
from mmkd.config.names import first_of
from mmkd.datasets.kept_boxes import is_id
from mmkd.datasets.split import Faults
from mmkd.fileio.nearby import hint

#: The keys of a file of ``mmkd label`` beside the COCO results: the images that were looked at, the
#: names of the classes, and what looked at them.
IMAGES, CLASSES, DETECTOR = 'images', 'classes', 'detector'

#: Whether the scores of a distribution exclude each other; files without the key do not say.
SOFTMAX = 'softmax'

#: Of a result that has it: the score of each class, in the order of the file's ``classes``.
DISTRIBUTION = 'distribution'

WHERE = 'model.teacher'

#: A number beyond it is none that a box can have.
LARGEST = float(np.finfo(np.float32).max)

#: The rule for scores, whatever they come from, and what mends those that break it.
SCORE_RULE = 'each score must be from 0 to 1'
ROUNDING = 1e-5  # what it may add to 1, or take from 0
SCORE_REMEDY = 'Give probabilities: of scores in percent divide by 100, of logits take the sigmoid.'


@dataclass(frozen=True, eq=False)
class Results:
    """The detections of a file, checked as far as the file alone tells.

    Args:
        path: of the file.
        boxes (np.ndarray): (N, 4), float32: x1, y1, x2, y2 in pixels of the image.
        scores (np.ndarray): (N,), float32, from 0 to 1.
        image_ids: of each.
        file_names: of the image of each; None where it is not told.
        category_ids: of each.
        names: of the category of each; None where it is not told.
        distributions (np.ndarray): (N, K), the score of each of ``classes``; NaN where it is not
            told. None where no result has one.
        classes: the names of all classes that the teacher knows; None where they are not told.
        images: what the file says of the images that were looked at; None of a list of results.
        softmax: whether the scores of a distribution are known to exclude each other.
    """

    path: str
    boxes: NDArray[Any]
    scores: NDArray[Any]
    image_ids: list[Any]
    file_names: list[str | None]
    category_ids: list[Any]
    names: list[str | None]
    distributions: NDArray[Any] | None
    classes: tuple[str, ...] | None
    images: list[dict[str, Any]] | None
    softmax: bool = False

    def __len__(self) -> int:
        return len(self.scores)


def read_results(source: str | os.PathLike[str], where: str = WHERE) -> Results:
    """Read a file of detections.

    Args:
        source: the file.
        where: the key of the config that names it, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no COCO results, or one of them breaks a rule.
    """
    path = Path(source if isinstance(source, str | os.PathLike) else repr(source))
    if not path.is_file():
        raise FileNotFoundError(
            f'{where} must be an existing file of detections, but there is no "{path}" (seen from '
            f'{os.getcwd()}). Write one with "mmkd label", or correct the path.'
            f'{hint(str(path.parent), [path.name])}'
        )
    return _read(*state_of(path), where)


@functools.lru_cache(maxsize=2)
def _read(path: str, time: int, size: int, where: str) -> Results:
    try:
        content = content_of(path, time, size)
    except ValueError as error:
        raise ValueError(
            f'{where} must be a file of detections in JSON, but "{path}" cannot be read ({error}). '
            'Write it again.'
        ) from None
    content_of.cache_clear()  # of millions of dicts nothing is kept beside the arrays
    told = content if isinstance(content, dict) else {}
    rows = told.get(RESULTS) if told else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{where} must be COCO's results, a list of objects with image_id, category_id, bbox "
            f'and score, but "{path}" holds {_kind(content)}. Write it with "mmkd label", or in '
            "COCO's results form."
        )
    faults = Faults(where, path)
    names = _class_names(told, faults)
    _check_rows(rows, faults, len(names or ()))
    images = _images(told, faults)
    boxes = np.array([row['bbox'] for row in rows], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    distributions = None
    if any(DISTRIBUTION in row for row in rows):
        blank = [math.nan] * len(names or ())
        told_scores = [row.get(DISTRIBUTION, blank) for row in rows]
        distributions = np.array(told_scores, np.float32).clip(0, 1)
    return Results(
        path,
        boxes.astype(np.float32),
        np.array([row['score'] for row in rows], dtype=np.float32).clip(0, 1),
        [_id(row['image_id']) for row in rows],
        [row.get('file_name') for row in rows],
        [_id(row['category_id']) for row in rows],
        [row.get('category_name') for row in rows],
        distributions,
        names,
        images,
        told.get(SOFTMAX) is True,
    )


def _id(value: Any) -> Any:
    """An id as data sets have it: 3.0 is 3."""
    return int(value) if isinstance(value, float) else value


def _kind(content: Any) -> str:
    if isinstance(content, Mapping):
        return f'an object with {first_of(map(str, content), 6) or "nothing"}'
    if isinstance(content, list):
        odd = next(item for item in content if not isinstance(item, dict))
        return f'a list with {json.dumps(odd)[:60]}'
    return json.dumps(content)[:60]


def _class_names(told: Mapping[str, Any], faults: Faults) -> tuple[str, ...] | None:
    names = told.get(CLASSES)
    if names is None:
        return None
    valid = isinstance(names, list) and all(isinstance(name, str) for name in names)
    faults.refuse(
        'classes must be a list of different names',
        [] if valid and len(set(names)) == len(names) else [json.dumps(names)[:80]],
        'Correct them.',
    )
    return tuple(names)


def _images(told: Mapping[str, Any], faults: Faults) -> list[dict[str, Any]] | None:
    images: Any = told.get(IMAGES)
    if images is None:
        return None
    odd = [one for one in images if not _is_image(one)] if isinstance(images, list) else [images]
    faults.refuse(
        'images must be a list of objects with an id, whose file_name is text, if they have one',
        [json.dumps(one)[:80] for one in odd],
        'Correct them, or leave images out.',
    )
    names: dict[Any, Any] = {}
    faults.refuse(
        'an image must have one id of its own',
        (
            f'{one["id"]} ({names[one["id"]]}, {one.get("file_name")})'
            for one in images
            if names.setdefault(one['id'], one.get('file_name')) != one.get('file_name')
        ),
        'Correct them, or leave images out.',
    )
    return list(images)


def _is_image(one: Any) -> bool:
    told = isinstance(one, dict) and is_id(one.get('id'))
    return told and isinstance(one.get('file_name'), str | None)


def is_score(value: float) -> bool:
    """Whether a number is from 0 to 1, but for rounding."""
    return -ROUNDING <= value <= 1 + ROUNDING


def _check_rows(rows: Sequence[Mapping[str, Any]], faults: Faults, classes: int) -> None:
    """Hold each result to the rules that a file alone can break."""
    faults.refuse(
        'each result must have image_id, category_id, a bbox of four finite numbers, and a score',
        (_shown(i, row) for i, row in enumerate(rows) if not _is_whole(row)),
        'Results have no score where they are annotations: give what a detector found. Correct '
        'the others.',
    )
    faults.refuse(
        SCORE_RULE,
        (
            f'{row["score"]} (result {i})'
            for i, row in enumerate(rows)
            if not is_score(row['score'])
        ),
        SCORE_REMEDY,
    )
    faults.refuse(
        'file_name and category_name must be text, if they are given',
        (
            f'{row[key]!r} (result {i})'
            for i, row in enumerate(rows)
            for key in ('file_name', 'category_name')
            if not isinstance(row.get(key), str | None)
        ),
        'Correct them.',
    )
    faults.refuse(
        f'a {DISTRIBUTION} must have a score from 0 to 1 for each of classes ({classes})',
        (f'result {i}' for i, row in enumerate(rows) if not _is_distribution(row, classes)),
        'Correct them, and name the classes beside the results.',
    )


def _is_whole(row: Mapping[str, Any]) -> bool:
    box, score = row.get('bbox'), row.get('score')
    return (
        is_id(row.get('image_id'))
        and is_id(row.get('category_id'))
        and isinstance(box, list)
        and len(box) == 4
        and all(map(_is_number, box))
        and _is_number(score)
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -LARGEST <= value <= LARGEST  # also of whole numbers that no float can hold


def _is_distribution(row: Mapping[str, Any], classes: int) -> bool:
    values = row.get(DISTRIBUTION)
    if DISTRIBUTION not in row:
        return True
    return (
        isinstance(values, list)
        and len(values) == classes
        and all(_is_number(value) and is_score(value) for value in values)
    )


def _shown(number: int, row: Mapping[str, Any]) -> str:
    parts: Iterator[str] = (
        f'{key}={json.dumps(row[key])[:40]}' if key in row else f'no {key}'
        for key in ('image_id', 'category_id', 'bbox', 'score')
    )
    return f'result {number} ({", ".join(parts)})'
