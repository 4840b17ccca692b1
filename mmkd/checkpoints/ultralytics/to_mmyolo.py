"""Puts the weights of an Ultralytics YOLOv5 file into MMYOLO's YOLOv5.

The two programs cut the same network differently: Ultralytics numbers 25 layers, MMYOLO groups them
into backbone, neck and head. What is checked besides the weights' shapes is what a shape cannot
show: strides, paddings, shortcuts, activations, anchors.
"""

import math
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.checkpoints.ultralytics.errors import CheckpointError
from mmkd.checkpoints.ultralytics.layer import Layer
from mmkd.checkpoints.ultralytics.yolov5_file import YOLOv5File, read_yolov5_file

BN_EPS = 1e-3

# The v6.0 to 7.0 network with outputs at strides 8, 16 and 32. One row per layer: its kind, where
# its input comes from (relative, as the file says it), MMYOLO's name for it, and the settings that
# it must have: (kernel, stride) of a Conv, the shortcut of a C3.
_P5_LAYERS: tuple[tuple[str, Any, str, Any], ...] = (
    ('Conv', -1, 'backbone.stem', (6, 2)),
    ('Conv', -1, 'backbone.stage1.0', (3, 2)),
    ('C3', -1, 'backbone.stage1.1', True),
    ('Conv', -1, 'backbone.stage2.0', (3, 2)),
    ('C3', -1, 'backbone.stage2.1', True),
    ('Conv', -1, 'backbone.stage3.0', (3, 2)),
    ('C3', -1, 'backbone.stage3.1', True),
    ('Conv', -1, 'backbone.stage4.0', (3, 2)),
    ('C3', -1, 'backbone.stage4.1', True),
    ('SPPF', -1, 'backbone.stage4.2', None),
    ('Conv', -1, 'neck.reduce_layers.2', (1, 1)),
    ('Upsample', -1, 'neck.upsample_layers.0', None),
    ('Concat', [-1, 6], '', None),
    ('C3', -1, 'neck.top_down_layers.0.0', False),
    ('Conv', -1, 'neck.top_down_layers.0.1', (1, 1)),
    ('Upsample', -1, 'neck.upsample_layers.1', None),
    ('Concat', [-1, 4], '', None),
    ('C3', -1, 'neck.top_down_layers.1', False),
    ('Conv', -1, 'neck.downsample_layers.0', (3, 2)),
    ('Concat', [-1, 14], '', None),
    ('C3', -1, 'neck.bottom_up_layers.0', False),
    ('Conv', -1, 'neck.downsample_layers.1', (3, 2)),
    ('Concat', [-1, 10], '', None),
    ('C3', -1, 'neck.bottom_up_layers.1', False),
    ('Detect', [17, 20, 23], 'bbox_head.head_module.convs_pred', None),
)


def convert_yolov5(file: YOLOv5File) -> dict[str, Tensor]:
    """The file's weights under MMYOLO's keys.

    Every tensor of the file is used, except the anchors: MMYOLO takes those from its config, and
    :func:`load_yolov5_state_dict` compares them.

    Raises:
        CheckpointError: The network is not YOLOv5's v6.0 to 7.0 with three outputs.
    """
    prefixes = _Prefixes()
    prefixes.network(file.network)
    state: dict[str, Tensor] = {}
    for layer in file.network.walk():
        for name in layer.tensors:
            key = f'{layer.path}.{name}'
            if layer.kind == 'Detect' and name == 'anchors':
                continue
            if layer.path not in prefixes.targets:
                raise CheckpointError(f"{file.path}: {key} has no place in MMYOLO's YOLOv5")
            state[f'{prefixes.targets[layer.path]}.{name}'] = file.state_dict[key]
    return state


class _Prefixes:
    """Finds MMYOLO's place for each module that holds tensors, and checks the others."""

    def __init__(self) -> None:
        self.targets: dict[str, str] = {}

    def network(self, network: Layer) -> None:
        layers = list(_child(network, 'model', 'Sequential').children.values())
        kinds = [layer.kind for layer in layers]
        expected = [row[0] for row in _P5_LAYERS]
        if kinds != expected:
            pairs = enumerate(zip(kinds, expected, strict=False))
            at = next((i for i, (got, kind) in pairs if got != kind), len(expected))
            kinds.append('nothing')
            raise CheckpointError(
                'the network must have the 25 layers of YOLOv5 n, s, m, l or x, v6.0 to 7.0, got '
                f'{len(kinds) - 1} layers; the first to differ is number {at}, '
                f'{kinds[min(at, len(kinds) - 1)]}; take such a file, not one of a P6, older or '
                'changed network'
            )
        for layer, (kind, source, target, setting) in zip(layers, _P5_LAYERS, strict=True):
            self.need(layer, 'f', source)
            if kind == 'Conv':
                self.conv(layer, target, *setting)
            elif kind == 'C3':
                self.c3(layer, target, setting)
            elif kind == 'SPPF':
                self.sppf(layer, target)
            elif kind == 'Upsample':
                self.need(layer, 'mode', 'nearest')
                self.need(layer, 'scale_factor', 2)
            elif kind == 'Concat':
                self.need(layer, 'd', 1)
            elif kind == 'Detect':
                self.detect(layer, target)

    def conv(self, layer: Layer, target: str, kernel: int, stride: int) -> None:
        conv, bn = _child(layer, 'conv', 'Conv2d'), _child(layer, 'bn', 'BatchNorm2d')
        _child(layer, 'act', 'SiLU')
        # The stem's kernel of 6 has a padding of 2: it stands for the Focus layer of before v6.0.
        self.conv2d(conv, f'{target}.conv', kernel, stride, 2 if kernel == 6 else kernel // 2)
        if not math.isclose(_number(bn.attrs.get('eps')), BN_EPS, rel_tol=1e-6):
            raise CheckpointError(f'{bn.path} must have eps {BN_EPS}, as YOLOv5 has')
        self.targets[bn.path] = f'{target}.bn'

    def conv2d(self, conv: Layer, target: str, kernel: int, stride: int, padding: int) -> None:
        for name, value in (('kernel_size', kernel), ('stride', stride), ('padding', padding)):
            self.need(conv, name, (value, value))
        self.need(conv, 'dilation', (1, 1))
        self.need(conv, 'groups', 1)
        self.targets[conv.path] = target

    def c3(self, layer: Layer, target: str, shortcut: bool) -> None:
        for name, part in (('cv1', 'main_conv'), ('cv2', 'short_conv'), ('cv3', 'final_conv')):
            self.conv(_child(layer, name, 'Conv'), f'{target}.{part}', 1, 1)
        for name in _child(layer, 'm', 'Sequential').children:
            block = _child(layer.children['m'], name, 'Bottleneck')
            self.need(block, 'add', shortcut)
            self.conv(_child(block, 'cv1', 'Conv'), f'{target}.blocks.{name}.conv1', 1, 1)
            self.conv(_child(block, 'cv2', 'Conv'), f'{target}.blocks.{name}.conv2', 3, 1)

    def sppf(self, layer: Layer, target: str) -> None:
        pool = _child(layer, 'm', 'MaxPool2d')
        for name, value in (('kernel_size', 5), ('stride', 1), ('padding', 2)):
            self.need(pool, name, value)
        self.conv(_child(layer, 'cv1', 'Conv'), f'{target}.conv1', 1, 1)
        self.conv(_child(layer, 'cv2', 'Conv'), f'{target}.conv2', 1, 1)

    def detect(self, layer: Layer, target: str) -> None:
        # Both programs keep one convolution per level, whose channels run by anchor, then box (4),
        # objectness (1) and classes; so the weights need no reordering.
        convs = _child(layer, 'm', 'ModuleList')
        for name in convs.children:
            self.conv2d(_child(convs, name, 'Conv2d'), f'{target}.{name}', 1, 1, 0)

    @staticmethod
    def need(layer: Layer, name: str, value: Any) -> None:
        got: Any = layer.attrs.get(name)
        # Compared by parts: the file's value may be of any type or size.
        if type(got) is type(value) and isinstance(value, list | tuple):
            equal = len(got) == len(value) and all(map(_same_number, got, value))
        else:
            equal = got == value if isinstance(got, str) else _same_number(got, value)
        if not equal:
            shown = got if isinstance(got, str | int | float) else type(got).__name__
            raise CheckpointError(
                f'layer {layer.path} ({layer.kind}) must have {name} = {value}, as YOLOv5 v6.0 to '
                f'7.0 has, got {shown!s:.80}'
            )


def _same_number(got: Any, value: Any) -> bool:
    return isinstance(got, int | float) and got == value


def _number(value: Any) -> float:
    return value if isinstance(value, float) else math.nan


def _child(layer: Layer, name: str, kind: str) -> Layer:
    child = layer.children.get(name)
    if child is None or child.kind != kind:
        raise CheckpointError(
            f'layer {layer.path or "the network"} must hold a {kind} as {name!r}, as YOLOv5 v6.0 '
            f'to 7.0 has, got {child.kind if child else "nothing"}; use an unfused detection '
            'checkpoint'
        )
    return child


def load_yolov5_state_dict(source: str | Path | YOLOv5File, model: nn.Module) -> dict[str, Tensor]:
    """Reads a YOLOv5 file into a state dict that fits the model, key for key and shape for shape.

    The weights are not copied into the model; ``model.load_state_dict(state)`` (strict) does that.

    Args:
        source: An Ultralytics YOLOv5 file (see
            :func:`mmkd.checkpoints.ultralytics.is_yolov5_file`), or what was read of one.
        model: MMYOLO's ``YOLODetector`` with YOLOv5's backbone, neck and head.

    Raises:
        CheckpointError: The file is not readable, or differs from the model in classes, anchors,
            strides, depth, width, input scaling, or anything else that decides its outputs.
    """
    file = source if isinstance(source, YOLOv5File) else read_yolov5_file(source)
    check_fits(file, model)
    state = convert_yolov5(file)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for key in sorted(expected.keys() | state.keys()):
        got = tuple(state[key].shape) if key in state else 'nothing'
        if expected.get(key, 'nothing') != got:
            depth, width = (file.yaml.get(f'{what}_multiple') for what in ('depth', 'width'))
            raise CheckpointError(
                f"{file.path}: {key} must have the config's shape {expected.get(key, 'nothing')}, "
                f'got {got}; the file says that it was built with deepen_factor={depth!s:.20}, '
                f'widen_factor={width!s:.20}'
            )
    return state


def check_fits(file: YOLOv5File, model: nn.Module) -> None:
    """Raises a CheckpointError where file and model disagree in what no weight's shape shows."""
    head: Any = getattr(model, 'bbox_head', None)
    module: Any = getattr(head, 'head_module', None)
    priors: Any = getattr(head, 'prior_generator', None)
    if not hasattr(priors, 'base_sizes') or not hasattr(module, 'featmap_strides'):
        raise CheckpointError(
            f"{file.path}: a YOLOv5 file needs a config of MMYOLO's YOLOv5, got a "
            f'{type(model).__name__} with {type(head).__name__}'
        )
    _same(file, 'class count', file.num_classes, head.num_classes, 'num_classes')
    strides = tuple(stride[0] for stride in priors.strides)
    _same(file, 'strides', file.strides, strides, 'prior_generator.strides')
    _same(file, 'strides', file.strides, tuple(module.featmap_strides), 'featmap_strides')
    anchors = tuple(tuple((w, h) for w, h in level) for level in priors.base_sizes)
    # The file keeps anchors as float16 (relative error 2 ** -11).
    same = [len(level) for level in file.anchors] == [len(level) for level in anchors] and all(
        math.isclose(a, b, rel_tol=2e-3)
        for level_a, level_b in zip(file.anchors, anchors, strict=True)
        for pair in zip(level_a, level_b, strict=True)
        for a, b in zip(*pair, strict=True)
    )
    if not same:
        _same(file, 'anchors (pixels)', file.anchors, anchors, 'prior_generator.base_sizes')
    _check_layers(file, model)


def _check_layers(file: YOLOv5File, model: nn.Module) -> None:
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            _same(file, f'eps of {name}', BN_EPS, layer.eps, 'norm_cfg')
        activation = getattr(layer, 'activate', None)
        if isinstance(activation, nn.Module):
            _same(file, f'activation of {name}', 'SiLU', type(activation).__name__, 'act_cfg')
    preprocessing = Preprocessing.of(getattr(model, 'data_preprocessor', None))
    if preprocessing is not None and preprocessing.mean is not None:
        # YOLOv5 sees RGB in [0, 1]; with another scale the weights load and detect nothing.
        own = preprocessing.normalisation
        scale = [*own.mean, *own.std]
        _same(file, 'input mean and std', [0.0] * 3 + [255.0] * 3, scale, 'data_preprocessor')
        swap, setting = own.bgr_to_rgb, 'data_preprocessor.bgr_to_rgb'
        _same(file, 'swap of BGR images to RGB', True, swap, setting)


def _same(file: YOLOv5File, what: str, in_file: Any, in_config: Any, setting: str) -> None:
    if in_file != in_config:
        raise CheckpointError(
            f'{file.path}: {what} of checkpoint and config must agree, got {in_file} in the file '
            f'and {in_config} in the config; set {setting} to the former, or take another file'
        )
