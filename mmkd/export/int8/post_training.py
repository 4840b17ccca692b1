"""Quantisation after training, by onnxruntime's static quantiser."""

import logging
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mmengine
from numpy.typing import NDArray

from mmkd.export.onnx_file import need

#: Operators that may be a layer, and activations that may be behind one.
_LAYERS = ('Conv', 'Gemm', 'MatMul')
_BEHIND = ('Relu', 'Clip')


def check_quantiser() -> Any:
    """The quantisation tools of onnxruntime.

    Raises:
        ModuleNotFoundError: they are not there, or not with what they need.
    """
    need('onnxruntime', '--int8')
    try:
        import onnxruntime.quantization as tools
    except ImportError as error:
        raise ModuleNotFoundError(
            f'--int8 needs the quantisation tools of onnxruntime, but they do not load here '
            f"({error}). pip install --upgrade 'mmkd[export]'"
        ) from error
    return tools


class PostTraining:
    """A file in float32 whose layers can be quantised, some or all.

    Layers are convolutions and products with a matrix of weights, as of a Linear. Inputs and
    outputs of one are unsigned numbers of eight bits, by one scale; its weights are signed, by a
    scale for each channel. A ReLU behind it becomes part of its range.

    Args:
        content: of the file, with rows for its outputs.
        inputs: batches (1, 3, H, W), whose values give the ranges.
    """

    def __init__(self, content: bytes, inputs: Sequence[NDArray[Any]]) -> None:
        import onnx

        self._tools = check_quantiser()
        model = onnx.load_from_string(content)
        own_constants(model)
        weights = {t.name for t in model.graph.initializer if _is_of_a_layer(t.dims)}
        for i, node in enumerate(model.graph.node):
            node.name = node.name or f'{node.op_type}_{i}'
        nodes = list(model.graph.node)
        layers = [n for n in nodes if n.op_type in _LAYERS and n.input[1] in weights]
        made = {node.output[0]: node.name for node in layers}
        takers: dict[str, list[Any]] = {}
        for node in nodes:
            for name in node.input:
                takers.setdefault(name, []).append(node)
        #: The layers, in their order, by the name of their node.
        self.layers: list[str] = [node.name for node in layers]
        #: What of an activation is behind each, and behind nothing else.
        self._behind = {
            name: [node.name for node in takers.get(output, ())]
            for output, name in made.items()
            if [node.op_type for node in takers.get(output, ())] in (['Relu'], ['Clip'])
        }
        self._content = model.SerializeToString()
        with _quiet(), TemporaryDirectory() as folder:
            file = Path(folder) / 'float.onnx'
            file.write_bytes(self._content)
            calibrator = self._tools.create_calibrator(
                file, [*_LAYERS, *_BEHIND], augmented_model_path=str(Path(folder, 'all.onnx'))
            )
            calibrator.collect_data(_Reader(model.graph.input[0].name, inputs))
            self._ranges = calibrator.compute_data()

    def quantised(self, layers: Collection[str]) -> Any:
        """An ONNX model in which these layers, by name, compute in eight bits."""
        from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

        kinds = self._tools.QuantType
        behind = [name for layer in layers for name in self._behind.get(layer, ())]
        with _quiet(), TemporaryDirectory() as folder:
            file = Path(folder) / 'float.onnx'
            file.write_bytes(self._content)
            model = load_model_with_shape_infer(file)
            if not layers:
                return model
            quantiser = self._tools.QDQQuantizer(
                model=model,
                per_channel=True,
                reduce_range=False,
                weight_qType=kinds.QInt8,
                activation_qType=kinds.QUInt8,
                tensors_range=self._ranges,
                nodes_to_quantize=[*layers, *behind],
                nodes_to_exclude=[],
                op_types_to_quantize=[*_LAYERS, *_BEHIND],
                extra_options={},
            )
            quantiser.quantize_model()
            quantiser.model.topological_sort()
            return quantiser.model.model


def _is_of_a_layer(sides: Sequence[int]) -> bool:
    """Whether a tensor may hold a layer's weights; one of a column or a row is of a decoder.

    >>> _is_of_a_layer([8, 3, 3, 3]), _is_of_a_layer([17, 1]), _is_of_a_layer([17])
    (True, False, False)
    """
    return len(sides) > 2 or (len(sides) == 2 and min(sides) > 1)


def own_constants(model: Any) -> None:
    """Give each node constants of its own, where the exporter has equal ones stand for others."""
    graph = model.graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == 'Identity']:
        if node.input[0] in held:
            copied = graph.initializer.add()
            copied.CopyFrom(held[node.input[0]])
            copied.name = node.output[0]
            held[copied.name] = copied
            graph.node.remove(node)


class _Reader:
    """What onnxruntime reads the batches from."""

    def __init__(self, name: str, inputs: Sequence[NDArray[Any]]) -> None:
        told: Iterator[NDArray[Any]] = mmengine.track_iter_progress(list(inputs), file=sys.stderr)
        self.name, self.left = name, iter(told)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """The next batch by the name of the input; None after the last."""
        batch = next(self.left, None)
        return None if batch is None else {self.name: batch}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the tools advise: on steps that the exporter has done."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
