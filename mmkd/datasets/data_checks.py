"""Checks of a run's data before it starts."""

import contextlib
import inspect
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

from mmkd.config.names import first_of
from mmkd.config.pair_config import is_distillation
from mmkd.datasets.annotations import check_coco
from mmkd.datasets.channels import check_channels
from mmkd.datasets.class_counts import check_class_counts
from mmkd.datasets.evaluator_checks import check_evaluator, masks_measured, measures
from mmkd.datasets.mask_checks import (
    check_loaded_masks,
    check_mask_fit,
    check_measured_masks,
    mask_loaders,
)
from mmkd.datasets.metainfo import classes_of, dataset_type
from mmkd.datasets.pipeline_checks import check_installed
from mmkd.datasets.split import Split, check_found, check_images
from mmkd.datasets.voc_annotations import check_voc
from mmkd.datasets.voc_files import VocImages
from mmkd.distributed.first_rank import on_first_rank
from mmkd.fileio.nearby import hint


def check_data(cfg: Config, phases: Iterable[str], here: bool = True) -> list[str]:
    """Check that the data of ``phases`` ('train', 'val', 'test') are sound, and fit the run.

    The data sets are there and keep the rules of docs/data.md, evaluators measure against what is
    loaded, and the model has as many classes as the data. Under several processes the first one
    looks, and what it finds is that of all.

    Args:
        cfg: of the run.
        phases: of it.
        here: whether it is to run here, so that what pipelines need must be installed. Defaults to
            True.

    Returns:
        What is left out or clipped and what else is worth a line in the log.

    Raises:
        FileNotFoundError: an annotation file, an image, a folder or (VOC) an XML file is missing.
        TypeError: ``metainfo`` or its classes are of another form.
        ValueError: an annotation file breaks a rule, or something does not fit.
    """
    return on_first_rank(_check_data, cfg, list(phases), here)


def _check_data(cfg: Config, phases: Sequence[str], here: bool) -> list[str]:
    notes = []
    for phase in phases:
        where, splits = f'{phase}_dataloader', []
        if here:
            _check_installed(cfg, phase)
        for dataset in _leaves(cfg, phase):
            check_channels(where, dataset.get('pipeline'), cfg)
            splits.append(_check_dataset(where, dataset, cfg.get('default_scope')))
            notes += _check_masks(where, dataset, splits[-1], cfg)
        known = [split for split in splits if split is not None]
        notes += [note for split in known for note in split.notes(where)]
        if known and known == splits:
            measured = phase != 'train' and measures(cfg, phase)
            notes += check_found(where, known, phase == 'train', measured)
        for path in masks_measured(cfg, phase) if phase != 'train' else ():
            files = {os.path.realpath(split.path) for split in known}
            other = path is not None and os.path.realpath(path) not in files
            evaluator, classes = f'{phase}_evaluator', classes_of_data(cfg, phase)
            if other and not os.path.isfile(str(path)):
                continue  # check_evaluator tells
            for split in [check_coco(evaluator, str(path), None)] if other else known:
                check_measured_masks(evaluator, split, classes)
    return notes + check_fit(cfg, phases)


def check_fit(cfg: Config, phases: Sequence[str]) -> list[str]:
    """The part of :func:`check_data` that is not about the data sets' files alone."""
    of_phase = {phase: classes_of_data(cfg, phase) for phase in phases}
    known = {phase: classes for phase, classes in of_phase.items() if classes}
    for phase, classes in known.items():
        first = next(iter(known))
        if list(classes) != list(known[first]):
            raise ValueError(
                f'{phase}_dataloader: metainfo.classes must be those of {first}_dataloader, in the '
                f'same order, which is that of the labels, but got {first_of(classes)} and '
                f'{first_of(known[first])}. Give both the same metainfo.'
            )
    for phase in phases:
        files = [str(file) for file in annotation_files(cfg, [phase])]
        if phase != 'train' and files:
            check_evaluator(cfg, phase, files, of_phase[phase])
    check_mask_fit(cfg, phases, [p for p in phases if p != 'train' and masks_measured(cfg, p)])
    return check_class_counts(cfg, next(iter(known.values()))) if known else []


def _check_installed(cfg: Config, phase: str) -> None:
    where, scope = f'{phase}_dataloader', cfg.get('default_scope')
    check_installed(where, (cfg.get(where) or {}).get('dataset'), scope)
    for hook in (cfg.get('custom_hooks') or ()) if phase == 'train' else ():
        later = dict(pipeline=isinstance(hook, Mapping) and hook.get('switch_pipeline'))
        check_installed('custom_hooks', later, scope)


def _leaves(cfg: Config, phase: str) -> list[Mapping[str, Any]]:
    return list(_leaf_datasets((cfg.get(f'{phase}_dataloader') or {}).get('dataset')))


def _leaf_datasets(dataset: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(dataset, Mapping):
        inner = dataset.get('datasets', dataset.get('dataset'))
        if inner is None:
            yield dataset
        else:
            yield from _leaf_datasets(inner)
    elif isinstance(dataset, list | tuple):
        for item in dataset:
            yield from _leaf_datasets(item)


def _form(dataset: Mapping[str, Any], scope: str | None) -> str | None:
    """Which files its type reads: 'COCO', 'VOC', or None for others."""
    kind = dataset_type(dataset, scope)
    if kind is None:  # the name must do
        name = str(dataset.get('type', '')).split('.')[-1]
        return 'COCO' if 'Coco' in name else 'VOC' if 'VOC' in name or 'XML' in name else None
    from mmdet.datasets import CocoDataset, XMLDataset

    reads = getattr(kind, 'load_data_list', None)
    if getattr(kind, 'COCOAPI', CocoDataset.COCOAPI) is not CocoDataset.COCOAPI:
        return None  # panoptic: segments for boxes
    forms = {CocoDataset.load_data_list: 'COCO', XMLDataset.load_data_list: 'VOC'}
    return forms.get(reads)


def _check_dataset(where: str, dataset: Mapping[str, Any], scope: str | None) -> Split | None:
    """What a data set of COCO or VOC form has; None of others, of which less is checked."""
    classes = classes_of(where, dataset, scope)
    root = dataset.get('data_root') or ''
    ann_file, prefix = dataset.get('ann_file') or '', dataset.get('data_prefix') or {}
    if '://' in f'{root}{ann_file}' or dataset.get('backend_args'):
        return None  # not on a disk: left to mmengine's file client
    paths = {'data_root': root, 'ann_file': os.path.join(root, ann_file) if ann_file else ''}
    paths.update(
        {
            f'data_prefix.{key}': os.path.join(root, value)
            for key, value in prefix.items()
            if isinstance(value, str)
        }
    )
    for key, path in paths.items():
        if path and not os.path.exists(path):
            raise FileNotFoundError(
                f'{where}: {key} must exist, but there is no "{path}" (seen from {os.getcwd()}). '
                'Put or link the data there, or correct data_root, ann_file and data_prefix.'
                f'{hint(os.path.dirname(path.rstrip("/")), [os.path.basename(path.rstrip("/"))])}'
            )
    path, form = paths['ann_file'], _form(dataset, scope)
    if not path or form is None:
        return None
    filters = {} if dataset.get('test_mode') else dataset.get('filter_cfg') or {}
    least = filters.get('min_size', 0)
    if form == 'COCO':
        split = check_coco(where, path, classes, least)
        folder, key, names = paths.get('data_prefix.img', root), 'data_prefix.img', split.names
    else:
        base = paths.get('data_prefix.sub_data_root', root)
        files = os.path.join(base, dataset.get('ann_subdir', 'Annotations'))
        split = check_voc(where, path, files, classes, least, filters.get('bbox_min_size') or 0)
        split = split._replace(bare=[(name, None) for name, count in split.found.items() if count])
        folder = os.path.join(base, dataset.get('img_subdir', 'JPEGImages'))
        find, key = VocImages().find, 'data_prefix or img_subdir'
        names = [find(folder, f'{name}.jpg') for name in split.names]
    part = dataset.get('indices') is not None
    if not part:
        check_images(where, folder, names, key)
    if part or not split.sized:
        loaded = _loaded(dataset, scope)
        found = Counter(dict.fromkeys(classes or (), 0))
        for instance in (i for info in loaded for i in info['instances']):
            found[(classes or ())[instance['bbox_label']]] += not instance['ignore_flag']
        split = split._replace(found=found)
        names = [os.path.relpath(info['img_path'], folder or '.') for info in loaded]
        check_images(where, folder, names, key)
    return split


def _check_masks(
    where: str, dataset: Mapping[str, Any], split: Split | None, cfg: Config
) -> list[str]:
    """Look at what is loaded only where the file says that it may lack masks."""
    scope = cfg.get('default_scope')
    pipeline = dataset.get('pipeline')
    if split is None or not (split.bare or not split.polygons):
        return []
    if not mask_loaders(pipeline, scope):
        return []
    return check_loaded_masks(where, split.path, _loaded(dataset, scope), pipeline, cfg)


def _loaded(dataset: Mapping[str, Any], scope: str | None) -> list[dict[str, Any]]:
    """What a data set gives of each image, where that depends on more than its files."""
    with (
        DefaultScope.overwrite_default_scope(scope or 'mmdet'),
        contextlib.redirect_stdout(io.StringIO()),  # of pycocotools
    ):
        # serialised, a data set without an image fails
        built = DATASETS.build({**dataset, 'pipeline': [], 'serialize_data': False})
    return [built.get_data_info(index) for index in range(len(built))]


def name_classes(cfg: Config) -> None:
    """Tell a pair what its student's classes are called, where its config does not: as the data."""
    model = cfg.get('model') if is_distillation(cfg) else None
    if model is None or model.get('classes') is not None:
        return
    with MODELS.switch_scope_and_registry(model.get('_scope_')) as registry:
        kind = model.get('type')
        kind = registry.get(kind) if isinstance(kind, str) else kind
    if not inspect.isclass(kind) or 'classes' not in inspect.signature(kind).parameters:
        return  # another algorithm than mmkd's
    loading = isinstance(cfg.get('train_dataloader'), Mapping)
    classes = classes_of_data(cfg, 'train') if loading else None
    if classes:
        model['classes'] = list(classes)


def classes_of_data(cfg: Config, phase: str) -> Sequence[str] | None:
    """The classes of a phase's data sets of COCO or VOC form, whose labels are fixed."""
    scope = cfg.get('default_scope')
    for dataset in _leaves(cfg, phase):
        if _form(dataset, scope) and not dataset.get('return_classes'):
            return classes_of(f'{phase}_dataloader', dataset, scope)
    return None


def annotation_files(cfg: Config, phases: Iterable[str]) -> list[Path]:
    """The annotation files on the disk that the data sets of ``phases`` read."""
    leaves = [
        dataset
        for phase in phases
        for dataset in _leaf_datasets((cfg.get(f'{phase}_dataloader') or {}).get('dataset'))
    ]
    files = [
        os.path.join(dataset.get('data_root') or '', dataset['ann_file'])
        for dataset in leaves
        if dataset.get('ann_file') and not dataset.get('backend_args')
    ]
    return [Path(file) for file in dict.fromkeys(files) if '://' not in file]
