"""Whether what an evaluator compares with is what the data loader gives."""

import contextlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmkd.datasets.annotations import check_coco
from mmkd.datasets.split import check_found

#: By how many pixels a corner may differ in two files with the same ground truth: files round.
_ROUNDING = 0.05


def measures(cfg: Config, phase: str) -> bool:
    """Whether a COCO or VOC metric of ``phase`` compares predictions with ground truth."""
    return any(
        kind in ('CocoMetric', 'VOCMetric') and not metric.get('format_only')
        for kind, metric in _metrics(cfg, phase)
    )


def masks_measured(cfg: Config, phase: str) -> list[str | None]:
    """The ``ann_file`` of each COCO metric of ``phase`` that compares masks."""
    return [
        metric.get('ann_file')
        for kind, metric in _metrics(cfg, phase)
        if kind in ('CocoMetric', 'FasterCocoMetric') and not metric.get('format_only')
        if 'segm' in np.atleast_1d(metric.get('metric') or 'bbox')
    ]


def check_evaluator(
    cfg: Config, phase: str, files: Iterable[str], classes: Sequence[str] | None
) -> None:
    """Check that each CocoMetric of ``phase`` measures against the ground truth that is loaded.

    Other metrics are left alone. VOCMetric takes the loader's own (:mod:`mmkd.compat`).

    Args:
        cfg: config of the run.
        phase: 'val' or 'test'.
        files: the annotation files of the phase's loader, which have passed their checks.
        classes: what the loader's labels mean.

    Raises:
        FileNotFoundError: there is no ``ann_file``.
        ValueError: its images, categories or boxes are others, image ids of the loader repeat, or
            ``proposal_nums`` is too short.
    """
    loaded = {os.path.realpath(file) for file in files}
    for kind, metric in _metrics(cfg, phase):
        where = f'{phase}_evaluator'
        if kind == 'FasterCocoMetric' and find_spec('faster_coco_eval') is None:
            raise ValueError(
                f'{where}: FasterCocoMetric needs the package faster_coco_eval, but it is not '
                'installed. Install it (pip install faster-coco-eval), or take CocoMetric.'
            )
        if kind != 'CocoMetric':
            continue
        numbers = metric.get('proposal_nums', (100, 300, 1000))
        if len(numbers) < 3:
            raise ValueError(
                f'{where}: proposal_nums must be three numbers of detections, by which pycocotools '
                f'sums up, but got {numbers}. Write proposal_nums=(100, 300, 1000).'
            )
        path = metric.get('ann_file')
        if path is None:
            if len(loaded) > 1:
                _compare(cfg, phase, None, classes)
            continue
        if '://' in path or metric.get('backend_args') or metric.get('format_only'):
            continue
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f'{where}: ann_file must exist, but there is no "{path}" (seen from '
                f'{os.getcwd()}). Give the annotation file of {phase}_dataloader, with its folder.'
            )
        if loaded != {os.path.realpath(path)}:
            check_found(where, [check_coco(where, path, None)], measured=True)
            _compare(cfg, phase, path, classes)


def _metrics(cfg: Config, phase: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Name of the type and config of each metric."""
    evaluators = _listed(cfg.get(f'{phase}_evaluator'))
    for evaluator in evaluators:
        # mmengine's Evaluator, written out, holds its metrics
        for metric in _listed(evaluator['metrics']) if 'metrics' in evaluator else [evaluator]:
            kind = metric.get('type', '')
            yield getattr(kind, '__name__', str(kind)).split('.')[-1], metric


def _listed(found: Any) -> list[Mapping[str, Any]]:
    found = found if isinstance(found, list | tuple) else [found]
    return [item for item in found if isinstance(item, Mapping)]


def _compare(cfg: Config, phase: str, path: str | None, classes: Sequence[str] | None) -> None:
    """Compare what the loader's data set gives with an evaluator's file, image by image."""
    if classes is None:
        return
    from mmdet.datasets.api_wrappers import COCO

    scope = cfg.get('default_scope') or 'mmengine'
    config = cfg[f'{phase}_dataloader']['dataset']
    with contextlib.redirect_stdout(io.StringIO()):  # of pycocotools
        with DefaultScope.overwrite_default_scope(scope):
            dataset = DATASETS.build(config)
        ground_truth = None if path is None else COCO(path)
    if not hasattr(dataset, 'get_data_info'):
        return
    where = f'{phase}_evaluator: the ground truth of CocoMetric must be that of the loader'
    remedy = f'Give ann_file of {phase}_evaluator the annotation file of {phase}_dataloader.'
    if ground_truth is not None:
        names = [category['name'] for category in ground_truth.cats.values()]
        wrong = [name for name in classes if names.count(name) != 1]
        if wrong:
            raise ValueError(
                f'{where}, but "{path}" has the categories {", ".join(names)} and the loader the '
                f'classes {", ".join(classes)}. {remedy}'
            )
    seen: dict[Any, tuple[str, list[_Object]]] = {}
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        key, objects = info['img_id'], _loaded(info, classes)
        other, others = seen.setdefault(key, (info['img_path'], objects))
        if other != info['img_path']:
            raise ValueError(
                f'{where}, image by image, but two images of {phase}_dataloader have the id {key}: '
                f'"{other}" and "{info["img_path"]}". Give each image its own id.'
            )
        if objects is not others and any(_differing(others, objects)):
            raise ValueError(
                f'{where}, image by image, but {phase}_dataloader loads image {key!r} ("{other}") '
                'twice, with other boxes. Join its annotations in one file.'
            )
        if ground_truth is None:
            continue
        if key not in ground_truth.imgs:
            raise ValueError(
                f'{where}, but "{path}" lacks image {key!r} ("{info["img_path"]}"). {remedy}'
            )
        of_loader, of_metric = _differing(objects, _measured(ground_truth, key, classes))
        if of_loader or of_metric:
            raise ValueError(
                f'{where}, but for image {key!r} ("{info["img_path"]}") only the loader has '
                f'{_boxes(of_loader)}, and only "{path}" {_boxes(of_metric)}. {remedy}'
            )


#: Class, whether it is ignored, and corners of an object.
_Object = tuple[str, bool, tuple[float, ...]]


def _loaded(info: Mapping[str, Any], classes: Sequence[str]) -> list[_Object]:
    return [
        (classes[item['bbox_label']], bool(item.get('ignore_flag')), tuple(item['bbox']))
        for item in info['instances']
    ]


def _measured(ground_truth: Any, key: Any, classes: Sequence[str]) -> list[_Object]:
    found: list[_Object] = []
    for annotation in ground_truth.imgToAnns.get(key, ()):
        name = ground_truth.cats[annotation['category_id']]['name']
        if name in classes:
            x, y, width, height = annotation['bbox']
            found.append((name, bool(annotation['iscrowd']), (x, y, x + width, y + height)))
    return found


def _differing(some: list[_Object], others: list[_Object]) -> tuple[list[_Object], list[_Object]]:
    """The objects that only one of the two has, whatever their order."""
    alone, left = [], list(others)
    for name, ignored, box in some:
        for index, (other_name, other_ignored, other) in enumerate(left):
            near = all(abs(a - b) <= _ROUNDING for a, b in zip(box, other, strict=True))
            if near and (name, ignored) == (other_name, other_ignored):
                del left[index]
                break
        else:
            alone.append((name, ignored, box))
    return alone, left


def _boxes(objects: list[_Object]) -> str:
    found = [
        f'{name}{" (ignored)" * ignored} at {[round(value, 1) for value in box]}'
        for name, ignored, box in objects[:3]
    ]
    more = f' and {len(objects) - 3} more' if len(objects) > 3 else ''
    return ', '.join(found) + more or 'nothing'
