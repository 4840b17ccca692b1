"""``Layer``: the modules of a stored YOLOv5 network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mmkd.checkpoints.ultralytics.errors import CheckpointError
from mmkd.checkpoints.ultralytics.inert_objects import Bag, TensorRef, describe

# The first is the name up to v6.1.
NETWORK_CLASSES = ('models.yolo.Model', 'models.yolo.DetectionModel')
# Focus, SPP and BottleneckCSP belong to networks before v6.0: known, so that such a file is told
# from a dangerous one; the conversion then says what it can take.
LAYER_CLASSES = frozenset(
    {
        *NETWORK_CLASSES,
        'models.yolo.Detect',
        *(
            f'models.common.{name}'
            for name in (
                'Bottleneck',
                'BottleneckCSP',
                'C3',
                'Concat',
                'Conv',
                'Focus',
                'SPP',
                'SPPF',
            )
        ),
        *(
            f'torch.nn.modules.{name}'
            for name in (
                'activation.Hardswish',
                'activation.LeakyReLU',
                'activation.ReLU',
                'activation.SiLU',
                'batchnorm.BatchNorm2d',
                'batchnorm.SyncBatchNorm',
                'container.ModuleList',
                'container.Sequential',
                'conv.Conv2d',
                'linear.Identity',
                'pooling.MaxPool2d',
                'upsampling.Upsample',
            )
        ),
    }
)
# The same layer when it predicts; training on several GPUs leaves it in a file.
_KINDS = {'torch.nn.modules.batchnorm.SyncBatchNorm': 'BatchNorm2d'}
# YOLOv5x has 700 modules with their children; a graph that shares its parts can claim 2 ** 1000.
_MAX_MODULES = 20_000


@dataclass(frozen=True, eq=False)
class Layer:
    """One module of the stored network.

    Args:
        path: Its place in the network, e.g. ``model.2.cv1``; also the prefix of its keys.
        kind: The last part of its class' name, e.g. ``C3``.
        attrs: Its plain attributes (no tensors, no children).
        tensors: Its own parameters and persistent buffers.
        children: The modules in it, by name.
    """

    path: str
    kind: str
    attrs: dict[str, Any]
    tensors: dict[str, TensorRef]
    children: dict[str, 'Layer']

    def walk(self) -> Iterator['Layer']:
        """The layer and all below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


def layer_tree(network: Bag) -> Layer:
    """Turns what was read of a network into layers.

    Raises:
        CheckpointError: It is no tree of modules, or larger than any YOLOv5.
    """
    return _Tree().layer(network, '')


class _Tree:
    """Turns bags into layers, with an account of how many there were."""

    def __init__(self) -> None:
        self.count = 0

    def layer(self, bag: Bag, path: str, depth: int = 0) -> Layer:
        self.count += 1
        if self.count > _MAX_MODULES or depth > 16:
            raise CheckpointError('the network claims to be larger than any YOLOv5')
        state = bag.state
        where = path or 'the network'
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise CheckpointError(f'{where} must have a dict of attributes, got {describe(state)}')
        prefix = f'{path}.' if path else ''
        hidden = state.get('_non_persistent_buffers_set')
        hidden = hidden if isinstance(hidden, set) else set()
        tensors = self.part(state, '_parameters', TensorRef, where)
        tensors |= {
            name: ref
            for name, ref in self.part(state, '_buffers', TensorRef, where).items()
            if name not in hidden
        }
        children = self.part(state, '_modules', Bag, where)
        return Layer(
            path=path,
            kind=_KINDS.get(bag.name, bag.name.rpartition('.')[2]),
            attrs={key: value for key, value in state.items() if not key.startswith('_')},
            tensors=tensors,
            children={
                name: self.layer(child, prefix + name, depth + 1)
                for name, child in children.items()
            },
        )

    @staticmethod
    def part(state: dict[str, Any], name: str, kind: type, where: str) -> dict[str, Any]:
        part = state.get(name, {})
        if not isinstance(part, dict):
            raise CheckpointError(f'{where}: {name} must be a dict, got {describe(part)}')
        for key, value in part.items():
            if not isinstance(key, str) or not isinstance(value, kind | None):
                raise CheckpointError(
                    f'{where}: {name} must map names to {kind.__name__}, got {describe(value)}'
                )
        # A parameter that a layer does without (a convolution's bias) is None.
        return {key: value for key, value in part.items() if value is not None}
