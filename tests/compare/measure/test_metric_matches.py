"""mAP of a resample is that which the metric itself gives on those images."""

import contextlib
import io
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.evaluation.functional import mean_ap
from mmdet.registry import METRICS

from mmkd.compare.measure.class_matches import mean_average_precision
from mmkd.compare.measure.metric_matches import MatchingMetric
from tests.compare.measure.samples import draw, repeated

CLASSES = ('ant', 'bee', 'cat')
#: Of each test; the code is the same for all.
FEW = settings(max_examples=max(settings.default.max_examples // 4, 1))
METRIC_CONFIGS = [
    dict(type='CocoMetric'),
    dict(type='CocoMetric', iou_thrs=[0.5]),
    dict(type='CocoMetric', proposal_nums=(1, 2, 3)),
    dict(type='VOCMetric'),
    dict(type='VOCMetric', eval_mode='area'),
    dict(type='VOCMetric', eval_mode='area', iou_thrs=[0.5, 0.75]),
]


def by_the_metric(config: dict, samples: list) -> float:
    """What mmdet gives, without its rounding."""
    metric = METRICS.build(dict(config))
    metric.dataset_meta = dict(classes=CLASSES)
    metric.process({}, samples)
    kept = []
    if config['type'] == 'VOCMetric':
        pool, mean_ap.Pool = mean_ap.Pool, ThreadPool  # processes take a second to start
        try:
            return metric.compute_metrics(metric.results)['mAP']
        finally:
            mean_ap.Pool = pool
    from pycocotools.cocoeval import COCOeval

    summarize = COCOeval.summarize
    COCOeval.summarize = lambda self: (summarize(self), kept.append(self.stats[0]))[0]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            metric.compute_metrics(metric.results)
    finally:
        COCOeval.summarize = summarize
    return max(kept[0], 0.0)  # -1: no objects


@pytest.mark.parametrize('config', METRIC_CONFIGS, ids=lambda config: str(list(config.values())))
@FEW
@given(
    seed=st.integers(0, 10_000),
    weights=st.lists(st.integers(0, 3), min_size=2, max_size=5).filter(sum),
    crowds=st.booleans(),
)
def test_a_resample_is_measured_as_the_metric_would(config, seed, weights, crowds):
    samples = draw(seed, len(weights), len(CLASSES), crowds)
    metric = MatchingMetric(config, dict(classes=CLASSES))
    classes = metric.matches(samples)
    ones = np.ones((1, len(weights)), int)
    resamples = np.concatenate([ones, [weights]])
    whole, drawn = mean_average_precision(classes, resamples, metric.recall)
    assert whole == pytest.approx(by_the_metric(config, samples), abs=1e-6)
    assert drawn == pytest.approx(by_the_metric(config, repeated(samples, weights)), abs=1e-6)


@FEW
@given(seed=st.integers(0, 10_000))
def test_detections_of_the_same_score_keep_pycocotools_order(seed):
    samples, config = draw(seed, 3, len(CLASSES), ties=True), dict(type='CocoMetric')
    metric = MatchingMetric(config, dict(classes=CLASSES))
    [found] = mean_average_precision(metric.matches(samples), np.ones((1, 3), int))
    assert found == pytest.approx(by_the_metric(config, samples), abs=1e-6)


def test_images_keep_their_place_whatever_their_ids_are():
    """pycocotools sorts ids; the weights are in the order of the samples."""
    samples, weights = draw(5, 4, 1), np.array([[3, 1, 2, 1]])
    turned = [{**one, 'img_id': 9 - index} for index, one in enumerate(samples)]
    found = [
        mean_average_precision(metric.matches(drawn), weights)[0]
        for drawn in (samples, turned)
        for metric in [MatchingMetric(dict(type='CocoMetric'), dict(classes=CLASSES[:1]))]
    ]
    assert found[0] == pytest.approx(found[1]) and found[0] > 0


def test_without_detections_or_objects_it_is_zero():
    for found in (draw(0, 3, 3), draw(1, 3, 3)):
        for one in found:
            one['pred_instances'] = {k: v[:0] for k, v in one['pred_instances'].items()}
        for kind in ('CocoMetric', 'VOCMetric'):
            metric = MatchingMetric(dict(type=kind), dict(classes=CLASSES))
            ones = np.ones((2, 3), int)
            assert list(mean_average_precision(metric.matches(found), ones, metric.recall)) == [
                0,
                0,
            ]
