"""A detector's detections in images, as a file that teaches."""

import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmkd.checkpoints.fetch import sha256_of
from mmkd.config.config_files import config_files
from mmkd.config.given_teacher import RESULTS
from mmkd.datasets.kept_boxes import is_id
from mmkd.datasets.listed_images import ListedImage, find_images
from mmkd.detections.results_file import CLASSES, DETECTOR, DISTRIBUTION, IMAGES, SOFTMAX
from mmkd.errors import ImageError
from mmkd.fileio.atomic_writes import write_atomic
from mmkd.fileio.check_not_read import check_not_read
from mmkd.label.detectors import Labels, Looked, open_detector
from mmkd.label.mirrored import fused, mirrored_back
from mmkd.label.progress_file import ProgressFile, part_of
from mmkd.predict.outputs import check_outputs, drawn_file, encoded
from mmkd.predict.sources import Source
from mmkd.teachers.outside_detectors import Found
from mmkd.visualization.detections import draw_detections
from mmkd_onnx.detector import check_batch

#: What is drawn scores at least so much.
DRAWN = 0.3


@dataclass
class Outcome:
    """What came of it.

    Args:
        images: how many were looked at, in all runs.
        results: how many detections the file has.
        unreadable: by file, why.
    """

    images: int = 0
    results: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


def label_images(
    detector: str | os.PathLike[str] | Callable[..., Any],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    tta: bool = False,
    soft: bool = False,
    score_thr: float = 0.05,
    draw: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    classes: Sequence[str] = (),
    softmax: bool = False,
    description: Any = None,
    device: str | None = None,
    batch: int = 1,
    overwrite: bool = False,
) -> Outcome:
    """Detect in images, and write what was found as a file that a pair takes for its teacher.

    Interrupted, it goes on when it is called again with the same arguments.

    Args:
        detector: as of :func:`mmkd.label.detectors.open_detector`; or a function ``images -> boxes,
            scores, labels`` with ``classes``
            (:class:`mmkd.teachers.outside_detectors.FunctionDetector`).
        images: as of :func:`mmkd.datasets.listed_images.find_images`.
        out: the file: COCO results, with the digests of the weights and of each image.
        checkpoint: of a config, or of a detector of torchvision.
        tta: look at the mirror image as well.
        soft: write the score of each class, too.
        score_thr: what scores less is left out. Defaults to 0.05.
        draw: a folder for drawn images. Defaults to None.
        root: the folder of a COCO file's images.
        classes: names of a function's or torchvision's classes; of others in the place of theirs.
        softmax: whether a function's scores of all classes exclude each other.
        description: of an ONNX file of another program.
        device: where it computes. Defaults to None: a GPU if there is one.
        batch: images at once. Defaults to 1.
        overwrite: whether files may be replaced, and begun work thrown away.

    Raises:
        OSError, ValueError: before work starts, whatever would end it.
    """
    if isinstance(score_thr, bool | str) or not 0 <= score_thr <= 1:
        raise ValueError(f'score_thr must be a number from 0 to 1, but got {score_thr!r}.')
    check_batch(batch)
    out, folder = Path(out), None if draw is None else Path(draw)
    detector = os.fspath(detector) if isinstance(detector, os.PathLike) else detector
    checkpoint = None if checkpoint is None else os.fspath(checkpoint)
    named = [images] if isinstance(images, str | os.PathLike) else images
    words = [os.fspath(one) for one in named]
    found = find_images(words, None if root is None else os.fspath(root), folder)
    drawn = {} if folder is None else {image.file_name: _drawn(folder, image) for image in found}
    read = [*_read(detector, words, checkpoint, description), *(image.path for image in found)]
    check_outputs([out], read, overwrite)
    check_not_read([part_of(out), *drawn.values()], read)
    opened = open_detector(detector, checkpoint, device, soft, classes, description, softmax)
    told = dict(
        detector=detector if isinstance(detector, str) else opened.name,
        sha256=opened.digest, tta=tta, soft=soft, score_thr=score_thr,
    )  # fmt: skip
    progress = ProgressFile(out, {**told, **_besides(opened, found, batch)}, overwrite)
    own = {line.get('drawn') for line in progress.lines.values()}
    files = [out, *(target for target in drawn.values() if str(target) not in own)]
    check_outputs(files, read, overwrite)
    progress.begin()
    outcome = Outcome()
    try:
        _work(opened, found, progress, outcome, tta, soft, score_thr, drawn, batch)
    finally:
        progress.close()
    kept = [progress.lines[i.id] for i in found if i.id in progress.lines]
    ids = _category_ids(words, opened.classes)
    results = [
        dict(row, category_id=ids[row['category_name']]) for line in kept for row in line['results']
    ]
    content = {
        DETECTOR: told,
        CLASSES: list(opened.classes),
        IMAGES: [line['image'] for line in kept],
        **({SOFTMAX: opened.softmax} if soft else {}),
        RESULTS: results,
    }
    write_atomic(out, json.dumps(content, allow_nan=False).encode())
    progress.remove()
    outcome.images, outcome.results = len(kept), len(results)
    return outcome


def _read(
    detector: str | Callable[..., Any],
    images: Sequence[str],
    checkpoint: str | None,
    description: Any,
) -> list[Any]:
    """The files that are read beside the images: lists, the detector and what it needs."""
    described = description if isinstance(description, str | os.PathLike) else None
    if not isinstance(detector, str):
        return [*images, getattr(getattr(detector, '__code__', None), 'co_filename', None)]
    return [*images, detector, f'{detector}.data', *config_files(detector), checkpoint, described]


def _besides(detector: Labels, images: Sequence[ListedImage], batch: int) -> dict[str, Any]:
    """What else decides the results: work that differs in any of it is other work."""
    listed = json.dumps([(image.id, image.file_name) for image in images]).encode()
    besides = dict(
        classes=list(detector.classes),
        images=f'{len(images)}, sha256 {hashlib.sha256(listed).hexdigest()}',
        **detector.settings,
    )
    return {**besides, 'batch': batch} if detector.sees_batch else besides


def _work(
    detector: Labels,
    images: Sequence[ListedImage],
    progress: ProgressFile,
    outcome: Outcome,
    tta: bool,
    soft: bool,
    score_thr: float,
    drawn: Mapping[str, Path],
    batch: int,
) -> None:
    digests = {
        i.file_name: sha256_of(Path(i.path)) if Path(i.path).is_file() else '' for i in images
    }

    progress.keep({image.id: digests[image.file_name] for image in images})

    def known(image: ListedImage) -> bool:
        line = progress.lines.get(image.id)
        if line is None:
            return False
        target = drawn.get(image.file_name)
        return target is None or (line.get('drawn') == str(target) and target.is_file())

    # A batch stays one: what a function finds in an image may follow from those beside it.
    groups = [images[first : first + batch] for first in range(0, len(images), batch)]
    todo = [group for group in groups if not all(map(known, group))]
    clock = _Clock(len(images), len(images) - sum(map(len, todo)))
    for group in todo:
        for image, (found, pixels) in _looked(detector, group, tta, outcome):
            height, width = pixels.shape[:2]
            record = dict(id=image.id, file_name=image.file_name, width=width, height=height)
            record['sha256'] = digests[image.file_name]
            rows = _rows(image, found, found.scores >= score_thr, detector.classes, soft)
            target = drawn.get(image.file_name)
            if target is None:
                progress.add(record, rows)
                continue
            progress.add(record, rows, drawn=str(target))
            sure = found.scores >= DRAWN
            picture = draw_detections(
                pixels, found.boxes[sure], found.scores[sure], found.labels[sure], detector.classes
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, encoded(target.suffix, picture))
        clock.add(len(group))


def _looked(
    detector: Labels, images: Sequence[ListedImage], tta: bool, outcome: Outcome
) -> list[tuple[ListedImage, Looked]]:
    """What is found in images; one that cannot be read is left out."""
    try:
        looked = detector([image.path for image in images])
        if tta:
            mirrors = [np.ascontiguousarray(pixels[:, ::-1]) for _, pixels in looked]
            views = zip(looked, detector(mirrors), strict=True)
            looked = [
                (fused([found, mirrored_back(other, pixels.shape[1])]), pixels)
                for (found, pixels), (other, _) in views
            ]
    except ImageError as error:
        if len(images) == 1:
            outcome.unreadable[images[0].path] = str(error)
            return []
        return [one for image in images for one in _looked(detector, [image], tta, outcome)]
    return list(zip(images, looked, strict=True))


def _rows(
    image: ListedImage, found: Found, kept: Any, classes: Sequence[str], soft: bool
) -> list[dict[str, Any]]:
    """COCO results, to a hundredth of a pixel and a hundred-thousandth of a score."""
    rows = []
    for i in np.flatnonzero(kept):
        x1, y1, x2, y2 = (float(value) for value in found.boxes[i])
        row: dict[str, Any] = dict(
            image_id=image.id,
            category_name=classes[found.labels[i]],
            bbox=[round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
            score=round(float(found.scores[i]), 5),
        )
        if soft:
            scores = found.distribution[i] if found.distribution is not None else None
            if scores is None:
                scores = np.zeros(len(classes))
                scores[found.labels[i]] = found.scores[i]
            row[DISTRIBUTION] = [round(float(value), 5) for value in scores]
        rows.append(row)
    return rows


def _category_ids(images: Sequence[str], classes: Sequence[str]) -> Mapping[str, Any]:
    """The ids of a COCO file's categories; of others those from 1 on that are none of these."""
    known = {}
    if len(images) == 1 and images[0].lower().endswith('.json'):
        content = json.loads(Path(images[0]).read_bytes())
        told = content.get('categories') or ()
        known = {one.get('name'): one['id'] for one in told if is_id(one.get('id'))}
    free = (i for i in itertools.count(1) if i not in known.values())
    return {name: known[name] if name in known else next(free) for name in classes}


def _drawn(folder: Path, image: ListedImage) -> Path:
    """As ``mmkd predict`` draws it; a name that leads elsewhere stays in the folder."""
    parts = [part for part in Path(image.file_name).parts if part not in ('..', os.sep)]
    return drawn_file(folder, Source('image', image.path, '/'.join(parts)))


class _Clock:
    """Tells every ten seconds, and at the end, how far it is and how long it will take."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.done, self.before = total, done, done
        self.start = self.shown = time.monotonic()
        if done:
            print(f'{done} of {total} images were labelled before', file=sys.stderr)

    def add(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.shown < 10 and self.done < self.total:
            return
        self.shown = now
        rate = (self.done - self.before) / max(now - self.start, 1e-6)
        minutes, seconds = divmod(round((self.total - self.done) / rate), 60)
        print(
            f'{self.done} of {self.total} images, {rate:.1f} a second, '
            f'{minutes}:{seconds:02d} left',
            file=sys.stderr,
            flush=True,
        )
