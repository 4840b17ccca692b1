"""The INT8 file of a student that has learned to compute in eight bits."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from mmkd.export.export_onnx import Files, Settings, make_files
from mmkd.export.int8.export_int8 import Maps, opened, proven
from mmkd.export.int8.post_training import own_constants
from mmkd.export.int8.table import Int8Parity
from mmkd.export.not_exportable import NotExportableError
from mmkd.export.onnx_file import EXPORTERS, finished
from mmkd.export.trained import Trained
from mmkd.quantization.fake_quantizers import LEVELS, WEIGHT_LEVELS
from mmkd.quantization.quantized import fix, restore, rounds_nothing

#: How far from whole numbers weights may be that were rounded, in steps.
_ROUNDING = 2e-3
_MOST = 2**30  # of a bias, in steps


def make_learned(
    trained: Trained,
    settings: Settings,
    ranges: Mapping[str, Tensor],
    images: Sequence[str] = (),
    map_images: int | None = None,
) -> tuple[Files, Int8Parity]:
    """The INT8 file of a student by the ranges of its training, and its parity.

    It is compared with the student as it was trained, with its fake quantisers; the line of
    float32 in the table is that of its weights without them.

    Args:
        trained: the student, without fake quantisers.
        settings: of the file.
        ranges: what they have learned.
        images: see :func:`mmkd.export.export_onnx.prove`.
        map_images: the same.

    Raises:
        ValueError: a head that has no form as a graph, or ranges that are of another student.
    """
    if settings.exporter != EXPORTERS[0]:
        raise ValueError(
            f"the ranges that a student has learned are written by torch's exporter "
            f'{EXPORTERS[0]}, but got --exporter {settings.exporter}. Leave it out, or give '
            '--calibration N for ranges of training images.'
        )
    plain = make_files(trained, settings)
    student = trained._replace(model=fixed(trained.model, ranges))
    made = make_files(student, settings._replace(nms=False)).rows
    model, count, left = with_int8_weights(made)
    metadata = {**plain.metadata, 'precision': 'int8', 'outputs': 'rows'}
    int8 = dict(quantised=count, left_out=left, ranges='of the training')
    maps = Maps(student, opened(plain.rows), map_images)
    files = finished(model, metadata)
    return proven(student, settings, plain, files, maps, int8, images, trained)


def fixed(model: Any, ranges: Mapping[str, Tensor]) -> Any:
    """A copy of a plain student that computes as it did in training.

    Raises:
        ValueError: the training ended before anything was rounded.
    """
    student = copy.deepcopy(model)
    restore(student, ranges)
    fix(student)
    if rounds_nothing(student):
        raise ValueError(
            'a student must have been trained with quantize for some batches before it is exported '
            'by its own ranges, but none was observed. Train it, or give --calibration N.'
        )
    return student.eval()


def with_int8_weights(content: bytes) -> tuple[Any, int, list[str]]:
    """An ONNX model whose rounded weights are numbers of eight bits, and biases of 32.

    Args:
        content: a file with QuantizeLinear and DequantizeLinear where activations are rounded, and
            with weights that are rounded, BatchNorm folded into them.

    Returns:
        The model; how many convolutions it has in eight bits; the names of the others.

    Raises:
        NotExportableError: the exporter has kept a BatchNorm apart.
    """
    import onnx

    model = onnx.load_from_string(content)
    own_constants(model)
    graph = model.graph
    if any(node.op_type == 'BatchNormalization' for node in graph.node):
        raise NotExportableError(
            'an INT8 file must have each BatchNorm folded into its convolution, but the exporter '
            'has left one. Give --calibration N for ranges of training images.'
        )
    constants = _constants(graph)
    _drop_idle(graph, constants)
    made = {name: node for node in graph.node for name in node.output}
    whole = _WholeNumbers(graph)
    count, left = 0, []
    for node in graph.node:
        if node.op_type != 'Conv' or node.input[1] not in constants:
            continue
        source = made.get(node.input[0])
        weight = constants[node.input[1]].astype(np.float64)
        scale = np.abs(weight).reshape(len(weight), -1).max(1) / WEIGHT_LEVELS
        scale = np.maximum(scale, np.finfo(np.float32).tiny)
        steps = weight / scale.reshape(-1, 1, 1, 1)
        rounded = np.abs(steps - np.round(steps)).max() < _ROUNDING
        if source is None or source.op_type != 'DequantizeLinear' or not rounded:
            left.append(node.name)
            continue
        count += 1
        of_input = float(constants[source.input[1]])
        if len(node.input) > 2:
            bias = constants[node.input[2]].astype(np.float64)
            scale = np.maximum(scale, np.abs(bias) / (of_input * _MOST))  # all but its bias
            node.input[2] = whole.put(node.input[2], bias, of_input * scale, np.int32)
        node.input[1] = whole.put(node.input[1], weight, scale, np.int8)
    for place, node in enumerate(whole.nodes):
        graph.node.insert(place, node)
    _drop_unused(graph)
    return model, count, left


def _constants(graph: Any) -> dict[str, Any]:
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == 'Constant' and node.attribute[0].name == 'value':
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def _drop_idle(graph: Any, constants: Mapping[str, Any]) -> None:
    """Leave out each ReLU or Clip to whose range its input was just rounded."""
    made = {name: node for node in graph.node for name in node.output}
    renamed: dict[str, str] = {}
    outputs = {output.name for output in graph.output}
    for node in list(graph.node):
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        source = made.get(node.input[0]) if node.op_type in ('Relu', 'Clip') else None
        if source is None or source.op_type != 'DequantizeLinear' or node.output[0] in outputs:
            continue
        scale, zero = float(constants[source.input[1]]), int(constants[source.input[2]])
        bounds = [float(constants[name]) for name in node.input[1:] if name in constants]
        low, high = bounds if len(bounds) == 2 else (0.0, np.inf)
        if -zero * scale >= low and (LEVELS - zero) * scale <= high * (1 + 1e-5):
            renamed[node.output[0]] = node.input[0]
            graph.node.remove(node)


class _WholeNumbers:
    """Constants of a graph as whole numbers; those that several nodes share are put there once."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        #: What makes values of them again.
        self.nodes: list[Any] = []
        self._known: dict[tuple[str, bytes], str] = {}

    def put(self, constant: str, values: Any, scale: Any, kind: type) -> str:
        """The name of the values (out, ...) of a constant, in steps of ``scale`` (out,)."""
        from onnx import helper, numpy_helper

        scale = scale.astype(np.float32)
        key = constant, scale.tobytes()
        if key in self._known:
            return self._known[key]
        steps = np.round(values / scale.astype(np.float64).reshape(-1, *[1] * (values.ndim - 1)))
        name = self._known[key] = f'{constant}_{len(self.nodes)}'
        inputs = [f'{name}_{part}' for part in ('steps', 'scale', 'zero')]
        arrays: tuple[Any, ...] = steps.astype(kind), scale, np.zeros(len(scale), kind)
        for part, array in zip(inputs, arrays, strict=True):
            self.graph.initializer.append(numpy_helper.from_array(array, part))
        node = helper.make_node('DequantizeLinear', inputs, [name], name=f'{name}_values', axis=0)
        self.nodes.append(node)
        return name


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
