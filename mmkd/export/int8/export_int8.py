"""A detector as an INT8 file, with its proof and what the other precisions cost."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mmengine
from mmengine.registry import DefaultScope

from mmkd.export.export_onnx import (
    Files,
    Settings,
    _evaluator,
    make_files,
    prove,
    validation_set,
    with_nms,
)
from mmkd.export.int8.calibration import calibration_images
from mmkd.export.int8.choose import choose
from mmkd.export.int8.post_training import PostTraining, check_quantiser
from mmkd.export.int8.table import Int8Parity, Line, latencies
from mmkd.export.mean_ap import Finder, finder_of, mean_aps
from mmkd.export.not_exportable import NotExportableError
from mmkd.export.onnx_file import finished
from mmkd.export.parity import POINTS, Step, map_step
from mmkd.export.reference import Reference
from mmkd.export.trained import Trained
from mmkd.export.two_stage import is_two_stage, rows_of_a_proposal
from mmkd_onnx import Detector, load


def check_int8(settings: Settings, calibration: int | None = None, kind: str = 'onnx') -> None:
    """Check before work starts that an INT8 file can be made here.

    Raises:
        ValueError: a setting that does not go with it.
        ModuleNotFoundError: onnxruntime has no quantisation tools here.
    """
    if settings.half:
        raise ValueError(
            '--int8 and --half are two precisions of one file, but both were given. Drop one: '
            'the table of --int8 has a line for float16.'
        )
    if calibration is not None and calibration < 1:
        raise ValueError(
            f'--calibration must be a number of images above 0, but got {calibration}. '
            'Take 200, or more where images differ much.'
        )
    if kind == 'tensorrt':
        raise ValueError(
            '--int8 has unsigned numbers for activations, which TensorRT does not take, but got '
            '--format tensorrt. Take --format onnx, or build the engine with --half.'
        )
    check_quantiser()


def make_int8(
    trained: Trained,
    settings: Settings,
    calibration: int,
    images: Sequence[str] = (),
    map_images: int | None = None,
) -> tuple[Files, Int8Parity]:
    """The INT8 file of a detector with its parity.

    Args:
        trained: the detector.
        settings: of the file.
        calibration: how many images of the training set give the ranges.
        images: see :func:`mmkd.export.export_onnx.prove`.
        map_images: the same.

    Raises:
        OSError, ValueError: no training images, or a head that has no form as a graph.
    """
    chosen = calibration_images(trained, calibration)
    plain = make_files(trained, settings)
    metadata = {**plain.metadata, 'precision': 'int8'}
    rows = opened(plain.rows)
    inputs = [rows.prepare(image).data['inputs'][None] for image in chosen]
    tools = PostTraining(plain.rows, inputs)
    maps = Maps(trained, rows, map_images)
    as_rows = {**metadata, 'outputs': 'rows'}
    content, left_out = choose(
        tools,
        lambda model: finished(model, as_rows),
        lambda made: maps.step(shipped(made, settings, metadata)).passed,
        inputs,
        by_place=not (is_two_stage(trained.model) and rows_of_a_proposal(trained.model)),
    )
    quantised = len(tools.layers) - len(left_out)
    int8 = dict(quantised=quantised, left_out=left_out, ranges=f'of {len(chosen)} training images')
    return proven(trained, settings, plain, content, maps, int8, images)


def proven(
    trained: Trained,
    settings: Settings,
    plain: Files,
    rows: bytes,
    maps: 'Maps',
    int8: dict[str, Any],
    images: Sequence[str],
    exact: Trained | None = None,
) -> tuple[Files, Int8Parity]:
    """An INT8 file with its steps and its table.

    Args:
        trained: the detector that the file is compared with.
        settings: of the file.
        plain: the same detector's file in float32.
        rows: the INT8 file, with rows for its outputs.
        maps: what measures the mAP.
        int8: what the report says of the quantisation.
        images: for the comparison of rows and detections.
        exact: the detector without fake quantisers, if ``trained`` has some.
    """
    metadata = {**plain.metadata, 'precision': 'int8'}
    files = Files(shipped(rows, settings, metadata), rows, metadata)
    own_size = settings.size is None
    compared, detections, unmeasured = prove(trained, files, images, 0, own_size).steps
    step = maps.step(files.content)
    last = unmeasured if step is maps.unmeasured else step
    lines = _table(exact or trained, settings, plain, files, maps)
    return files, Int8Parity([compared, detections, last], lines, int8)


def shipped(rows: bytes, settings: Settings, metadata: dict[str, Any]) -> bytes:
    """The file that is asked for, of one with rows: what is measured."""
    return with_nms(rows, metadata) if settings.nms else rows


def _table(
    trained: Trained, settings: Settings, plain: Files, int8: Files, maps: 'Maps'
) -> list[Line]:
    made = {'float32': plain, 'int8': int8}
    lines = {name: Line(name) for name in ('float32', 'float16', 'int8')}
    try:
        made['float16'] = make_files(trained, settings._replace(half=True))
    except NotExportableError as error:
        lines['float16'].note = f'not made: {error}'
    size = tuple(plain.metadata['preprocessing']['size'])
    ms = latencies({name: files.content for name, files in made.items()}, size)
    for name, files in made.items():
        lines[name].points = maps.points(files.content)
        lines[name].size, lines[name].ms = len(files.content), ms[name]
    return list(lines.values())


def opened(content: bytes) -> Detector:
    """An exported file that lies nowhere."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'rows.onnx'
        path.write_bytes(content)
        return load(path)


class Maps:
    """The mAP of files on the validation set, beside that of PyTorch.

    Args:
        trained: the detector.
        rows: its file in float32, which says how images become inputs.
        map_images: how many images it is measured on; None: all; 0: not at all.
    """

    def __init__(self, trained: Trained, rows: Detector, map_images: int | None) -> None:
        self.trained, self.rows = trained, rows
        self.dataset: Any
        self.dataset, why = validation_set(trained) if map_images != 0 else (None, 'left out')
        self.count = min(len(self.dataset), map_images or len(self.dataset)) if self.dataset else 0
        self.unmeasured = Step('mAP', None, f'not measured: {why}')
        self.key: str | None = None
        self._known: dict[bytes, float | None] = {}
        self._own: float | None = None

    def points(self, content: bytes) -> float | None:
        """The mAP of a file in points; None if it is not measured."""
        if content not in self._known:
            self._known[content] = self._measured(finder_of(opened(content)))
        return self._known[content]

    def step(self, content: bytes) -> Step:
        """Whether a file's mAP is near enough to PyTorch's."""
        found = self.points(content)
        if found is None or self.key is None:
            return self.unmeasured
        if self._own is None:
            reference = Reference(self.trained.model, self.trained.scope, self.rows.size)
            self._own = self._measured(reference.found)
        assert self._own is not None, 'measured as that of the file'
        return map_step(self._own, found, self.key, self.count, POINTS['int8'])

    def _measured(self, find: Finder) -> float | None:
        if not self.count:
            return None
        with DefaultScope.overwrite_default_scope(self.trained.scope):
            evaluator = _evaluator(self.trained, self.dataset)
        indices = mmengine.track_iter_progress(list(range(self.count)), file=sys.stderr)
        key, [metrics], _ = mean_aps(
            [find], self.rows, self.dataset, [evaluator], indices, self.trained.scope
        )
        self.key = key
        if key is None:
            self.unmeasured.told = f'not measured: no mAP among {", ".join(metrics)}'
            return None
        return 100 * float(metrics[key])
