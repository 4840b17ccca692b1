"""Parts of a detector built from a checkpoint's own config: of registered types, nothing else."""

import builtins
import importlib.util
import inspect
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, TASK_UTILS, DefaultScope, Registry
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

#: Packages whose layers, losses and task modules a checkpoint may name although the model has none
#: of them. Their constructors read no files.
_PLAIN = (
    *('torch.nn.', 'mmcv.cnn.', 'mmcv.ops.', 'mmengine.utils.dl_utils.'),
    *(
        f'{package}.models.{part}'
        for package in ('mmdet', 'mmyolo')
        for part in ('layers', 'losses', 'task_modules')
    ),
)

#: Arguments that say how a part is trained or where its first weights come from.
_OF_TRAINING = ('init_cfg', 'pretrained', 'train_cfg', 'test_cfg', '_scope_')

_SCOPES = ('mmdet', 'mmyolo')


class NotBuilt(Exception):
    """A part that cannot be built from the file's config; the message tells why."""


class Bounded(TorchDispatchMode):
    """Ends a construction that makes far more tensors than it should, before it makes them.

    Args:
        own: the tensors of the model, or of the file that it is built for.

    Raises:
        NotBuilt: in the block.
    """

    def __init__(self, own: Sequence[Tensor]) -> None:
        super().__init__()
        self.steps = 1000 * len(own) + 100_000
        self.elements = 4 * sum(tensor.numel() for tensor in own) + 20_000_000

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        sizes = [math.prod(arg) for arg in args if _is_size(arg)]
        if 'arange' in str(func) or 'linspace' in str(func):
            sizes += [abs(arg) for arg in args if isinstance(arg, int | float)]
        if not any(isinstance(arg, Tensor) for arg in args):  # a new one, no view of another
            self.elements -= max(sizes, default=0)
        elif self._of_several(func, args) > self.elements:
            self.elements = -1
        self.steps -= 1
        if min(self.steps, self.elements) < 0:
            raise NotBuilt('its config asks for far more weights than the model has')
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _of_several(func: Any, args: Any) -> int:
        """How many elements come of tensors that are stretched to each other, or repeated."""
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if 'repeat' in str(func):
            return tensors[0].numel() * max((math.prod(a) for a in args if _is_size(a)), default=1)
        try:
            return math.prod(torch.broadcast_shapes(*(tensor.shape for tensor in tensors)))
        except RuntimeError:  # they are not
            return 0


def _is_size(argument: Any) -> bool:
    return isinstance(argument, list | tuple) and all(isinstance(n, int) for n in argument)


def build_parts(
    config: Mapping[str, Any], model: nn.Module, scope: str = 'mmdet'
) -> tuple[dict[str, nn.Module], list[str]]:
    """The parts (backbone, neck, heads) that ``config`` describes, where ``model`` has the same.

    A part is built if its type is that of the model's own part; what lies in it must be registered
    under a plain name and be among the model's own classes or of the packages in ``_PLAIN``.
    Nothing is imported. The global random state is left as it was. A config that asks for far more
    than the model has is not built.

    Args:
        config: a detector's model config, of literals.
        model: the detector that its weights go into.
        scope: where types are looked up, ``mmdet`` or ``mmyolo``.

    Returns:
        The built parts by their path in the model, and why others were not built.
    """
    scope = scope if scope in _SCOPES and scope in sys.modules else _scope_of(model)
    own = _classes(model)
    built: dict[str, nn.Module] = {}
    own_tensors = [*model.parameters(), *model.buffers()]
    notes = []
    for path, part in _parts(config):
        try:
            target = model.get_submodule(path)
        except AttributeError:
            continue
        try:
            with Bounded(own_tensors):
                built[path] = _build(part, target, own, scope)
        except NotBuilt as reason:
            notes.append(f'{path}: {reason}')
    return built, notes


def _parts(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, part in config.items():
        if name in ('data_preprocessor', *_OF_TRAINING):
            continue
        if isinstance(part, Mapping) and 'type' in part:
            yield name, part
        elif isinstance(part, list | tuple):  # a neck of several
            for i, item in enumerate(part):
                if isinstance(item, Mapping) and 'type' in item:
                    yield f'{name}.{i}', item


def _build(part: Mapping[str, Any], target: nn.Module, own: set[type], scope: str) -> nn.Module:
    config = _registered(part, own)
    kind = _lookup(part['type'])
    if type(target) not in kind:
        raise NotBuilt(f'is a {type(target).__name__} here, and {part["type"]!s:.80} there')
    known = inspect.signature(type(target).__init__).parameters
    config.update({key: None for key in ('train_cfg', 'test_cfg') if key in known})
    with (
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
        DefaultScope.overwrite_default_scope(scope),
    ):
        warnings.simplefilter('ignore')
        try:
            return MODELS.build(ConfigDict({**config, 'type': type(target)}))
        except NotBuilt:
            raise
        except Exception as error:
            # Of another version, whose arguments were others: no fault of the weights.
            raise NotBuilt(f'{type(error).__name__}: {error}'[:200]) from error


def _registered(node: Any, own: set[type]) -> Any:
    """A copy of ``node`` whose types are names in registries, without what concerns training.

    Raises:
        NotBuilt: one of them is not, or is of a class that may do more than compute.
    """
    if isinstance(node, list | tuple):
        return type(node)(_registered(item, own) for item in node)
    if not isinstance(node, Mapping):
        return deepcopy(node)
    copied = {k: _registered(v, own) for k, v in node.items() if k not in _OF_TRAINING}
    if 'type' in node and not _is_plain_word(node['type']):
        found = _lookup(node['type'])
        if not any(kind in own or f'{kind.__module__}.'.startswith(_PLAIN) for kind in found):
            raise NotBuilt(f'its {node["type"]!s:.80} is none of the registered types of the model')
        scope, name = node['type'].split('.')[0], next(iter(found.values()))
        copied['type'] = f'{scope}.{name}' if scope in _SCOPES and scope != name else name
    return copied


def _is_plain_word(name: Any) -> bool:
    """Whether a ``type`` names no class at all, but, for example, a mode of a layer."""
    if not isinstance(name, str) or not name.isidentifier() or _lookup(name):
        return False
    if hasattr(builtins, name):  # mmcv evaluates the word that names a kind of NMS
        return False
    # mmengine would import a module of this name.
    return name not in sys.modules and importlib.util.find_spec(name) is None


def _lookup(name: Any) -> dict[Any, str]:
    """The classes registered under a name, with it; for a dotted one under its class's name."""
    if not isinstance(name, str):
        return {}
    package, _, plain = name.rpartition('.')
    package = package.split('.')[0]
    found = {r.module_dict[plain]: plain for r in _registries() if plain in r.module_dict}
    if package and not found:  # as pure-Python configs name it: torch.nn...BatchNorm2d is "BN2d"
        items = [item for r in _registries() for item in r.module_dict.items()]
        found = {kind: key for key, kind in items if getattr(kind, '__name__', '') == plain}
    if not package:  # mmdet takes RoI layers from mmcv's ops by their names
        layer = getattr(sys.modules.get('mmcv.ops'), plain, None)
        found.update({layer: plain} if inspect.isclass(layer) else {})
    return {
        kind: key
        for kind, key in found.items()
        if not package or kind.__module__.split('.')[0] == package
    }


def _registries(roots: Sequence[Registry] = (MODELS, TASK_UTILS)) -> Iterator[Registry]:
    waiting = list(roots)
    while waiting:
        registry = waiting.pop()
        yield registry
        waiting += registry.children.values()


def _classes(model: nn.Module) -> set[type]:
    """The classes of a model's modules, and of the prior generators, coders and so on in them."""
    modules = list(model.modules())
    return {type(part) for module in modules for part in (module, *vars(module).values())}


def _scope_of(model: nn.Module) -> str:
    package = type(model).__module__.split('.')[0]
    return package if package in _SCOPES else 'mmdet'
