"""Checks of a run's data before it starts."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmkd.config.names import first_of
from mmkd.datasets.annotations import check_coco, check_found, check_images, check_voc
from mmkd.datasets.channels import check_channels
from mmkd.datasets.class_counts import check_class_counts
from mmkd.datasets.evaluator_checks import check_evaluator, measures
from mmkd.datasets.metainfo import classes_of, dataset_type
from mmkd.datasets.voc_files import VocImages
from mmkd.distributed.first_rank import on_first_rank
from mmkd.fileio.nearby import hint


def check_data(cfg: Config, phases: Iterable[str]) -> list[str]:
    """Check that the data of ``phases`` ('train', 'val', 'test') are sound, and fit the run.

    The data sets are there and keep the rules of docs/data.md, evaluators measure against what is
    loaded, and the model has as many classes as the data. Under several processes the first one
    looks, and what it finds is that of all.

    Returns:
        What is left out or clipped and what else is worth a line in the log.

    Raises:
        FileNotFoundError: an annotation file, an image, a folder or (VOC) an XML file is missing.
        TypeError: ``metainfo`` or its classes are of another form.
        ValueError: an annotation file breaks a rule, or something does not fit.
    """
    return on_first_rank(_check_data, cfg, list(phases))


def _check_data(cfg: Config, phases: Sequence[str]) -> list[str]:
    notes = []
    for phase in phases:
        measured = phase != 'train' and measures(cfg, phase)
        for dataset in _leaves(cfg, phase):
            check_channels(f'{phase}_dataloader', dataset.get('pipeline'), cfg)
            notes += _check_dataset(
                f'{phase}_dataloader', dataset, cfg.get('default_scope'), phase == 'train', measured
            )
    return notes + check_fit(cfg, phases)


def check_fit(cfg: Config, phases: Sequence[str]) -> list[str]:
    """The part of :func:`check_data` that is not about the data sets' files alone."""
    of_phase = {phase: _phase_classes(cfg, phase) for phase in phases}
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
    return check_class_counts(cfg, next(iter(known.values()))) if known else []


def _leaves(cfg: Config, phase: str) -> list[Mapping]:
    return list(_leaf_datasets((cfg.get(f'{phase}_dataloader') or {}).get('dataset')))


def _leaf_datasets(dataset: Any) -> Iterable[Mapping]:
    if isinstance(dataset, Mapping):
        inner = dataset.get('datasets', dataset.get('dataset'))
        if inner is None:
            yield dataset
        else:
            yield from _leaf_datasets(inner)
    elif isinstance(dataset, list | tuple):
        for item in dataset:
            yield from _leaf_datasets(item)


def _form(dataset: Mapping, scope: str | None) -> str | None:
    """Which files its type reads: 'COCO', 'VOC', or None for others."""
    kind = dataset_type(dataset, scope)
    if kind is None:  # the name must do
        name = str(dataset.get('type', '')).split('.')[-1]
        return 'COCO' if 'Coco' in name else 'VOC' if 'VOC' in name or 'XML' in name else None
    from mmdet.datasets import CocoDataset, XMLDataset

    reads = getattr(kind, 'load_data_list', None)
    forms = {CocoDataset.load_data_list: 'COCO', XMLDataset.load_data_list: 'VOC'}
    return forms.get(reads)


def _check_dataset(
    where: str, dataset: Mapping, scope: str | None, training: bool, measured: bool
) -> list[str]:
    classes = classes_of(where, dataset, scope)
    root = dataset.get('data_root') or ''
    ann_file, prefix = dataset.get('ann_file') or '', dataset.get('data_prefix') or {}
    if '://' in f'{root}{ann_file}' or dataset.get('backend_args'):
        return []  # not on a disk: left to mmengine's file client
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
    if path and form == 'COCO':
        least = (dataset.get('filter_cfg') or {}).get('min_size', 0)
        names, notes = check_coco(where, path, classes, training, measured, least)
        check_images(where, paths.get('data_prefix.img', root), names, 'data_prefix.img')
    elif path and form == 'VOC':
        base = paths.get('data_prefix.sub_data_root', root)
        folder = os.path.join(base, dataset.get('ann_subdir', 'Annotations'))
        names, notes = check_voc(where, path, folder, classes, training)
        images = os.path.join(base, dataset.get('img_subdir', 'JPEGImages'))
        find = VocImages().find
        names = [find(images, f'{name}.jpg') for name in names]
        check_images(where, images, names, 'data_prefix or img_subdir')
        found = _loaded(dataset, scope, classes or ())
        notes += check_found(where, path, found, training, measured)
    else:
        return []
    return notes


def _loaded(dataset: Mapping, scope: str | None, classes: Sequence[str]) -> Counter[str]:
    """How many boxes of each class a data set gives that are not to be ignored, as it reads them.

    XML files are small; a COCO file is counted as it is checked.
    """
    with DefaultScope.overwrite_default_scope(scope or 'mmdet'):
        # serialised, a data set without an image fails
        built = DATASETS.build({**dataset, 'pipeline': [], 'serialize_data': False})
    found = Counter(dict.fromkeys(classes, 0))
    for index in range(len(built)):
        for instance in built.get_data_info(index)['instances']:
            found[classes[instance['bbox_label']]] += not instance['ignore_flag']
    return found


def _phase_classes(cfg: Config, phase: str) -> Sequence[str] | None:
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
