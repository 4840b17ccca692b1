"""The mAP of a detector on a test set."""

import io
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope
from mmengine.structures import InstanceData

import mmkd_onnx
from mmkd.cost.contender import Opened
from mmkd.doctor.check_accuracy import with_own_classes
from mmkd.export.input_rule import measured_pipeline
from mmkd.heads.class_map import ClassMap

_LOADERS = ('test', 'val')


def find_map(metrics: Mapping[str, Any]) -> float | None:
    """The mAP, from 0 to 1, among metrics; None if there is none.

    >>> find_map({'coco/bbox_mAP_50': 0.5, 'coco/bbox_mAP': 0.25}), find_map({'loss': 1.0})
    (0.25, None)
    """
    named = [float(value) for key, value in metrics.items() if key.endswith('mAP')]
    return next((value for value in named if value >= 0), None)  # COCO's -1: there are no objects


def measured_map(one: Opened, data: Config | None, images: int | None) -> float | str:
    """Measure the mAP, or say why it was not measured.

    Args:
        one: the detector; one in PyTorch sees images as its own test pipeline prepares them.
        data: a config whose test set counts. Defaults to None: the detector's own. Classes are
            found by name there, in whatever order.
        images: how many; None for all.

    Returns:
        float | str: the mAP, from 0 to 1, or the reason in words.
    """
    cfg = data if data is not None else one.trained.config if one.trained else Config({})
    loader, metrics = _test_set(cfg)
    if loader is None:
        return 'no test set: the config has none (--data CONFIG names another)'
    dataset_cfg = dict(loader['dataset'])
    if data is not None and one.trained is not None and 'pipeline' in dataset_cfg:
        own = measured_pipeline(one.trained.config)
        dataset_cfg['pipeline'] = [{'_scope_': one.trained.scope, **step} for step in own]
    scope = cfg.get('default_scope') or 'mmdet'
    with DefaultScope.overwrite_default_scope(scope):
        try:
            dataset = DATASETS.build(dataset_cfg)
            evaluator = Evaluator(metrics)
        except FileNotFoundError as error:
            return f'the test set is not here ({error.filename or error})'
        evaluator.dataset_meta = dataset.metainfo
        count = min(len(dataset), images or len(dataset))
        print(f'mAP of {one.contender.name} on {count} images', file=sys.stderr)
        detect = None if one.trained else mmkd_onnx.load(one.contender.checkpoint)
        own_names = one.trained.classes if one.trained else detect.classes if detect else ()
        classes = _by_name(own_names, dataset.metainfo.get('classes') or ())
        for index in mmengine.track_iter_progress(list(range(count)), file=sys.stderr):
            batch = pseudo_collate([dataset[index]])
            samples = _in_pytorch(one, batch) if detect is None else _found(detect, batch)
            samples = with_own_classes(samples, classes)
            evaluator.process(data_samples=samples, data_batch=batch)
        with redirect_stdout(io.StringIO()):  # of pycocotools
            metrics = evaluator.evaluate(count)
    found = find_map(metrics)
    return found if found is not None else f'there is none of 0 or more among {", ".join(metrics)}'


def _by_name(own: Sequence[str], names: Sequence[str]) -> ClassMap | None:
    """Which classes of a detector are which of a data set; None: those at the same places.

    A name that the data set does not know may be another one for the class at its place, unless
    the detector has that, too.

    >>> _by_name(('cat', 'dog', 'car'), ('dog', 'cat', 'vehicle')).places
    (1, 0, 2)
    >>> _by_name(('cat', 'dog'), ('dog', 'owl')).places
    (None, 0)
    """
    if not own or not names or tuple(own) == tuple(names):
        return None
    places = {name: i for i, name in enumerate(names)}
    free = [i if i < len(names) and names[i] not in own else None for i in range(len(own))]
    found = tuple(places.get(name, free[i]) for i, name in enumerate(own))
    return ClassMap(tuple(own), tuple(names), found)


def _test_set(cfg: Mapping[str, Any]) -> tuple[Any, Sequence[Any]]:
    for kind in _LOADERS:
        loader, metric = cfg.get(f'{kind}_dataloader'), cfg.get(f'{kind}_evaluator')
        if loader and loader.get('dataset') and metric:
            return loader, metric if isinstance(metric, list | tuple) else [metric]
    return None, []


def _in_pytorch(one: Opened, batch: Any) -> Any:
    assert one.trained is not None
    with torch.no_grad(), DefaultScope.overwrite_default_scope(one.trained.scope):
        return one.trained.model.test_step(batch)


def _found(detect: mmkd_onnx.Detector, batch: Any) -> list[Any]:
    samples = []
    for sample in batch['data_samples']:
        found = detect(sample.img_path)
        fields = dict(bboxes=found.boxes, scores=found.scores, labels=found.labels)
        sample.pred_instances = InstanceData(
            **{key: torch.from_numpy(value) for key, value in fields.items()}
        )
        samples.append(sample)
    return samples
