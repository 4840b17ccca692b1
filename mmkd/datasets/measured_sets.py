"""The data sets of a config that a test and a validation measure on."""

from collections.abc import Mapping
from typing import Any


def measured_sets(cfg: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those with a pipeline, the test's first; of several joined ones the first.

    >>> inner = dict(type='CocoDataset', pipeline=[])
    >>> dataset = dict(type='ConcatDataset', datasets=[dict(inner, pipeline=[1])])
    >>> measured_sets(dict(test_dataloader=dict(dataset=dataset)))
    [{'type': 'CocoDataset', 'pipeline': [1]}]
    """
    found = []
    for key in ('test_dataloader', 'val_dataloader'):
        dataset: Any = (cfg.get(key) or {}).get('dataset')
        while isinstance(dataset, Mapping) and not dataset.get('pipeline'):
            inner = dataset.get('dataset', dataset.get('datasets'))
            dataset = inner[0] if isinstance(inner, list | tuple) and inner else inner
        if isinstance(dataset, Mapping):
            found.append(dataset)
    return found


def listed_in(cfg: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where the annotation files of those data sets lie, and their images: what COCO results need.

    >>> dataset = dict(pipeline=[1], data_root='data/', ann_file='val.json', test_mode=True)
    >>> listed_in(dict(test_dataloader=dict(dataset=dataset)))
    [{'data_root': 'data/', 'ann_file': 'val.json', 'data_prefix': {}}]
    """
    found = []
    for dataset in measured_sets(cfg):
        prefix = dict(dataset.get('data_prefix') or {})
        one = dict(
            data_root=str(dataset.get('data_root') or ''),
            ann_file=str(dataset.get('ann_file') or ''),
            data_prefix={'img': str(prefix['img'])} if prefix.get('img') else {},
        )
        if one not in found:
            found.append(one)
    return found
