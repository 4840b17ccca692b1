"""Checks of a run's data sets before it starts."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from mmkd.annotations import check_coco, check_images, check_voc
from mmkd.channels import check_channels
from mmkd.nearby import hint
from mmkd.voc_files import VocImages


def check_data(cfg: Config, phases: Iterable[str]) -> list[str]:
    """Check that the data sets of ``phases`` ('train', 'val', 'test') are there and sound.

    The rules are in docs/data.md.

    Returns:
        What is left out or clipped, a line for each file, for the log.

    Raises:
        FileNotFoundError: an annotation file, an image, a folder or (VOC) an XML file is missing.
        ValueError: an annotation file breaks a rule.
    """
    notes = []
    for phase in phases:
        for dataset in _leaf_datasets((cfg.get(f'{phase}_dataloader') or {}).get('dataset')):
            scope = cfg.get('default_scope')
            check_channels(f'{phase}_dataloader', dataset.get('pipeline'), cfg)
            notes += _check_dataset(f'{phase}_dataloader', dataset, scope, phase == 'train')
    return notes


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


def _check_dataset(where: str, dataset: Mapping, scope: str | None, training: bool) -> list[str]:
    kind = str(dataset.get('type', '')).split('.')[-1]
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
    path = paths['ann_file']
    if path and 'Coco' in kind:
        names, notes = check_coco(where, path, _classes(dataset, scope), training)
        check_images(where, paths.get('data_prefix.img', root), names, 'data_prefix.img')
    elif path and ('VOC' in kind or 'XML' in kind):
        base = paths.get('data_prefix.sub_data_root', root)
        folder = os.path.join(base, dataset.get('ann_subdir', 'Annotations'))
        names, notes = check_voc(where, path, folder, _classes(dataset, scope), training)
        images = os.path.join(base, dataset.get('img_subdir', 'JPEGImages'))
        find = VocImages().find
        names = [find(images, f'{name}.jpg') for name in names]
        check_images(where, images, names, 'data_prefix or img_subdir')
    else:
        return []
    return notes


def _classes(dataset: Mapping, scope: str | None) -> Sequence[str] | None:
    """The classes of the config or else of the data set's type; None where a file lists them."""
    with DATASETS.switch_scope_and_registry(dataset.get('_scope_', scope)) as registry:
        kind = dataset['type']
        kind = registry.get(kind) if isinstance(kind, str) else kind
    known = getattr(kind, 'METAINFO', {})
    classes = {**known, **(dataset.get('metainfo') or {})}.get('classes')
    return classes if isinstance(classes, list | tuple) else None


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
