"""A detector's rows as an ONNX file with all that is needed to run it."""

import hashlib
import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mmkd.compat.exporters import constant_linspaces
from mmkd.export.not_exportable import NotExportableError
from mmkd.export.rows_graph import RowsGraph, no_stand_ins
from mmkd.export.two_stage import is_two_stage
from mmkd_onnx.model_file import KEY

#: 'torchscript' is torch's older exporter, 'dynamo' its newer one; docs/export.md compares them.
EXPORTERS = ('torchscript', 'dynamo')
DEFAULT_OPSET = 18
OPSETS = range(16, 22)
_BATCH = 'batch'


def graph_bytes(
    graph: RowsGraph,
    metadata: Mapping[str, Any],
    opset: int = DEFAULT_OPSET,
    exporter: str = 'torchscript',
) -> bytes:
    """The ONNX file of a graph, with rows for its outputs.

    Args:
        graph: in evaluation mode, on the CPU.
        metadata: what the file says of itself.
        opset: of ONNX.
        exporter: one of ``EXPORTERS``.

    Raises:
        NotExportableError: the detector has no form as a graph, or none in this opset.
    """
    onnx = need('onnx', 'the format onnx')
    if exporter == 'dynamo':
        need('onnxscript', "the exporter 'dynamo'")
        if is_two_stage(graph.model):
            raise NotExportableError(
                'a two-stage detector becomes a graph by --exporter torchscript, which writes its '
                f'NMS and RoIAlign as operators of ONNX, but got {exporter}. Leave it out.'
            )
    with TemporaryDirectory() as folder:
        file = Path(folder) / 'model.onnx'
        _export(graph, file, metadata['preprocessing']['input'], opset, exporter)
        model = onnx.load(str(file))
    _check_opset(model, opset, exporter)
    return finished(model, metadata)


def finished(model: Any, metadata: Mapping[str, Any]) -> bytes:
    """An ONNX model with its metadata, checked, as the content of a file.

    Raises:
        NotExportableError: the exporter fixed the number of images.
    """
    import onnx

    _open_batch(model)
    onnx.helper.set_model_props(model, {KEY: json.dumps(metadata)})
    model.producer_name = 'mmkd'
    model.doc_string = ''
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def need(package: str, what: str) -> Any:
    """Import a package of the extra ``export``.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return __import__(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} needs {package}, which is not installed. pip install 'mmkd[export]'"
        ) from error


def _export(graph: RowsGraph, file: Path, kind: str, opset: int, exporter: str) -> None:
    image = torch.randint(0, 256, (2, 3, *graph.size), dtype=torch.uint8)
    image = image if kind == 'uint8' else image.float()
    model = graph.model
    with torch.no_grad(), no_stand_ins(model):
        outputs = ['boxes', 'scores', 'factors'][: len(_try(graph, image))]
    settings: dict[str, Any] = dict(
        input_names=['image'], output_names=outputs, opset_version=opset
    )
    if exporter == 'dynamo':
        batch = torch.export.Dim(_BATCH, min=1, max=1024)
        settings.update(
            dynamo=True, dynamic_shapes=({0: batch},), external_data=False, verbose=False
        )
    else:
        settings['dynamic_axes'] = {name: {0: _BATCH} for name in ('image', *outputs)}
        if 'dynamo' in inspect.signature(torch.onnx.export).parameters:  # torch >= 2.5
            settings['dynamo'] = False
    with torch.no_grad(), warnings.catch_warnings(), no_stand_ins(model), constant_linspaces():
        warnings.simplefilter('ignore')  # of a tracer, on each size that it takes for a constant
        try:
            torch.onnx.export(graph, (image,), str(file), **settings)
        except Exception as error:
            head = type(graph.head).__name__
            said = ' '.join(str(error).split())[:300]
            raise NotExportableError(
                f"{head} of {type(model).__name__} has no form as a graph for torch's exporter "
                f'"{exporter}" at opset {opset}: {type(error).__name__}: {said}. Try another '
                '--exporter or --opset, or export another student.'
            ) from error


def _try(graph: RowsGraph, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Run it once: what cannot be a graph says so here, in its own words.

    Raises:
        NotExportableError: it computes in float32 somewhere, where float16 was asked for.
    """
    found: tuple[torch.Tensor, ...]
    try:
        found = graph(image)
    except NotExportableError:
        raise
    except RuntimeError as error:
        if not graph.half_precision:
            raise
        raise NotExportableError(
            f'with --half a detector must compute in float16 throughout, but '
            f'{type(graph.model).__name__} with {type(graph.head).__name__} does not: '
            f'{" ".join(str(error).split())[:200]}. Export it without --half.'
        ) from error
    return found


def _check_opset(model: Any, opset: int, exporter: str) -> None:
    """torch's newer exporter converts a graph to older opsets, and leaves it where that fails."""
    [found] = [entry.version for entry in model.opset_import if entry.domain in ('', 'ai.onnx')]
    if found != opset:
        raise NotExportableError(
            f"an exported graph must be of the opset that was asked for, {opset}, but torch's "
            f'exporter "{exporter}" makes this one in {found} alone. Give --opset {found}, or '
            'another --exporter.'
        )


def _open_batch(model: Any) -> None:
    """Input and outputs are of any number of images, by one name."""
    image = model.graph.input[0].type.tensor_type.shape.dim
    if not image[0].dim_param:
        raise NotExportableError(
            f'the number of images must stay open in an exported graph, but it is '
            f'{image[0].dim_value} here. Try another --exporter.'
        )
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = image[0].dim_param


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 of a detector's weights, whatever file holds them.

    >>> digest({'a': torch.zeros(2)}) == digest({'a': torch.zeros(1)})
    False
    """
    found = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        found.update(f'{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
