"""Patches of how mmengine reads, writes and removes checkpoints."""

import functools
import pickle
from collections.abc import Callable
from typing import Any

import torch

from mmkd.fileio.atomic_writes import open_atomic, write_atomic
from mmkd.fileio.late_removal import LateRemoval


def history_method(owner: type, name: str) -> Callable[..., Any]:
    """What "getattr" means in a checkpoint that torch.load reads: mmengine's statistics only.

    The real ``getattr`` would lead a crafted file from any class to its module's globals.
    """
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise pickle.UnpicklingError(
            f'A checkpoint may name the methods of HistoryBuffer only; received {owner}.{name}. '
            'Do not load this file unless you trust its source.'
        )
    return getattr(owner, name)


def allow_checkpoint_globals() -> None:
    """torch.load refuses, from 2.6 on, the log history that mmengine saves with each checkpoint.

    What is named here can hold numbers, text and dates only, so that a checkpoint of mmengine loads
    with ``weights_only=True``, which runs no code that a file brings.
    """
    if not hasattr(torch.serialization, 'safe_globals'):
        return
    import _codecs

    from mmengine.logging import HistoryBuffer

    from mmkd.checkpoints.plain_numpy import (
        PlainArray,
        PlainDtype,
        no_bytes,
        plain_array,
        plain_scalar,
    )
    from mmkd.checkpoints.plain_pickle import BESIDE_WEIGHTS

    named: list[tuple[Callable[..., Any], str]] = [
        (history_method, 'builtins.getattr'),
        (PlainArray, 'numpy.ndarray'),
        (PlainDtype, 'numpy.dtype'),
        (no_bytes, 'builtins.bytes'),
    ]
    for package in ('numpy.core', 'numpy._core'):  # as NumPy 1 and as NumPy 2 write it
        named += [(plain_array, f'{package}.multiarray._reconstruct')]
        named += [(plain_scalar, f'{package}.multiarray.scalar')]
    named += [(value, name) for name, value in BESIDE_WEIGHTS.items()]
    torch.serialization.add_safe_globals([HistoryBuffer, _codecs.encode, *named])


def read_without_running() -> None:
    """mmengine unpickles what it fetches, and on the disk what the safe way refuses.

    Each of its loaders (path, http, torchvision, open-mmlab, s3, ...) becomes one that fetches the
    file and gives it to mmkd's reader. Schemes that a user registered stay.
    """
    from mmengine.runner import checkpoint

    def safe(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def load(filename: str, map_location: Any = None, *_: Any, **__: Any) -> Any:
            from mmkd.checkpoints.reader import (
                read_anything,  # it needs what the patches make importable
            )

            loaded = read_anything(filename, 'the file of weights', map_location)
            if filename.startswith('mmcls://'):
                return checkpoint._process_mmcls_checkpoint(loaded)
            return loaded

        return load

    schemes = checkpoint.CheckpointLoader._schemes
    for original in {*schemes.values()}:
        if original.__module__ == checkpoint.__name__:
            setattr(checkpoint, original.__name__, safe(original))
    for prefix, original in schemes.items():
        if original.__module__ == checkpoint.__name__:
            schemes[prefix] = getattr(checkpoint, original.__name__)
    if hasattr(checkpoint, '_safe_torch_load'):
        load = checkpoint._safe_torch_load
        checkpoint._safe_torch_load = functools.partial(load, weights_only=True)


def load_data_without_running() -> None:
    """mmengine's ``load`` calls what a ``.pkl`` or ``.yaml`` file names.

    So annotations, proposals, results and configs in YAML would be run as they are read.
    """
    from mmengine.fileio.handlers import PickleHandler, YamlHandler

    @functools.wraps(PickleHandler.load_from_fileobj)
    def load_pickled(self: Any, file: Any, **kwargs: Any) -> Any:
        from mmkd.checkpoints.plain_pickle import load_pickle

        return load_pickle(file, **kwargs)

    @functools.wraps(YamlHandler.load_from_fileobj)
    def load_yaml_text(self: Any, file: Any, **kwargs: Any) -> Any:
        from mmkd.checkpoints.plain_pickle import load_yaml

        return load_yaml(file, **kwargs)

    PickleHandler.load_from_fileobj = load_pickled
    YamlHandler.load_from_fileobj = load_yaml_text


def open_checkpoints_without_running() -> None:
    """mmengine's inferencers run the config in a checkpoint, where no other is given."""
    from mmengine.infer import BaseInferencer
    from mmengine.runner import checkpoint

    initialise = BaseInferencer._init_model

    @functools.wraps(initialise)
    def init_model(self: Any, cfg: Any, weights: str | None, *args: Any, **kwargs: Any) -> Any:
        if not cfg and weights is not None:
            from mmkd.checkpoints.registered_config import registered_config

            loaded = checkpoint._load_checkpoint(weights, map_location='cpu')
            cfg.update(registered_config(loaded, weights))
        return initialise(self, cfg, weights, *args, **kwargs)

    BaseInferencer._init_model = init_model


def count_what_fits() -> None:
    """mmengine loads what fits of a file, were it nothing, and at most logs the keys that lack.

    So it does for ``load_from`` and for ``init_cfg=dict(type='Pretrained')``. What is said beside
    the weights of the former is compared with the model; mmengine's ``resume`` would execute it.
    """
    from mmengine.model.weight_init import PretrainedInit
    from mmengine.runner import Runner, checkpoint

    from mmkd.checkpoints import loading
    from mmkd.checkpoints.data_origin import check_load_from

    load_state_dict = checkpoint.load_state_dict
    load_checkpoint, initialise = Runner.load_checkpoint, PretrainedInit.__call__

    @functools.wraps(load_state_dict)
    def load(module: Any, state_dict: Any, *args: Any, **kwargs: Any) -> None:
        load_state_dict(module, loading.count(module, state_dict), *args, **kwargs)

    @functools.wraps(load_checkpoint)
    def load_file(self: Any, filename: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        with loading.source('resume' if self._resume else 'load_from', filename):
            loaded = load_checkpoint(self, filename, *args, **kwargs)
        check_load_from(self, loaded)
        if isinstance(loaded.get('meta'), dict):
            loaded['meta'].pop('config', None)
        return loaded

    @functools.wraps(initialise)
    def initialise_from_file(self: Any, module: Any) -> None:
        what = f'init_cfg of {type(module).__name__}'
        try:
            with loading.source(what, self.checkpoint):
                initialise(self, module)
        except AssertionError as error:  # no key begins with the prefix
            raise ValueError(
                f'{what} must name a prefix of keys in its checkpoint, but got "{self.prefix}", '
                f'which none in "{self.checkpoint}" has. Correct prefix, or leave it out.'
            ) from error

    checkpoint.load_state_dict = load
    Runner.load_checkpoint, PretrainedInit.__call__ = load_file, initialise_from_file


def count_what_fits_in_transformers() -> None:
    """Swin and PVT read the file of their ``init_cfg`` themselves, and load what fits of it."""
    from mmdet.models.backbones import PyramidVisionTransformer, SwinTransformer

    from mmkd.checkpoints import loading

    for backbone in (SwinTransformer, PyramidVisionTransformer):
        original = backbone.init_weights

        @functools.wraps(original)
        def init_weights(self: Any, original: Callable[..., Any] = original) -> None:
            file = (self.init_cfg or {}).get('checkpoint')
            with loading.source(f'init_cfg of {type(self).__name__}', file):
                original(self)

        backbone.init_weights = init_weights

    def load_state_dict(self: Any, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        weights = loading.count(self, state_dict)
        return super(SwinTransformer, self).load_state_dict(weights, *args, **kwargs)

    SwinTransformer.load_state_dict = load_state_dict


def write_checkpoints_whole() -> None:
    """mmengine writes over the old file: a kill or a full disk leaves half a checkpoint.

    The same holds for ``last_checkpoint``, which names the newest.
    """
    from mmengine.fileio import LocalBackend
    from mmengine.hooks import checkpoint_hook

    LocalBackend.put = lambda self, obj, filepath: write_atomic(filepath, obj)
    checkpoint_hook.open = open_atomic


def remove_checkpoints_late() -> None:
    """CheckpointHook removes the oldest, or the best so far, before it has written the new one."""
    from mmengine.hooks import CheckpointHook

    def late(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def save(self: Any, *args: Any, **kwargs: Any) -> None:
            backend = self.file_backend
            self.file_backend = waiting = LateRemoval(backend)
            try:
                method(self, *args, **kwargs)
            finally:
                self.file_backend = backend
            best = [getattr(self, 'best_ckpt_path', None)]
            best += getattr(self, 'best_ckpt_path_dict', {}).values()
            waiting.remove_now(keep=[self.last_ckpt, *best])

        return save

    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        setattr(CheckpointHook, name, late(getattr(CheckpointHook, name)))
