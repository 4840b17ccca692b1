"""A detector as an ONNX file, proven to find what it finds in PyTorch."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import mmengine
import numpy as np
import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope

from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.datasets.measured_sets import listed_in
from mmkd.export.input_rule import input_rule, measured_pipeline
from mmkd.export.not_exportable import NotExportableError
from mmkd.export.onnx_file import (
    DEFAULT_OPSET,
    EXPORTERS,
    OPSETS,
    digest,
    finished,
    graph_bytes,
    need,
)
from mmkd.export.onnx_nms import append_nms, check_nms
from mmkd.export.reference import Reference
from mmkd.export.rows_graph import (
    RowsGraph,
    exported_head,
    levels_of,
    no_stand_ins,
)
from mmkd.export.thresholds import thresholds
from mmkd.export.trained import Trained
from mmkd.export.two_stage import is_two_stage
from mmkd.fileio.atomic_writes import write_atomic
from mmkd.heads import describe_head
from mmkd_onnx import Detector, load

#: How many images of the validation set steps 1 and 2 look at.
IMAGES = 16


class Settings(NamedTuple):
    """What of an ONNX file is chosen.

    Args:
        size: (H, W) of the input. Defaults to None: what the test pipeline makes of images.
        nms: whether it gives detections instead of rows.
        half: whether it computes in float16.
        opset: of ONNX.
        input: 'uint8' or 'float32'.
        exporter: of torch, 'torchscript' or 'dynamo'.
    """

    size: tuple[int, int] | None = None
    nms: bool = False
    half: bool = False
    opset: int = DEFAULT_OPSET
    input: str = 'uint8'
    exporter: str = EXPORTERS[0]


DEFAULTS = Settings()


class Files(NamedTuple):
    """An export before it is proven.

    Args:
        content: of the file that is asked for.
        rows: of the same graph with rows for its outputs.
        metadata: of both.
    """

    content: bytes
    rows: bytes
    metadata: dict[str, Any]


def check_outputs(out: Path, overwrite: bool, besides: Sequence[Path] = ()) -> Path:
    """Check that an export, with what is made of it, replaces nothing; the file of its parity.

    Raises:
        FileExistsError: it would.
    """
    report = out.with_suffix('.parity.json')
    for path in (out, report, *besides):
        if path.exists() and not overwrite:
            raise FileExistsError(
                f'an exported file must not replace a file, but {path} exists. '
                'Name another --out, or allow it (--force).'
            )
    return report


def make_files(trained: Trained, settings: Settings = DEFAULTS) -> Files:
    """The ONNX file of a detector, so far unproven.

    Raises:
        NotExportableError: its head, or a part of it, has no form as a graph.
        ValueError: what a file cannot state, or a setting that is none.
    """
    model = trained.model
    head = exported_head(model)
    if settings.opset not in OPSETS:
        raise ValueError(
            f'--opset must be from {OPSETS[0]} to {OPSETS[-1]}, but got {settings.opset}.'
        )
    preprocessing = Preprocessing.of(model.data_preprocessor)
    if preprocessing is None:
        raise NotExportableError(
            'a detector that is exported must have a data_preprocessor of mmengine, but '
            f'{type(model.data_preprocessor).__name__} is none. Take DetDataPreprocessor.'
        )
    rule = input_rule(trained.config, preprocessing, settings.size, settings.input)
    size = rule['size'][0], rule['size'][1]
    with DefaultScope.overwrite_default_scope(trained.scope), torch.no_grad(), no_stand_ins(model):
        found = RowsGraph(model, size).eval().rows(torch.zeros(1, 3, *size))
    rules = thresholds(model, head, found, levels_of(found))
    if settings.nms:
        check_nms(rules)
    if settings.nms or found.one_to_one or is_two_stage(model):
        rule = _whole(rule)
    classes = list(trained.classes)
    classes += [f'class {i}' for i in range(len(classes), found.log_prob.size(2))]
    from mmkd import __version__

    metadata = dict(
        classes=classes,
        datasets=listed_in(trained.config),
        preprocessing=rule,
        thresholds=rules,
        outputs='detections' if settings.nms else 'rows',
        precision='float16' if settings.half else 'float32',
        softmax=describe_head(head).sigmoid is False,
        head=type(head).__name__,
        detector=type(model).__name__,
        exporter=settings.exporter,
        version=__version__,
        torch=torch.__version__,
        weights_sha256=digest(model.state_dict()),
    )
    with DefaultScope.overwrite_default_scope(trained.scope):
        graph = RowsGraph(model, size, settings.half).eval()
        made = graph_bytes(
            graph, {**metadata, 'outputs': 'rows'}, settings.opset, settings.exporter
        )
    content = made if not settings.nms else with_nms(made, metadata)
    return Files(content, made, metadata)


def with_nms(rows: bytes, metadata: dict[str, Any]) -> bytes:
    """A file with detections for its output, of one with rows."""
    onnx = need('onnx', 'the format onnx')
    metadata = {**metadata, 'preprocessing': _whole(metadata['preprocessing'])}
    return finished(append_nms(onnx.load_from_string(rows), metadata['thresholds']), metadata)


def _whole(rule: dict[str, Any]) -> dict[str, Any]:
    """``preprocessing`` of a graph that takes the padding in its input for image."""
    return {**rule, 'clip': None}


def prove(
    trained: Trained,
    files: Files,
    images: Sequence[str] = (),
    map_images: int | None = None,
    own_size: bool = True,
    opened: Callable[[Path], Detector] = load,
) -> Any:
    """Compare an export with PyTorch.

    Args:
        trained: the detector.
        files: its export.
        images: for steps 1 and 2. Defaults to none: those of the validation set, and without one
            noise.
        map_images: how many images of the validation set the mAP is measured on. Defaults to None,
            all; 0 leaves it out.
        own_size: whether the file's size is that of the test pipeline, so that its pixels must be
            the same.
        opened: how a file is run. Defaults to onnxruntime.

    Returns:
        mmkd.export.parity.Parity: the three steps.
    """
    need('onnxruntime', 'the check of an exported file')
    from mmkd.export.parity import POINTS, Parity, Step, check_detections, check_map, check_rows

    size = tuple(files.metadata['preprocessing']['size'])
    reference = Reference(trained.model, trained.scope, size)
    exact = files.metadata['precision'] == 'float32'
    dataset, why = validation_set(trained) if map_images != 0 or not images else (None, '')
    looked_at: list[Any] = list(images)
    if not looked_at and dataset is not None:
        looked_at = [dataset.get_data_info(i)['img_path'] for i in range(min(IMAGES, len(dataset)))]
    pipeline = measured_pipeline(trained.config) if own_size else None
    if not looked_at:
        noise = np.random.default_rng(0)
        looked_at = [noise.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(4)]
    with TemporaryDirectory() as folder:
        detectors = []
        for name, content in (('rows', files.rows), ('file', files.content)):
            path = Path(folder) / f'{name}.onnx'
            path.write_bytes(content)
            detectors.append(opened(path))
        rows, detector = detectors
        steps = [check_rows(reference, rows, looked_at, exact, pipeline)]
        left_out = steps[0].figures['left_out']
        steps.append(check_detections(reference, detector, looked_at, exact, left_out))
        if dataset is None or map_images == 0:
            steps.append(Step('mAP', None, f'not measured: {why or "left out"}'))
        else:
            chosen = range(min(len(dataset), map_images or len(dataset)))
            with DefaultScope.overwrite_default_scope(trained.scope):
                evaluators = tuple(_evaluator(trained, dataset) for _ in range(2))
            allowed = POINTS[files.metadata['precision']]
            told = mmengine.track_iter_progress(list(chosen), file=sys.stderr)
            steps.append(check_map(reference, detector, dataset, evaluators, told, allowed))
    return Parity(steps)


def validation_set(trained: Trained) -> tuple[Any, str]:
    """The built validation set of a config, else the test set; None and why, if there is none."""
    for key in ('val_dataloader', 'test_dataloader'):
        loader = trained.config.get(key)
        if loader and loader.get('dataset') and trained.config.get(_EVALUATORS[key]):
            break
    else:
        return None, 'the config has no validation set'
    with DefaultScope.overwrite_default_scope(trained.scope):
        try:
            return DATASETS.build(loader['dataset']), ''
        except FileNotFoundError as error:
            return None, f'the validation set is not here ({error.filename or error})'


_EVALUATORS = {'val_dataloader': 'val_evaluator', 'test_dataloader': 'test_evaluator'}


def _evaluator(trained: Trained, dataset: Any) -> Evaluator:
    config = trained.config
    given = config.get('val_evaluator') or config.get('test_evaluator')
    evaluator = Evaluator([_of_boxes(m) for m in (given if _is_list(given) else [given])])
    evaluator.dataset_meta = dataset.metainfo
    return evaluator


def _of_boxes(metric: Any) -> Any:
    """A metric's config without masks, of which a file has none: ``metric=['bbox', 'segm']``."""
    given = metric.get('metric')
    named = list(given) if _is_list(given) else [given]
    kept = [name for name in named if name != 'segm']
    return metric if kept == named else {**metric, 'metric': kept or ['bbox']}


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def write(out: Path, report: Path, files: Files, parity: Any) -> None:
    """Write an export and its parity beside it."""
    write_atomic(out, files.content)
    write_parity(out, report, files, parity)


def write_parity(out: Path, report: Path, files: Files, parity: Any) -> None:
    """Write how a file, ``out``, was proven."""
    told = dict(
        file=out.name,
        **{k: files.metadata[k] for k in ('version', 'torch', 'weights_sha256', 'precision')},
        **parity.as_dict(),
    )
    write_atomic(report, json.dumps(told, indent=2).encode())
