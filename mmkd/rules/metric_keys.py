"""The names of the figures that a config's evaluator will give, known before the run."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import METRICS

from mmkd.config.names import nearest
from mmkd.config.registered import registered


def metric_keys(cfg: Config) -> set[str] | None:
    """The figures that ``val_evaluator`` will give; None where they cannot be known.

    They are known for mmdet's CocoMetric and VOCMetric. ``<class>_precision`` of ``classwise`` is
    not among them.
    """
    evaluator = cfg.get('val_evaluator')
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        evaluator = evaluator['metrics']
    metrics = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
    keys: set[str] = set()
    for metric in metrics:
        found = _keys_of(metric, cfg)
        if found is None:
            return None
        keys |= found
    return keys


def _keys_of(metric: Any, cfg: Config) -> set[str] | None:
    from mmdet.evaluation import CocoMetric, VOCMetric

    kind = registered(METRICS, metric, cfg)
    computed = getattr(kind, 'compute_metrics', None)
    if computed is CocoMetric.compute_metrics:
        names = set(_of_coco(metric))
    elif computed is VOCMetric.compute_metrics:
        names = set(_of_voc(metric))
    else:
        return None
    prefix = metric.get('prefix') or kind.default_prefix
    return {f'{prefix}/{name}' if prefix else name for name in names}


def _of_coco(metric: Mapping[str, Any]) -> Iterator[str]:
    if metric.get('format_only'):
        return
    kinds = metric.get('metric', 'bbox')
    items = metric.get('metric_items')
    sizes = ('s', 'm', 'l')
    for kind in kinds if isinstance(kinds, list | tuple) else [kinds]:
        if kind == 'proposal_fast':
            yield from (f'AR@{count}' for count in metric.get('proposal_nums', (100, 300, 1000)))
        elif kind == 'proposal':
            own = [*(f'AR@{n}' for n in (100, 300, 1000)), *(f'AR_{s}@1000' for s in sizes)]
            yield from items or own
        else:
            own = ['mAP', 'mAP_50', 'mAP_75', *(f'mAP_{size}' for size in sizes)]
            yield from (f'{kind}_{item}' for item in items or own)


def _of_voc(metric: Mapping[str, Any]) -> Iterator[str]:
    kind, thresholds = metric.get('metric', 'mAP'), metric.get('iou_thrs', 0.5)
    thresholds = thresholds if isinstance(thresholds, list | tuple) else [thresholds]
    if kind in ('mAP', ['mAP'], ('mAP',)):
        yield 'mAP'
        yield from (f'AP{int(threshold * 100):02d}' for threshold in thresholds)
        return
    for count in metric.get('proposal_nums', (100, 300, 1000)):
        yield from (f'recall@{count}@{threshold}' for threshold in thresholds)
        if len(thresholds) > 1:
            yield f'AR@{count}'


def unknown_key(key: str, keys: set[str], cfg: Config) -> str | None:
    """What is wrong with the name of a figure; None if nothing is."""
    classwise = key.endswith('_precision') and 'classwise' in str(cfg.get('val_evaluator'))
    if key in keys or classwise:
        return None
    meant = nearest(key, sorted(keys), count=1, cutoff=0.3)
    return (
        f'must name a figure of val_evaluator ({", ".join(sorted(keys))}), but got "{key}". '
        f'{f"Is {meant[0]} meant?" if meant else "Correct it."}'
    )
