"""What makes torch, mmcv, mmdet, mmrazor and mmyolo work together.

The only place that knows about other packages' versions and the only one that patches them. Each
patch is one function with its reason, and ``tests/test_compat.py`` fails when one is no longer
needed. ``import mmkd`` applies them all, before it imports anything else.
"""

import contextlib
import functools
import importlib
import importlib.abc
import importlib.util
import io
import os
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import cv2
import torch

from mmkd import ops
from mmkd.annotations import keep_valid_boxes
from mmkd.image_file import ImageError, check_whole
from mmkd.whole import LateRemoval, open_whole, write_whole

# The distributions that install each import package; one at a time, or they overwrite each other.
PROVIDERS = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
}


def installed(package: str) -> dict[str, str]:
    """Installed distributions that provide ``package``, with their versions."""
    found = {}
    for name in PROVIDERS[package]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def reject_mixed_families() -> None:
    """Two distributions of one package share a folder, each having overwritten files of the other.

    What then runs is neither; any error would come later and name something else.
    """
    for package in PROVIDERS:
        found = installed(package)
        if len(found) > 1:
            received = ' and '.join(f'{name} {number}' for name, number in found.items())
            raise ImportError(
                f'Only one installed distribution may provide the package "{package}"; received '
                f'{received}, whose files overwrite each other. Remove them all with '
                f'"pip uninstall -y {" ".join(found)}" and install one again: the onedl-* family '
                'with "pip install -e ." in mmkd\'s folder, or the original OpenMMLab family as '
                'docs/install.md says.'
            )


def require_pkg_resources() -> None:
    """The original mmengine finds the configs of other packages ("mmdet::...") through it."""
    if 'mmengine' in installed('mmengine') and importlib.util.find_spec('pkg_resources') is None:
        raise ImportError(
            'The original mmengine needs the module pkg_resources, which setuptools no longer '
            'contains from version 82 on; received an environment without it. Install it with '
            '"pip install \'setuptools<81\'".'
        )


def build_advice() -> str:
    """How to get mmcv with its ops compiled, for the mmcv that is installed."""
    found = installed('mmcv')
    if 'onedl-mmcv' in found:
        number = found['onedl-mmcv']
        return (
            'with a C++ compiler, "pip install setuptools wheel packaging ninja" and then "pip '
            'install --no-build-isolation --no-deps --no-cache-dir --force-reinstall '
            f'onedl-mmcv=={number}" (about ten minutes)'
        )
    return (
        '"pip uninstall -y mmcv-lite" and then install an mmcv 2.1.0 that was built for your '
        'torch, or build it (docs/install.md)'
    )


class MmcvExt(types.ModuleType):
    """Stands in for the extension module ``mmcv._ext``."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)
        return functools.partial(missing_op, name)


def missing_op(name: str, *args: object, **kwargs: object) -> None:
    raise NotImplementedError(
        f'The mmcv op "{name}" exists only compiled, and the installed mmcv has no compiled ops '
        f'(mmkd stands in for {", ".join(ops.SUPPLIED)}). To get them: {build_advice()}.'
    )


def supply_mmcv_ops() -> None:
    """``mmcv.ops``, which mmdet imports, needs an extension that a compile-free install lacks.

    Where it exists it is left alone, ours not even imported.
    """
    if importlib.util.find_spec('mmcv._ext') is not None:
        try:
            importlib.import_module('mmcv._ext')
        except ImportError as error:
            raise ImportError(
                'The compiled ops of mmcv must have been built with the torch that is installed; '
                f'received torch {torch.__version__} and "{error}". Build them again: '
                f'{build_advice()}.'
            ) from error
        return
    ext = MmcvExt('mmcv._ext')
    ext.__spec__ = ModuleSpec('mmcv._ext', loader=None)  # mmengine calls find_spec on it
    for name in ops.SUPPLIED:
        setattr(ext, name, getattr(ops, name))
    sys.modules['mmcv._ext'] = ext


class OldMmcvVersion(importlib.abc.MetaPathFinder):
    """Shows ``mmcv.__version__`` as 2.0.1 to packages while their ``__init__`` runs."""

    packages = ('mmrazor', 'mmyolo')

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self.packages:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                self.wrap(spec.loader)
                return spec
        return None

    def wrap(self, loader: importlib.abc.Loader) -> None:
        exec_module = loader.exec_module

        def exec_with_old_version(module: types.ModuleType) -> None:
            import mmcv

            number, mmcv.__version__ = mmcv.__version__, '2.0.1'
            try:
                exec_module(module)
            finally:
                mmcv.__version__ = number

        loader.exec_module = exec_with_old_version  # type: ignore[method-assign]


def accept_mmcv_version() -> None:
    """mmrazor asserts mmcv <= 2.1.0 and mmyolo < 2.1.0; only the version stands in the way.

    An import hook, since mmyolo, which is optional and GPL-3.0, must not be imported before a
    config asks for it.
    """
    sys.meta_path.insert(0, OldMmcvVersion())


def placeholder_quantization() -> None:
    """mmrazor's quantization imports private functions that torch has removed after 2.0.

    mmrazor.structures imports it along with all that distillation needs, and uses none of it.
    """

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            f'MMRazor\'s quantization ("{type(self).__name__}") works with torch <= 2.0 only; '
            f'received torch {torch.__version__}. mmkd distils; quantize the exported student '
            'with another tool.'
        )

    module = types.ModuleType('mmrazor.structures.quantization')
    module.__spec__ = ModuleSpec(module.__name__, loader=None)
    module.__dict__['__all__'] = ['BackendConfigs', 'QConfigHandler']
    for name in module.__dict__['__all__']:
        setattr(module, name, type(name, (), {'__init__': refuse}))
    sys.modules[module.__name__] = module


def history_method(owner: type, name: str) -> Callable:
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

    What is named here can hold numbers only, so that a checkpoint of mmengine loads with
    ``weights_only=True``, which runs no code that a file brings.
    """
    if not hasattr(torch.serialization, 'safe_globals'):
        return
    import _codecs

    import numpy as np
    from mmengine.logging import HistoryBuffer

    array: Any = np.zeros(1).__reduce__()[0]
    scalar: Any = np.float64(0).__reduce__()[0]
    named: list[tuple[Callable, str]] = [(history_method, 'builtins.getattr')]
    for package in ('numpy.core', 'numpy._core'):  # as NumPy 1 and as NumPy 2 write it
        named += [(array, f'{package}.multiarray._reconstruct')]
        named += [(scalar, f'{package}.multiarray.scalar')]
    dtypes = {type(np.dtype(code)) for code in np.typecodes['AllInteger'] + 'efd?'}
    torch.serialization.add_safe_globals(
        [HistoryBuffer, np.ndarray, np.dtype, _codecs.encode, *named, *dtypes]
    )


def read_without_running() -> None:
    """onedl-mmengine unpickles whatever a checkpoint asks for when the safe way refuses it."""
    from mmengine.runner import checkpoint

    original = getattr(checkpoint, '_safe_torch_load', None)
    if original is not None:
        checkpoint._safe_torch_load = functools.partial(original, weights_only=True)


def write_checkpoints_whole() -> None:
    """mmengine writes over the old file: a kill or a full disk leaves half a checkpoint.

    The same holds for ``last_checkpoint``, which names the newest.
    """
    from mmengine.fileio import LocalBackend
    from mmengine.hooks import checkpoint_hook

    LocalBackend.put = lambda self, obj, filepath: write_whole(filepath, obj)
    checkpoint_hook.open = open_whole


def remove_checkpoints_late() -> None:
    """CheckpointHook removes the oldest, or the best so far, before it has written the new one."""
    from mmengine.hooks import CheckpointHook

    def late(method: Callable) -> Callable:
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


def repair_ssd_head() -> None:
    """SSD cannot predict: BaseDenseHead reads ``loss_cls``, which SSDHead does not have."""
    from mmdet.models.dense_heads import SSDHead

    if not hasattr(SSDHead, 'loss_cls'):
        SSDHead.loss_cls = None


def normalise_ssd_over_ranks() -> None:
    """SSD divides by the positives of its own rank, which is not what one process does.

    DDP averages gradients: images on a rank with few objects would count for more. With one
    process nothing changes.
    """
    from mmdet.models.dense_heads import SSDHead
    from mmengine.dist import get_world_size

    from mmkd.normalizer import across_ranks

    original = SSDHead.get_targets

    @functools.wraps(original)
    def get_targets(self: SSDHead, *args: Any, **kwargs: Any) -> tuple:
        targets = original(self, *args, **kwargs)
        if get_world_size() == 1:
            return targets
        label_weights, num_pos = targets[1], targets[4]
        return (*targets[:4], across_ranks(num_pos, label_weights[0]), *targets[5:])

    SSDHead.get_targets = get_targets


def hold_boxes_to_the_rules() -> None:
    """mmdet keeps VOC boxes without size or outside the image, and clips none before it resizes."""
    with contextlib.redirect_stdout(io.StringIO()):  # mmdet prints that OneDL is not installed
        from mmdet.datasets import CocoDataset, XMLDataset

    for dataset in (CocoDataset, XMLDataset):
        original = dataset.parse_data_info

        @functools.wraps(original)
        def parse(self: Any, *args: Any, original: Callable = original, **kwargs: Any) -> dict:
            return keep_valid_boxes(original(self, *args, **kwargs))

        dataset.parse_data_info = parse


def refuse_broken_images() -> None:
    """OpenCV may fill what a truncated JPEG lacks with grey; its errors do not name the file."""
    import mmcv
    from mmcv.transforms import LoadImageFromFile

    decode, transform = mmcv.imfrombytes, LoadImageFromFile.transform

    @functools.wraps(decode)
    def imfrombytes(content: bytes, *args: Any, **kwargs: Any) -> Any:
        check_whole(content)
        return decode(content, *args, **kwargs)

    @functools.wraps(transform)
    def load(self: Any, results: dict) -> dict | None:
        try:
            return transform(self, results)
        except (AssertionError, OSError, ValueError, cv2.error) as error:
            raise ImageError.of(results['img_path'], error) from error

    mmcv.imfrombytes, LoadImageFromFile.transform = imfrombytes, load


def score_no_detections() -> None:
    """Without any detection CocoMetric gives an empty dict: no reader of mAP would learn of the 0.

    pycocotools looks at the first detection to see what kind they are.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        from mmdet.datasets.api_wrappers import COCO

    original = COCO.loadRes

    @functools.wraps(original)
    def load(self: Any, detections: Any) -> Any:
        if not isinstance(detections, list) or detections:
            return original(self, detections)
        found = type(self)()
        found.dataset = {**self.dataset, 'annotations': []}
        found.createIndex()
        return found

    COCO.loadRes = load


def tell_of_the_student() -> None:
    """mmdet's init_detector reads ``model.backbone`` of any config, which that of a pair lacks."""
    with warnings.catch_warnings(action='ignore'):  # of an optional metric that is not installed
        import mmdet.apis
    from mmdet.apis import inference
    from mmengine.config import Config

    original = inference.init_detector

    @functools.wraps(original)
    def init_detector(config: Any, *args: Any, **kwargs: Any) -> Any:
        from mmkd.export import is_distillation

        if isinstance(config, str | os.PathLike):
            config = Config.fromfile(config)
        if isinstance(config, Config) and is_distillation(config):
            raise ValueError(
                "init_detector's config must be that of a detector, but got that of a pair "
                f'({config.model.get("type")}). Give the student.py and student.pth that its '
                'training wrote into the work dir; of another checkpoint, python '
                'tools/export_student.py CONFIG CHECKPOINT NAME.pth writes them.'
            )
        return original(config, *args, **kwargs)

    inference.init_detector = mmdet.apis.init_detector = init_detector


def normalise_yolov5_over_ranks() -> None:
    """MMYOLO's class and box terms are means over the matches of a rank, which DDP averages alike.

    Here each rank's term of a level counts as much as its share of all ranks' matches, which is
    what one process does. ``prepare_launch`` calls this when MMYOLO's detectors are to train on
    several processes, since mmyolo must not be imported before a config asks for it.
    """
    from mmengine.dist import all_reduce, get_world_size
    from mmyolo.models.dense_heads import YOLOv5Head

    original = YOLOv5Head.loss_by_feat
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def loss_by_feat(self: Any, cls_scores: Any, *args: Any, **kwargs: Any) -> dict:
        world = get_world_size()
        if world == 1:
            return original(self, cls_scores, *args, **kwargs)
        matches = cls_scores[0].new_zeros(self.num_levels, dtype=torch.float32)
        terms: dict[str, dict[int, torch.Tensor]] = {'loss_bbox': {}, 'loss_cls': {}}
        levels = [0]  # whose objectness is done: the box term comes before it, the class term after

        def next_level(*_: Any) -> None:
            levels[0] += 1

        def remember(name: str, level_of: int, inputs: tuple, term: Any) -> None:
            level = levels[0] + level_of
            terms[name][level] = term[0] if isinstance(term, tuple) else term
            matches[level] = len(inputs[0])

        handles = [
            self.loss_obj.register_forward_hook(next_level),
            self.loss_bbox.register_forward_hook(lambda _, i, o: remember('loss_bbox', 0, i, o)),
            self.loss_cls.register_forward_hook(lambda _, i, o: remember('loss_cls', -1, i, o)),
        ]
        try:
            losses = original(self, cls_scores, *args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
        total = matches.clone()
        all_reduce(total)
        factors = (world * matches / total.clamp(min=1) - 1) * len(cls_scores[0]) * world
        for name, by_level in terms.items():
            for level, term in by_level.items():
                losses[name] = losses[name] + term * factors[level]
        return losses

    YOLOv5Head.loss_by_feat = loss_by_feat


PATCHES = (
    reject_mixed_families,
    require_pkg_resources,
    supply_mmcv_ops,
    accept_mmcv_version,
    placeholder_quantization,
    allow_checkpoint_globals,
    read_without_running,
    write_checkpoints_whole,
    remove_checkpoints_late,
    repair_ssd_head,
    normalise_ssd_over_ranks,
    hold_boxes_to_the_rules,
    refuse_broken_images,
    score_no_detections,
    tell_of_the_student,
)


def apply() -> None:
    """Apply every patch, in this order."""
    for patch in PATCHES:
        patch()
