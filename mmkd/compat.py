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
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from os.path import isabs
from typing import Any

import cv2
import numpy as np
import torch

from mmkd import ops, ops_deform
from mmkd.image_file import ImageError, check_declared_size, check_depth, check_whole
from mmkd.kept_boxes import keep_in_coco, keep_once, keep_valid_boxes
from mmkd.voc_files import VocImages, listed_images
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


def supplied_ops() -> dict[str, Callable]:
    """The stand-ins for mmcv's compiled ops, by name."""
    return {name: getattr(module, name) for module in (ops, ops_deform) for name in module.SUPPLIED}


class MmcvExt(types.ModuleType):
    """Stands in for the extension module ``mmcv._ext``."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)
        return functools.partial(missing_op, name)


def missing_op(name: str, *args: object, **kwargs: object) -> None:
    raise NotImplementedError(
        f'The mmcv op "{name}" exists only compiled, and the installed mmcv has no compiled ops '
        f'(mmkd stands in for {", ".join(supplied_ops())}). To get them: {build_advice()}.'
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
    for name, op in supplied_ops().items():
        setattr(ext, name, op)
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

    from mmengine.logging import HistoryBuffer

    from mmkd.plain_numpy import PlainArray, PlainDtype, no_bytes, plain_array, plain_scalar

    named: list[tuple[Callable, str]] = [
        (history_method, 'builtins.getattr'),
        (PlainArray, 'numpy.ndarray'),
        (PlainDtype, 'numpy.dtype'),
        (no_bytes, 'builtins.bytes'),
    ]
    for package in ('numpy.core', 'numpy._core'):  # as NumPy 1 and as NumPy 2 write it
        named += [(plain_array, f'{package}.multiarray._reconstruct')]
        named += [(plain_scalar, f'{package}.multiarray.scalar')]
    torch.serialization.add_safe_globals([HistoryBuffer, _codecs.encode, *named])


def read_without_running() -> None:
    """mmengine unpickles what it fetches, and on the disk what the safe way refuses.

    Each of its loaders (path, http, torchvision, open-mmlab, s3, ...) becomes one that fetches the
    file and gives it to mmkd's reader. Schemes that a user registered stay.
    """
    from mmengine.runner import checkpoint

    def safe(original: Callable) -> Callable:
        @functools.wraps(original)
        def load(filename: str, map_location: Any = None, *_: Any, **__: Any) -> Any:
            from mmkd.reader import read_anything  # it needs what the patches make importable

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


def count_what_fits() -> None:
    """mmengine loads what fits of a file, were it nothing, and at most logs the keys that lack.

    So it does for ``load_from`` and for ``init_cfg=dict(type='Pretrained')``. What is said beside
    the weights of the former is compared with the model; mmengine's ``resume`` would execute it.
    """
    from mmengine.model.weight_init import PretrainedInit
    from mmengine.runner import Runner, checkpoint

    from mmkd import loading
    from mmkd.data_origin import check_load_from

    load_state_dict = checkpoint.load_state_dict
    load_checkpoint, initialise = Runner.load_checkpoint, PretrainedInit.__call__

    @functools.wraps(load_state_dict)
    def load(module: Any, state_dict: Any, *args: Any, **kwargs: Any) -> None:
        load_state_dict(module, loading.count(module, state_dict), *args, **kwargs)

    @functools.wraps(load_checkpoint)
    def load_file(self: Any, filename: str, *args: Any, **kwargs: Any) -> dict:
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

    from mmkd import loading

    for backbone in (SwinTransformer, PyramidVisionTransformer):
        original = backbone.init_weights

        @functools.wraps(original)
        def init_weights(self: Any, original: Callable = original) -> None:
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


def read_voc_lists_and_suffixes() -> None:
    """mmdet takes a byte order mark and empty lines for names, and each VOC image for a .jpg."""
    with contextlib.redirect_stdout(io.StringIO()):  # mmdet prints that OneDL is not installed
        from mmdet.datasets import XMLDataset, xml_style

    parse_data_info, load_data_list = XMLDataset.parse_data_info, XMLDataset.load_data_list

    @functools.wraps(parse_data_info)
    def parse(self: Any, img_info: dict) -> Any:
        images = getattr(self, '_voc_images', None)  # not where a subclass lists images itself
        if images is not None:
            file_name = images.find(self.sub_data_root, img_info['file_name'])
            img_info = {**img_info, 'file_name': file_name}
        return parse_data_info(self, img_info)

    @functools.wraps(load_data_list)
    def load(self: Any) -> list:
        self._voc_images = VocImages()
        try:
            return load_data_list(self)
        finally:
            del self._voc_images

    XMLDataset.parse_data_info, XMLDataset.load_data_list = parse, load
    xml_style.list_from_file = listed_images


def hold_boxes_to_the_rules() -> None:
    """mmdet keeps VOC boxes without size or outside the image, and clips none before it resizes.

    ``CocoMetric`` reads its file for itself and keeps what ``CocoDataset`` leaves out; pycocotools
    takes annotation 0 for "not found", and "0" and null for what they are not. Both read through
    mmdet's ``COCO``.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # mmdet prints that OneDL is not installed
        from mmdet.datasets import CocoDataset, XMLDataset
        from mmdet.datasets.api_wrappers import COCO

    for dataset, keeps in (
        (CocoDataset, (keep_valid_boxes,)),
        (XMLDataset, (keep_valid_boxes, keep_once)),
    ):
        original = dataset.parse_data_info

        @functools.wraps(original)
        def parse(
            self: Any,
            *args: Any,
            original: Callable = original,
            keeps: tuple[Callable, ...] = keeps,
            **kwargs: Any,
        ) -> dict:
            info = original(self, *args, **kwargs)
            for keep in keeps:
                info = keep(info)
            return info

        dataset.parse_data_info = parse

    index = COCO.createIndex

    @functools.wraps(index)
    def create_index(self: Any) -> None:
        keep_in_coco(self.dataset)
        index(self)

    load_categories = COCO.loadCats

    @functools.wraps(load_categories)
    def load_cats(self: Any, ids: Any = ()) -> Any:
        return load_categories(self, [ids] if isinstance(ids, str) else ids)  # not letter by letter

    COCO.createIndex, COCO.loadCats = create_index, load_cats


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """mmdet says on import which optional packages are not installed."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def give_metrics_the_loaded_truth() -> None:
    """VOCMetric compares boxes of the original image with boxes as the pipeline has moved them.

    Where LoadAnnotations stands before Resize, perfect boxes score 0. Here each sample carries the
    boxes of its data set, in the coordinates of the image file, and VOCMetric takes these; so
    does CocoMetric without ``ann_file``.
    """
    with _quietly():
        from mmdet.datasets.base_det_dataset import BaseDetDataset
        from mmdet.evaluation import VOCMetric

    def prepare(self: Any, idx: int) -> Any:
        info = self.get_data_info(idx)
        keys = ('bbox', 'bbox_label', 'ignore_flag')
        truth = [{key: i[key] for key in keys if key in i} for i in info.get('instances', ())]
        data = self.pipeline(info)
        samples: Any = data.get('data_samples') if isinstance(data, dict) else None
        for sample in samples if isinstance(samples, list) else [samples]:
            if hasattr(sample, 'set_field') and 'instances' not in sample:
                sample.set_field(truth, 'instances', field_type='metainfo')
        return data

    process = VOCMetric.process

    @functools.wraps(process)
    def process_loaded(self: Any, data_batch: Any, data_samples: Sequence[dict]) -> None:
        process(self, data_batch, [_with_loaded_truth(sample) for sample in data_samples])

    BaseDetDataset.prepare_data, VOCMetric.process = prepare, process_loaded


def _with_loaded_truth(sample: dict) -> dict:
    instances = sample.get('instances')
    if instances is None or not all({'bbox', 'bbox_label'} <= i.keys() for i in instances):
        return sample
    truth: list[dict[str, torch.Tensor]] = []
    for ignored in (0, 1):
        kept = [i for i in instances if i.get('ignore_flag', 0) == ignored]
        boxes = torch.tensor([i['bbox'] for i in kept], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([i['bbox_label'] for i in kept], dtype=torch.long)
        truth.append(dict(bboxes=boxes, labels=labels))
    return {**sample, 'gt_instances': truth[0], 'ignored_instances': truth[1]}


def measure_what_was_loaded() -> None:
    """CocoMetric counts the objects of all images of its file, whichever the loader gave.

    It finds the categories in the order of the file, not of the labels, and names the figures of
    ``classwise`` in that order, while pycocotools sorts by id. An image that was loaded twice
    (RepeatDataset) counts as twice as many detections. ``iou_thrs`` as a number or a list, and
    ``proposal_nums`` without 100, give no mAP or -1.
    """
    with _quietly():
        from mmdet.evaluation import CocoMetric
    from pycocotools.cocoeval import COCOeval

    compute = CocoMetric.compute_metrics

    @functools.wraps(compute)
    def compute_loaded(self: Any, results: list) -> dict:
        by_image = {result['img_id']: (truth, result) for truth, result in results}
        self.iou_thrs = np.atleast_1d(self.iou_thrs)
        if self._coco_api is not None:
            ids = {category['name']: key for key, category in self._coco_api.cats.items()}
            lacking = [name for name in self.dataset_meta['classes'] if name not in ids]
            if lacking:
                raise ValueError(
                    'the ann_file of CocoMetric must have the classes of the data set, but lacks '
                    f'{", ".join(lacking)}. Give the ann_file of the data set.'
                )
            self.img_ids = list(by_image)
            self.cat_ids = [ids[name] for name in self.dataset_meta['classes']]
            self._coco_api.label_order = self.cat_ids
        return compute(self, list(by_image.values()))

    accumulate, summarize = COCOeval.accumulate, COCOeval.summarize

    @functools.wraps(accumulate)
    def accumulate_by_label(self: Any, p: Any = None) -> None:
        accumulate(self, p)
        order = getattr(self.cocoGt, 'label_order', None)
        if order and self.params.useCats:
            index = [list(self.params.catIds).index(key) for key in order]
            for name, axis in (('precision', 2), ('scores', 2), ('recall', 1)):
                self.eval[name] = self.eval[name].take(index, axis)

    @functools.wraps(summarize)
    def summarize_most(self: Any) -> None:
        summarize(self)
        if self.params.iouType in ('bbox', 'segm') and 100 not in self.params.maxDets:
            found = self.eval['precision'][:, :, :, 0, -1]
            found = found[found > -1]
            self.stats[0] = found.mean() if found.size else -1

    CocoMetric.compute_metrics = compute_loaded
    COCOeval.accumulate, COCOeval.summarize = accumulate_by_label, summarize_most


def lengthen_short_palettes() -> None:
    """A drawing fails at the first object whose label is above the palette's length.

    Such palettes are those of the built-in data sets, which stay beside a config's own classes.
    """
    with _quietly():
        from mmdet.engine.hooks import visualization_hook
        from mmdet.visualization import local_visualizer, palette

    original = palette.get_palette

    @functools.wraps(original)
    def get_palette(palette: Any, num_classes: int) -> Any:
        if isinstance(palette, list) and len(palette) < num_classes:
            return [*palette, *original('random', num_classes)[len(palette) :]]
        return original(palette, num_classes)

    for module in (palette, local_visualizer, visualization_hook):
        if hasattr(module, 'get_palette'):
            module.get_palette = get_palette


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


def find_shipped_configs() -> None:
    """mmengine finds "package::..." in the packages that it lists, in folders only, mmkd in none.

    It also takes the name for a scope, which of mmkd none is: a shipped config has its own.
    """
    from mmengine import hub
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    from mmkd_cli.shipped import PREFIX, shipped_config

    base, split = Config._get_cfg_path, hub.hub._get_package_and_cfg_path
    metainfo, get_model = hub.hub._get_cfg_metainfo, hub.get_model

    def base_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(PREFIX):
            return str(shipped_config(cfg_path)), None
        return base(cfg_path, filename)

    def package_and_path(cfg_path: str) -> tuple[str, str]:
        if cfg_path.startswith(PREFIX):
            return 'mmkd', str(shipped_config(cfg_path))
        return split(cfg_path)

    def config_metainfo(package_path: str, cfg_path: str) -> dict:
        return {'Config': cfg_path} if isabs(cfg_path) else metainfo(package_path, cfg_path)

    @functools.wraps(get_model)
    def model(cfg_path: str, pretrained: bool = False, **kwargs: Any) -> Any:
        if not cfg_path.startswith(PREFIX):
            return get_model(cfg_path, pretrained, **kwargs)
        config = hub.get_config(cfg_path, pretrained)
        with DefaultScope.overwrite_default_scope(config.default_scope):
            return MODELS.build(config.model, default_args=kwargs)

    Config._get_cfg_path = staticmethod(base_path)
    hub.hub._get_package_and_cfg_path = package_and_path
    hub.hub._get_cfg_metainfo = config_metainfo
    hub.get_model = hub.hub.get_model = model


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


def check_loaded_images() -> None:
    """mmdet trusts the size that annotations give, and takes what is left of 16 bits in 8.

    Whichever transform loads the image sets ``ori_shape``, of mmdet or of the user. One that
    cannot work on an image of its channels or depth fails without its name.
    """
    from mmcv.transforms import BaseTransform

    original = BaseTransform.__call__

    @functools.wraps(original)
    def call(self: Any, results: Any) -> Any:
        loads = isinstance(results, dict) and 'ori_shape' not in results
        loads = loads and not hasattr(self, 'transforms')  # of several, each is asked itself
        try:
            outcome = original(self, results)
        except cv2.error as error:
            raise ImageError.in_transform(type(self).__name__, results, error) from error
        if loads and isinstance(outcome, dict) and 'ori_shape' in outcome:
            color_type = getattr(self, 'color_type', 'color')
            backend = getattr(self, 'imdecode_backend', 'cv2')
            check_declared_size(outcome, color_type, backend)
            check_depth(outcome, color_type, backend)
        return outcome

    BaseTransform.__call__ = call


def name_images_of_other_channels() -> None:
    """mmengine fails on an image with other channels without its name, or takes it for another."""
    from mmengine.model import ImgDataPreprocessor

    from mmkd.channels import check_batch

    original = ImgDataPreprocessor.forward

    @functools.wraps(original)
    def forward(self: Any, data: Any, training: bool = False) -> Any:
        if isinstance(data, dict) and isinstance(data.get('inputs'), list | tuple):
            check_batch(data['inputs'], data.get('data_samples'), self)
        return original(self, data, training)

    ImgDataPreprocessor.forward = forward


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
    find_shipped_configs,
    allow_checkpoint_globals,
    read_without_running,
    count_what_fits,
    write_checkpoints_whole,
    remove_checkpoints_late,
    repair_ssd_head,
    count_what_fits_in_transformers,
    normalise_ssd_over_ranks,
    read_voc_lists_and_suffixes,
    hold_boxes_to_the_rules,
    refuse_broken_images,
    score_no_detections,
    tell_of_the_student,
    give_metrics_the_loaded_truth,
    measure_what_was_loaded,
    lengthen_short_palettes,
    check_loaded_images,
    name_images_of_other_channels,
)


def apply() -> None:
    """Apply every patch, in this order."""
    for patch in PATCHES:
        patch()
