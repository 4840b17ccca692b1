"""The matches of a detector's predictions, by the metric that the config evaluates with."""

import contextlib
import io
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmdet.evaluation.functional.mean_ap import tpfp_default
from mmdet.registry import METRICS
from numpy.typing import NDArray

from mmkd.compare.measure.class_matches import COCO_RECALL, VOC_RECALL, ClassMatches

Sample = Mapping[str, Any]


class MatchingMetric:
    """CocoMetric or VOCMetric, whose matches are kept image by image.

    Args:
        config: of the metric.
        meta: ``metainfo`` of the test set.

    Attributes:
        recall: where it reads precision, see :func:`mean_average_precision`.
    """

    def __init__(self, config: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.metric: Any = METRICS.build(dict(config))
        self.metric.dataset_meta = meta
        self.is_coco = hasattr(self.metric, 'proposal_nums') and hasattr(self.metric, '_coco_api')
        area = getattr(self.metric, 'eval_mode', None) == 'area'
        self.recall = COCO_RECALL if self.is_coco else None if area else VOC_RECALL

    def matches(self, samples: Sequence[Sample]) -> list[ClassMatches]:
        """The matches of each class.

        Args:
            samples: as ``mmkd test --out`` wrote them, each image once; in an order that is the
                same for all detectors, by which images are counted.
        """
        self.metric.results.clear()
        self.metric.process({}, samples)
        return self._of_coco() if self.is_coco else self._of_voc()

    def _of_coco(self) -> list[ClassMatches]:
        from mmdet.datasets.api_wrappers import COCO, COCOeval

        metric = self.metric
        truths, found = zip(*metric.results, strict=True)
        ids = [result['img_id'] for result in found]
        with contextlib.redirect_stdout(io.StringIO()):
            if metric._coco_api is None:
                with tempfile.TemporaryDirectory() as folder:
                    metric._coco_api = COCO(metric.gt_to_coco_json(truths, f'{folder}/truth'))
            truth = metric._coco_api
            names = {category['name']: key for key, category in truth.cats.items()}
            classes = [names[n] for n in metric.dataset_meta['classes'] if n in names]
            evaluation = COCOeval(truth, truth.loadRes(_rows(metric, classes, found)), 'bbox')
            params = evaluation.params
            params.catIds, params.imgIds = classes, ids
            params.iouThrs = np.atleast_1d(metric.iou_thrs)
            # mAP is that of all sizes and of the 100 surest detections, or as many as are asked for
            numbers = list(metric.proposal_nums)
            params.maxDets = [100 if 100 in numbers else numbers[-1]]
            params.areaRng, params.areaRngLbl = [[0, 1e10]], ['all']
            evaluation.evaluate()
        places = {key: place for place, key in enumerate(ids)}
        own = [places[key] for key in params.imgIds]  # pycocotools has sorted them
        images = len(own)
        return [
            _of_class(own, evaluation.evalImgs[begin : begin + images], len(params.iouThrs))
            for begin in range(0, len(evaluation.evalImgs), images)
        ]

    def _of_voc(self) -> list[ClassMatches]:
        truths, found = zip(*self.metric.results, strict=True)
        return [
            self._of_voc_class(index, truths, [by_class[index] for by_class in found])
            for index in range(len(self.metric.dataset_meta['classes']))
        ]

    def _of_voc_class(
        self, label: int, truths: Sequence[Any], found: Sequence[NDArray[Any]]
    ) -> ClassMatches:
        thresholds = self.metric.iou_thrs
        matched: list[list[Any]] = [[] for _ in thresholds]
        ignored: list[list[Any]] = [[] for _ in thresholds]
        objects = [int((truth['labels'] == label).sum()) for truth in truths]
        for truth, detections in zip(truths, found, strict=True):
            boxes = truth['bboxes'][truth['labels'] == label]
            left_out = truth['bboxes_ignore'][truth['labels_ignore'] == label]
            for index, threshold in enumerate(thresholds):
                hit, miss = tpfp_default(
                    detections, boxes, left_out, threshold, use_legacy_coordinate=True
                )
                matched[index].append(hit[0] > 0)
                ignored[index].append((hit[0] == 0) & (miss[0] == 0))
        scores = np.concatenate([detections[:, -1] for detections in found])
        image = np.repeat(np.arange(len(found)), [len(detections) for detections in found])
        order = np.argsort(-scores)
        return ClassMatches(
            image[order],
            np.array([np.concatenate(part) for part in matched])[:, order],
            np.array([np.concatenate(part) for part in ignored])[:, order],
            np.array(objects),
        )


def _rows(metric: Any, classes: Sequence[int], found: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        dict(
            image_id=result['img_id'],
            category_id=classes[label],
            bbox=metric.xyxy2xywh(box),
            score=float(score),
        )
        for result in found
        for box, score, label in zip(
            result['bboxes'], result['scores'], result['labels'], strict=True
        )
    ]


def _of_class(own: Sequence[int], results: Sequence[Any], thresholds: int) -> ClassMatches:
    """From pycocotools' ``evalImgs`` of one class, of the image with each index of ``own``."""
    objects = np.zeros(len(own), int)
    kept = [(index, one) for index, one in zip(own, results, strict=True) if one is not None]
    for index, one in kept:
        objects[index] = np.count_nonzero(np.asarray(one['gtIgnore']) == 0)
    empty = np.zeros((thresholds, 0), bool)
    scores = np.concatenate([np.zeros(0), *(one['dtScores'] for _, one in kept)])
    # stable: of the same scores the first image comes first, as pycocotools has it
    order = np.argsort(-scores, kind='mergesort')
    image = np.repeat([index for index, _ in kept], [len(one['dtScores']) for _, one in kept])
    return ClassMatches(
        image.astype(int)[order],
        np.concatenate([empty, *(one['dtMatches'] > 0 for _, one in kept)], axis=1)[:, order],
        np.concatenate([empty, *(one['dtIgnore'] > 0 for _, one in kept)], axis=1)[:, order],
        objects,
    )
