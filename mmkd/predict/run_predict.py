"""The command ``mmkd predict``: what is checked before work starts, progress, and the summary."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mmkd.checkpoints.fetch import is_address
from mmkd.checkpoints.reader import find_checkpoint
from mmkd.config.config_files import config_files
from mmkd.fileio.check_not_read import check_not_read
from mmkd.predict.coco_results import CocoResults, listed_at
from mmkd.predict.frames import Frame, count_frames, open_camera
from mmkd.predict.load import find_device, load
from mmkd.predict.outputs import check_outputs, drawn_file
from mmkd.predict.predict import Outcome, Watch, predict
from mmkd.predict.sources import Source, find_sources
from mmkd_onnx import Detections


def run_predict(
    checkpoint: str,
    config: str | None,
    words: Sequence[str],
    out: Path | None = None,
    json: Path | None = None,
    score: float | None = None,
    device: str | None = None,
    batch: int = 1,
    overwrite: bool = False,
) -> int:
    """Predict, and print what came of it.

    Args:
        checkpoint: of the detector, as :func:`mmkd.predict.load.load` takes it.
        config: the same.
        words: sources, as :func:`mmkd.predict.sources.find_sources` takes them.
        out: folder for drawn images and videos.
        json: file for COCO results.
        score: threshold.
        device: name of the device.
        batch: images at once.
        overwrite: whether results may be replaced.

    Returns:
        int: the exit status: 1 if not one image could be read.

    Raises:
        OSError, ValueError: before work starts, whatever would end it.
    """
    find_device(device)
    inputs: list[str | Path] = [checkpoint, *config_files(config)]
    if not is_address(checkpoint):
        find_checkpoint(checkpoint, 'the detector')
    sources = find_sources(words, [out] if out is not None else [])
    files = [drawn_file(out, source) for source in sources] if out is not None else []
    files += [json] if json is not None else []
    check_outputs(files, [*inputs, *(source.path for source in sources)], overwrite)
    camera = open_camera(sources[0]) if sources[0].kind == 'camera' else None
    detector = load(checkpoint, config, device)
    results = None
    if json is not None:
        check_not_read([json], map(listed_at, detector.datasets))
        results = (json, CocoResults(detector.classes, detector.datasets, sources))
    with _shown(sources, quiet=bool(files)) as watch:
        outcome = predict(detector, sources, watch, out, results, score, batch, camera)
    print('\n'.join(_told(outcome, out, json)))
    return 0 if outcome.images else 1


@contextmanager
def _shown(sources: Sequence[Source], quiet: bool) -> Iterator[Watch]:
    """A line with the time that is left, in a terminal; elsewhere some lines on the way."""
    counts = [count_frames(source) for source in sources]
    total = None if None in counts else sum(filter(None, counts))
    console = Console(stderr=True)
    columns = (
        *(TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()),
        *(TimeElapsedColumn(), TextColumn('left'), TimeRemainingColumn()),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task('Predicting', total=total)
        start, done = time.monotonic(), 0

        def watch(frame: Frame, found: Detections) -> None:
            nonlocal done
            done += 1
            bars.update(task, completed=done)
            if not quiet:
                place = '' if frame.number is None else f', frame {frame.number}'
                bars.console.file.flush()
                print(f'{frame.source.path}{place}: {found.summary()}', flush=True)
            elif bars.disable and total and done * 10 // total > (done - 1) * 10 // total:
                passed = time.monotonic() - start
                left = passed / done * max(total - done, 0)
                print(
                    f'{done} of {total} images, {passed:.0f} s passed, {left:.0f} s left',
                    file=sys.stderr,
                )

        yield watch


def _told(outcome: Outcome, out: Path | None, json: Path | None) -> Iterator[str]:
    yield (
        f'{outcome.objects} objects in {outcome.with_objects} of {outcome.images} images'
        f'{f", drawn into {out}" if out is not None else ""}'
        f'{f"; {outcome.rows} results in {json}" if json is not None else ""}'
    )
    if outcome.unreadable:
        yield f'{len(outcome.unreadable)} could not be read:'
        yield from (f'  {why}' for why in outcome.unreadable.values())
