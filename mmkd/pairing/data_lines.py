"""The lines of a config that point it at data of one's own."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from mmkd.pairing.own_data import OwnData


def data_lines(config: Config, data: OwnData, root: str | None = None) -> list[str]:
    """Lines after ``_base_`` that replace the data sets which a config inherits.

    What is around a data set (RepeatDataset, MultiImageMixDataset) stays, and so do its pipeline
    and filters; one of another form, or several joined, becomes one ``CocoDataset``.

    Args:
        config: what ``_base_`` resolves to.
        data: the data set.
        root: its folder as the config names it. Defaults to None, as ``data`` does.
    """
    root = f'{root or data.root.as_posix()}/'
    lines = [
        f'classes = {data.classes!r}',
        f'own = dict(data_root={root!r}, metainfo=dict(classes=classes))',
    ]
    written = set()
    for phase in ('train', 'val', 'test'):
        if not config.get(f'{phase}_dataloader'):
            continue
        split = phase if phase in data.parts else 'val'
        part = data.parts[split]
        if split not in written:
            written.add(split)
            prefix = f'data_prefix=dict(img={part.images!r})'
            lines.append(f'{split} = dict(**own, ann_file={part.ann_file!r}, {prefix})')
        path = f'{phase}_dataloader.dataset'
        dataset = config[f'{phase}_dataloader'].dataset
        scope = config.get('default_scope')
        value = _replaced(dataset, f'_base_.{path}', split, phase == 'train', scope)
        lines.append(f'{phase}_dataloader = dict(dataset={value})')
        if phase != 'train' and config.get(f'{phase}_evaluator') is not None:
            ann_file = f'{root}{part.ann_file}'
            given = _evaluator(config[f'{phase}_evaluator'])
            lines.append(f'{phase}_evaluator = dict({given}ann_file={ann_file!r})')
    return lines


def _replaced(dataset: Any, path: str, name: str, trains: bool, scope: str | None) -> str:
    """The expression that takes the place of a data set, whose own is the variable ``name``."""
    inner = dataset.get('dataset') if isinstance(dataset, Mapping) else None
    if isinstance(inner, Mapping):
        return f'dict(dataset={_replaced(inner, f"{path}.dataset", name, trains, scope)})'
    kind = str(dataset.get('type', '')) if isinstance(dataset, Mapping) else ''
    if 'Coco' in kind and 'Panoptic' not in kind and 'data_prefix' in dataset:
        return name if set(dataset['data_prefix']) <= {'img'} else _whole(path, name, kind, trains)
    leaf = _first_leaf(dataset, path)
    own = 'YOLOv5CocoDataset' if scope == 'mmyolo' else 'CocoDataset'
    return _whole(leaf, name, own, trains)


def _whole(path: str, name: str, kind: str, trains: bool) -> str:
    use = 'filter_cfg=dict(filter_empty_gt=True, min_size=32)' if trains else 'test_mode=True'
    return f'dict(_delete_=True, type={kind!r}, **{name}, {use}, pipeline={path}.pipeline)'


def _first_leaf(dataset: Any, path: str) -> str:
    if isinstance(dataset, list | tuple):
        return _first_leaf(dataset[0], f'{path}[0]')
    for key in ('datasets', 'dataset'):
        if dataset.get(key):
            return _first_leaf(dataset[key], f'{path}.{key}')
    return path


def _evaluator(evaluator: Any) -> str:
    one: Sequence[Any] = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
    if isinstance(evaluator, Mapping) and str(evaluator.get('type', '')).endswith('CocoMetric'):
        return ''
    kinds = [str(item.get('type', '')) for item in one if isinstance(item, Mapping)]
    scope = 'mmdet.' if any(kind.startswith('mmdet.') for kind in kinds) else ''
    masks = any('segm' in (item.get('metric') or ()) for item in one if isinstance(item, Mapping))
    metric = ['bbox', 'segm'] if masks else 'bbox'
    return f"_delete_=True, type='{scope}CocoMetric', metric={metric!r}, "
