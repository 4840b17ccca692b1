"""Formats that are made of an ONNX file by their makers' own converters, where installed."""

import importlib.util
import platform
from pathlib import Path
from typing import Any

from mmkd_onnx import Detector, load

#: Of each format: the package of its converter, and the ending of what it writes.
CONVERTERS = {
    'openvino': ('openvino', '.xml'),
    'tensorrt': ('tensorrt', '.engine'),
    'coreml': ('coremltools', '.mlpackage'),
    'tflite': ('onnx2tf', '.tflite'),
}

#: Formats for which there is no path from an ONNX file that mmkd could prove.
_REFUSED = {
    'coreml': (
        'coremltools has read no ONNX since its version 6, and what it writes runs on macOS alone, '
        'where nothing of this was tried'
    ),
    'tflite': (
        'its converters need TensorFlow and change the layout of the input, so that the file would '
        'not be the one that was proven'
    ),
}


def check_converter(kind: str) -> None:
    """Check before work starts that a format can be made here.

    Raises:
        ValueError: it cannot be made of an ONNX file.
        ModuleNotFoundError: its converter is not installed.
        RuntimeError: this machine lacks what its converter runs on.
    """
    if kind == 'onnx':
        return
    package, _ = CONVERTERS[kind]
    if kind in _REFUSED:
        raise ValueError(
            f'--format must be one that mmkd can prove, but {kind} is not: {_REFUSED[kind]}. '
            'Take --format onnx, and convert that file.'
        )
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(
            f'--format {kind} needs {package}, which is not installed. pip install {package}, or '
            'take --format onnx.'
        )
    if kind == 'tensorrt':
        import torch

        if not torch.cuda.is_available():
            raise RuntimeError(
                'a TensorRT engine is built on the kind of GPU that it will run on, but this '
                f'machine ({platform.machine()}) has none that torch sees. Take --format onnx, and '
                'build it there: trtexec --onnx=FILE.'
            )


def converted_files(kind: str, file: Path) -> list[Path]:
    """What is written beside an ONNX file where another format is asked for, with its proof."""
    if kind == 'onnx':
        return []
    target = file.with_suffix(CONVERTERS[kind][1])
    if kind != 'openvino':
        return [target]
    return [target, target.with_suffix('.bin'), file.with_suffix('.openvino.parity.json')]


def convert(kind: str, file: Path, half: bool = False) -> Path:
    """Write ``file`` (an ONNX file) in another format beside it; what was written."""
    target = converted_files(kind, file)[0]
    if kind == 'openvino':
        import openvino

        openvino.save_model(openvino.convert_model(str(file)), str(target), compress_to_fp16=half)
    else:
        target.write_bytes(_engine(file))
    return target


class OpenVinoSession:
    """What OpenVINO makes of an ONNX file, called as onnxruntime is.

    Args:
        file: an ONNX file; what is made of it lies beside it.
        half: whether weights are kept in float16.
    """

    def __init__(self, file: Path, half: bool = False) -> None:
        import openvino

        # Else it would compute in bfloat16 on processors that have it.
        exact = {'INFERENCE_PRECISION_HINT': 'f32'}
        self._model = openvino.Core().compile_model(convert('openvino', file, half), 'CPU', exact)
        own = load(file).session
        self.get_inputs, self.get_outputs = own.get_inputs, own.get_outputs

    def run(self, _: None, inputs: dict[str, Any]) -> list[Any]:
        """The outputs, in their order."""
        return list(self._model(inputs).values())


def open_in_openvino(file: Path, half: bool = False) -> Detector:
    """An exported detector, run by OpenVINO."""
    return Detector(OpenVinoSession(file, half), load(file).metadata, str(file))


def _engine(file: Path) -> bytes:
    """An engine of TensorRT for batches of 1 to 16 images."""
    import tensorrt as trt

    logger: Any = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(file.read_bytes()):
        faults = '; '.join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ValueError(f'TensorRT must be able to read "{file}", but says: {faults[:400]}.')
    settings = builder.create_builder_config()
    image = network.get_input(0)
    shape = tuple(image.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, (1, *shape), (1, *shape), (16, *shape))
    settings.add_optimization_profile(profile)
    built = builder.build_serialized_network(network, settings)
    if built is None:
        raise ValueError(f'TensorRT must be able to build "{file}", but gave no engine.')
    return bytes(built)
