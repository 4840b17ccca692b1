"""A detector applied to all that was named: found, drawn, written; what cannot be read is told."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

import cv2

from mmkd.errors import ImageError
from mmkd.fileio.atomic_writes import write_atomic
from mmkd.predict.coco_results import CocoResults
from mmkd.predict.detector import Detector, Prepared, groups
from mmkd.predict.frames import Frame, frames
from mmkd.predict.outputs import Drawings
from mmkd.predict.sources import Source
from mmkd.visualization.detections import draw_detections
from mmkd_onnx import Detections

#: What is drawn and counted scores at least so much, unless another threshold is asked for.
SURE = 0.3

_Item: TypeAlias = tuple[Frame, Prepared]


class Watch(Protocol):
    """Is told of each image, with what was found there."""

    def __call__(self, frame: Frame, found: Detections) -> None:
        """Show it."""


@dataclass
class Outcome:
    """What came of it.

    Args:
        images: how many were looked at, frames included.
        objects: how many were found in them, of those that are drawn.
        with_objects: in how many images.
        unreadable: by file, why.
        rows: how many results there are in the JSON.
    """

    images: int = 0
    objects: int = 0
    with_objects: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    rows: int = 0


def predict(
    detector: Detector,
    sources: Sequence[Source],
    watch: Watch,
    out: Path | None = None,
    results: tuple[Path, CocoResults] | None = None,
    score: float | None = None,
    batch: int = 1,
    camera: cv2.VideoCapture | None = None,
) -> Outcome:
    """Find the objects in all sources.

    Args:
        detector: finds them.
        sources: what is looked at.
        watch: is told of each image.
        out: the folder for drawn images and videos. Defaults to None, none are drawn.
        results: the JSON file and what it collects. Defaults to None.
        score: what scores less is left out. Defaults to None: the model's own threshold in the
            results, and :data:`SURE` in drawings and counts.
        batch: how many images the model gets at once. Defaults to 1.
        camera: the source, opened, which an interrupt (Ctrl-C) ends. Defaults to None.

    Raises:
        OSError: a result cannot be written.
    """
    outcome = Outcome()
    with ExitStack() as stack:
        drawings = stack.enter_context(Drawings(out)) if out is not None else None
        items = _prepared(detector, sources, outcome, camera)
        try:
            for group in groups(items, batch, lambda item: item[1]):
                for (frame, prepared), found in _found(detector, group, outcome):
                    _take(outcome, frame, prepared, found, drawings, results, score, watch)
        except KeyboardInterrupt:
            if camera is None:
                raise
    if results is not None:
        path, collected = results
        write_atomic(path, collected.text().encode())
        outcome.rows = len(collected.rows)
    return outcome


def _take(
    outcome: Outcome,
    frame: Frame,
    prepared: Prepared,
    found: Detections,
    drawings: Drawings | None,
    results: tuple[Path, CocoResults] | None,
    score: float | None,
    watch: Watch,
) -> None:
    sure = found.above(SURE if score is None else score)
    outcome.images += 1
    outcome.objects += len(sure)
    outcome.with_objects += len(sure) > 0
    if results is not None:
        results[1].add(frame, found if score is None else sure)
    if drawings is not None:
        drawn = draw_detections(
            prepared.pixels, sure.boxes, sure.scores, sure.labels, sure.classes, sure.masks
        )
        drawings.add(frame, drawn)
    watch(frame, sure)


def _prepared(
    detector: Detector,
    sources: Sequence[Source],
    outcome: Outcome,
    camera: cv2.VideoCapture | None,
) -> Iterator[_Item]:
    for source in sources:
        try:
            for frame in frames(source, camera):
                yield frame, detector.prepare(frame.image)
        except ImageError as error:
            outcome.unreadable[source.path] = str(error)


def _found(
    detector: Detector, group: list[_Item], outcome: Outcome
) -> Iterator[tuple[_Item, Detections]]:
    """What is found in a group; an image that the model cannot take is left out of it."""
    try:
        yield from zip(group, detector.run([item[1] for item in group]), strict=True)
    except ImageError as error:
        if len(group) > 1:
            for item in group:
                yield from _found(detector, [item], outcome)
        else:
            outcome.unreadable[group[0][0].source.path] = str(error)
