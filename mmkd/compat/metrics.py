"""Patches of mmdet's metrics."""

import contextlib
import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmkd.compat.datasets import _quietly


def give_metrics_the_loaded_ground_truth() -> None:
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
        ground_truth = [
            {key: i[key] for key in keys if key in i} for i in info.get('instances', ())
        ]
        data = self.pipeline(info)
        samples: Any = data.get('data_samples') if isinstance(data, dict) else None
        for sample in samples if isinstance(samples, list) else [samples]:
            if hasattr(sample, 'set_field') and 'instances' not in sample:
                sample.set_field(ground_truth, 'instances', field_type='metainfo')
        return data

    process = VOCMetric.process

    @functools.wraps(process)
    def process_loaded(self: Any, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        process(self, data_batch, [_with_loaded_ground_truth(sample) for sample in data_samples])

    BaseDetDataset.prepare_data, VOCMetric.process = prepare, process_loaded


def _with_loaded_ground_truth(sample: dict[str, Any]) -> dict[str, Any]:
    instances = sample.get('instances')
    if instances is None or not all({'bbox', 'bbox_label'} <= i.keys() for i in instances):
        return sample
    ground_truth: list[dict[str, torch.Tensor]] = []
    for ignored in (0, 1):
        kept = [i for i in instances if i.get('ignore_flag', 0) == ignored]
        boxes = torch.tensor([i['bbox'] for i in kept], dtype=torch.float32).reshape(-1, 4)
        labels = torch.tensor([i['bbox_label'] for i in kept], dtype=torch.long)
        ground_truth.append(dict(bboxes=boxes, labels=labels))
    return {**sample, 'gt_instances': ground_truth[0], 'ignored_instances': ground_truth[1]}


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
    def compute_loaded(self: Any, results: list[Any]) -> dict[str, Any]:
        by_image = {result['img_id']: (ground_truth, result) for ground_truth, result in results}
        self.iou_thrs = np.atleast_1d(self.iou_thrs)
        if self._coco_api is not None:
            ids = {category['name']: key for key, category in self._coco_api.cats.items()}
            # of panoptic data the metric's file has the things, whose labels come first
            stuff = self.dataset_meta.get('stuff_classes', ())
            classes = [name for name in self.dataset_meta['classes'] if name not in stuff]
            lacking = [name for name in classes if name not in ids]
            if lacking:
                raise ValueError(
                    'the ann_file of CocoMetric must have the classes of the data set, but lacks '
                    f'{", ".join(lacking)}. Give the ann_file of the data set.'
                )
            self.img_ids = list(by_image)
            self.cat_ids = [ids[name] for name in classes]
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
