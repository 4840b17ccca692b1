"""Checks of a run's data sets before it starts."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config


def check_data(cfg: Config, phases: Iterable[str]) -> None:
    """Check that the data sets of ``phases`` ('train', 'val', 'test') are there and readable.

    Raises:
        FileNotFoundError: an annotation file, an image folder or (VOC) an XML file is missing.
        ValueError: an annotation file is not COCO JSON, or its categories are not the classes.
    """
    for phase in phases:
        for dataset in _leaf_datasets((cfg.get(f'{phase}_dataloader') or {}).get('dataset')):
            _check_dataset(f'{phase}_dataloader', dataset)


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


def _check_dataset(where: str, dataset: Mapping) -> None:
    kind = str(dataset.get('type', '')).split('.')[-1]
    root = dataset.get('data_root') or ''
    ann_file, prefix = dataset.get('ann_file') or '', dataset.get('data_prefix') or {}
    if '://' in f'{root}{ann_file}' or dataset.get('backend_args'):
        return  # not on a disk: left to mmengine's file client
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
            )
    if not ann_file:
        return
    path = paths['ann_file']
    if 'Coco' in kind:
        _check_coco(where, path, dataset)
    elif 'VOC' in kind or 'XML' in kind:
        _check_voc(where, path, root, prefix, dataset)


def _check_coco(where: str, path: str, dataset: Mapping) -> None:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (ValueError, OSError) as error:
        raise ValueError(
            f'{where}: ann_file must be COCO JSON, but "{path}" cannot be read as JSON ({error}). '
            'Give the annotation file, not the images or a list.'
        ) from error
    lacking = [
        key
        for key in ('images', 'annotations', 'categories')
        if not isinstance(content, dict) or not isinstance(content.get(key), list)
    ]
    if lacking:
        raise ValueError(
            f'{where}: ann_file must be COCO JSON with lists of images, annotations and '
            f'categories, but "{path}" lacks {", ".join(lacking)}. Convert it to COCO form.'
        )
    classes = (dataset.get('metainfo') or {}).get('classes')
    names = {category.get('name') for category in content['categories']}
    if isinstance(classes, list | tuple) and not set(classes) & names:
        raise ValueError(
            f'{where}: metainfo.classes must name categories of the annotation file '
            f'({", ".join(sorted(map(str, names)))}), but got {", ".join(classes)}. '
            'Correct the names: mmdet would silently train on images without objects.'
        )


def _check_voc(where: str, path: str, root: str, prefix: Mapping, dataset: Mapping) -> None:
    with open(path, encoding='utf-8', errors='replace') as file:
        names = file.read().split()
    folder = os.path.join(
        root, prefix.get('sub_data_root', ''), dataset.get('ann_subdir', 'Annotations')
    )
    lost = [name for name in names if not os.path.isfile(os.path.join(folder, f'{name}.xml'))]
    if not names or lost:
        fault = f'{len(lost)} of its {len(names)} names' if names else 'it is empty:'
        raise FileNotFoundError(
            f'{where}: ann_file must list images that have an XML file in "{folder}", but for '
            f'"{path}" {fault} have none ({", ".join(lost[:3])}). Correct ann_file or ann_subdir.'
        )


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
