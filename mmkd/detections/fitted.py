"""A file's detections as those of the images and classes of a data set."""

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from mmkd.config.names import first_of
from mmkd.datasets.mixed_batches import UNLABELLED
from mmkd.detections.places import Places
from mmkd.detections.results_file import WHERE, Results
from mmkd.detections.student_classes import one_of_each, student_classes
from mmkd.heads.class_map import ClassMap

OTHER_IMAGES = 'detections of other images left out'
OTHER_CLASSES = 'detections of classes that the student does not have left out'
SHOWN_TWICE = 'detections of objects that a surer one shows left out'

ImageDetections = tuple[Tensor, Tensor]  # boxes (n, 4) in pixels of the image, scores (n, C)


@dataclass
class Tally:
    """What of a file does not serve, and of a data set is not served.

    Args:
        left_out: how many detections, by why.
        images: how many the data set has.
        with_detections: in how many of them something is detected.
        not_looked_at: how many annotated ones the file does not list as looked at.
        unlabelled: how many images without annotations the data set has, of these...
        unlabelled_not_looked_at: so many were not looked at, as far as the file tells.
        never_found: classes that ``class_map`` names, and no detection is of.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    images: int = 0
    with_detections: int = 0
    not_looked_at: int = 0
    unlabelled: int = 0
    unlabelled_not_looked_at: int = 0
    never_found: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """How many images were not looked at, with annotations or without."""
        return self.not_looked_at + self.unlabelled_not_looked_at

    @property
    def other_images(self) -> int:
        """How many detections are of images that the data set does not have."""
        return self.left_out[OTHER_IMAGES]

    def warning(self, path: str) -> str:
        """What to do of images that were not looked at."""
        return (
            f'{WHERE}: {self.unlabelled_not_looked_at} of {self.unlabelled} images without '
            f'annotations and {self.not_looked_at} of the {self.images - self.unlabelled} '
            f'others were not looked at by what wrote "{path}", and its terms leave them out. '
            'Label these images, too, with "mmkd label", or name others.'
        )

    def notes(self, path: str) -> list[str]:
        """Lines for the log."""
        lines = [
            f'{WHERE}: "{path}" has detections in {self.with_detections} of {self.images} '
            'training images'
            + (
                f'; {self.lost} were not looked at, and it teaches nothing there'
                if self.lost
                else ''
            )
        ]
        if self.never_found:
            lines.append(
                f'{WHERE}: class_map names {first_of(self.never_found)}, but no detection of '
                f'"{path}" is of such a class'
            )
        if self.left_out:
            lines.append(f'{WHERE}: of "{path}", {self.shown()} (docs/any_teacher.md)')
        return lines

    def shown(self) -> str:
        """How many detections are left out, or changed, by why."""
        return ', '.join(f'{count} {what}' for what, count in self.left_out.items())


class Given(tuple[Tensor, Tensor]):
    """The boxes and scores of an image, and the numbers of the files that did not look at it."""

    unseen: frozenset[int] = frozenset()

    @classmethod
    def of(cls, found: ImageDetections, unseen: frozenset[int]) -> 'Given':
        """Of what is known of an image."""
        made = cls(found)
        made.unseen = unseen
        return made


class FittedResults:
    """Gives the detections of an image by what a data set knows of it.

    Args:
        by_image: detections by ``img_id``.
        classes: C, how many the student has.
        not_seen: ``img_id`` of the images that were not looked at. Defaults to (), all were.
    """

    def __init__(
        self, by_image: Mapping[Any, ImageDetections], classes: int, not_seen: Collection[Any] = ()
    ) -> None:
        self.by_image, self.not_seen = dict(by_image), set(not_seen)
        self.none = (torch.zeros(0, 4), torch.zeros(0, classes))

    def of(self, info: Mapping[str, Any]) -> 'Given':
        """The boxes and scores of an image."""
        return Given.of(self.by_image.get(info.get('img_id'), self.none), self.unseen(info))

    def unseen(self, info: Mapping[str, Any]) -> frozenset[int]:
        """The number of this file, 0, where it did not look at an image."""
        return frozenset((0,) if info.get('img_id') in self.not_seen else ())


class JoinedResults:
    """Gives what several files have of an image, and of which file each detection is.

    Args:
        files: in order.
    """

    def __init__(self, files: Sequence[FittedResults]) -> None:
        self.files = list(files)

    def of(self, info: Mapping[str, Any]) -> 'Given':
        """The boxes (n, 4) of an image, and the number of the file and the scores (n, 1 + C)."""
        found = [file.of(info) for file in self.files]
        told = [pad(scores, (1, 0), value=float(i)) for i, (_, scores) in enumerate(found)]
        joined = torch.cat([boxes for boxes, _ in found]), torch.cat(told)
        return Given.of(joined, self.unseen(info))

    def unseen(self, info: Mapping[str, Any]) -> frozenset[int]:
        """The numbers of the files that did not look at an image."""
        return frozenset(i for i, file in enumerate(self.files) if file.unseen(info))


def fit_results(
    results: Results,
    datasets: Sequence[Sequence[Mapping[str, Any]]],
    classes: Sequence[str],
    categories: Mapping[Any, str] | None = None,
    class_map: Mapping[str, str | None] | None = None,
) -> tuple[list[FittedResults], Tally]:
    """Bring a file's detections to the images and classes of data sets.

    Which image is which :class:`mmkd.detections.places.Places` finds. Boxes are clipped to their
    image. Left out, with a count, are detections of other images, of classes that the
    student does not have, and boxes of which less than a pixel lies in the image.

    Args:
        results: of the file.
        datasets: of each data set what it knows of each image: ``img_id``, ``img_path``,
            ``height``, ``width``; of one without annotations that it is ``unlabelled``, and its
            ``listed_id`` in a COCO file.
        classes: the names of the student's classes, in the order of its labels.
        categories: the name of each category id, for results that tell none. Defaults to None.
        class_map: the student's name for classes of the teacher that it calls otherwise. Defaults
            to None.

    Raises:
        ValueError: the file has no detection, none is of one of the images, none of one of the
            classes, or none is left; images that it looked at have changed; or a detection may be
            of several images.
    """
    if not len(results):
        raise ValueError(
            f'{WHERE}: a file of detections must have some, but "{results.path}" has none. Label '
            'again with a detector that finds objects in these images.'
        )
    tally, fitted, served = Tally(), [], np.zeros(len(results), bool)
    told, labels, scores = _labels_and_scores(results, classes, categories, class_map, tally)
    soft = np.zeros(len(results), bool)
    if results.distributions is not None:
        soft = ~np.isnan(results.distributions).any(1)
    infos = [info for dataset in datasets for info in dataset]
    places = Places(infos, results)
    places.check_images()
    by_image, looked_at = places.rows(), places.looked_at()
    first = 0
    for dataset in datasets:
        found: dict[Any, ImageDetections] = {}
        not_seen = []
        for index in range(first, first + len(dataset)):
            key, bare = infos[index].get('img_id'), bool(infos[index].get(UNLABELLED))
            tally.unlabelled += bare
            if not looked_at(index):
                not_seen.append(key)
                tally.unlabelled_not_looked_at += bare
                tally.not_looked_at += not bare
            rows = by_image.get(index)
            if rows is None:
                continue
            served[rows] = True
            kept, boxes = _inside(results, rows, places.size(index), tally)
            known = labels[kept] >= 0
            tally.left_out[OTHER_CLASSES] += int((~known).sum())
            kept, boxes = kept[known], boxes[known]
            once, sure = one_of_each(boxes, told[kept], scores[kept], soft[kept])
            tally.left_out[SHOWN_TWICE] += len(kept) - len(once)
            if len(once):
                found[key] = torch.from_numpy(boxes[once]), torch.from_numpy(sure)
        fitted.append(FittedResults(found, len(classes), not_seen))
        first += len(dataset)
        tally.images += len(dataset)
        tally.with_detections += len(found)
    if not served.any():
        raise ValueError(_no_image(results, datasets))
    tally.left_out[OTHER_IMAGES] += int((~served).sum())
    tally.left_out = +tally.left_out  # zeros are no news
    if not tally.with_detections:
        raise ValueError(
            f'{WHERE}: of the detections of "{results.path}" some must be left, but there are '
            f'{tally.shown()}. Write boxes as x, y, width and height in pixels of the image, not '
            "as parts of its sides; and name by class_map what is one of the student's classes."
        )
    return fitted, tally


def _no_image(results: Results, datasets: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    infos = [info for dataset in datasets for info in dataset]
    named = [name for name in results.file_names if name]
    found = list(dict.fromkeys(named or map(json.dumps, results.image_ids)))
    own = [
        os.path.basename(str(info.get('img_path'))) if named else json.dumps(info.get('img_id'))
        for info in infos
    ]
    return (
        f'{WHERE}: the {"file_name" if named else "image_id"} of the detections must be those of '
        f'training images, but in "{results.path}" none is: it has {first_of(found, 3)}, and the '
        f'data set {first_of(own, 3)}. Label the images that the student is trained on, or write '
        'ids as the annotations have them.'
    )


def _inside(
    results: Results, rows: Sequence[int], size: tuple[Any, Any], tally: Tally
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Which of the rows lie in their image, and their boxes, clipped to it."""
    index = np.array(rows)
    boxes = results.boxes[index]
    height, width = size
    limit = [np.inf if side is None else side for side in (width, height, width, height)]
    clipped = np.minimum(np.maximum(boxes, 0), np.array(limit, np.float32))
    whole = ((clipped[:, 2:] - clipped[:, :2]) >= 1).all(1)
    tally.left_out['boxes without a pixel in the image left out'] += int((~whole).sum())
    # What rounding alone puts beyond the image is no news.
    beyond = (np.abs(clipped - boxes) > 1).any(1) & whole
    tally.left_out['boxes clipped to the image'] += int(beyond.sum())
    return index[whole], clipped[whole]


def _labels_and_scores(
    results: Results,
    classes: Sequence[str],
    categories: Mapping[Any, str] | None,
    class_map: Mapping[str, str | None] | None,
    tally: Tally,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The teacher's label of each, the student's, -1 for none, and the scores of all (N, C)."""
    names = [
        name or (categories or {}).get(key) or f'category_id {key}'
        for name, key in zip(results.names, results.category_ids, strict=True)
    ]
    known = list(dict.fromkeys([*(results.classes or ()), *names]))
    place = {name: i for i, name in enumerate(known)}
    own = np.array([place[name] for name in names], dtype=np.int64)
    distributions = results.distributions
    if distributions is not None:  # of the file's classes, which come first
        more = len(known) - distributions.shape[1]
        distributions = np.pad(distributions, ((0, 0), (0, more)))
    said = dict(class_map or {})
    if results.classes is None:  # it may know classes of which it has found nothing here
        tally.never_found = [name for name in said if name not in place]
        said = {name: partner for name, partner in said.items() if name in place}
    try:
        ClassMap.from_names([*known, *tally.never_found], classes, class_map)
        found = ClassMap.from_names(known, classes, said)
    except ValueError as error:
        raise ValueError(
            f'{WHERE}: of "{results.path}", {error} Or give each result its category_name.'
        ) from None
    return own, *student_classes(found, own, results.scores, distributions, results.softmax)
