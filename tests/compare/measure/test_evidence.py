"""What is read from the predictions of all runs of a comparison."""

import pickle

import numpy as np
import pytest

from mmkd.compare.arms import Arm
from mmkd.compare.measure.class_matches import mean_average_precision
from mmkd.compare.measure.errors import KINDS
from mmkd.compare.measure.evidence import evidence_of, read_samples
from mmkd.compare.measure.metric_matches import MatchingMetric
from tests.compare.measure.samples import draw

META = dict(classes=('ant', 'bee'))
COCO = dict(type='CocoMetric')


def written(tmp_path, **found):
    """Files and mAP of samples, by arm."""
    files, reported = {}, {}
    for arm, samples in found.items():
        files[Arm(arm), 0] = tmp_path / f'{arm}.pkl'
        files[Arm(arm), 0].write_bytes(pickle.dumps(samples))
        classes = MatchingMetric(COCO, META).matches(samples)
        ones = np.ones((1, len({one['img_id'] for one in samples})), int)
        reported[Arm(arm), 0] = float(mean_average_precision(classes, ones)[0])
    return files, reported


def test_each_run_on_the_same_resamples(tmp_path):
    samples = draw(1, 6, 2)
    files, reported = written(tmp_path, baseline=samples, kd=samples[::-1])
    found = evidence_of(files, reported, COCO, META)
    assert (found.images, found.objects) == (6, sum(len(one['instances']) for one in samples))
    same, other = found.resampled.values()
    assert (same == other).all() and same.std() > 0, 'whatever the order in the file is'
    assert found.image_half([((Arm.DISTILLED, 0), (Arm.BASELINE, 0))]) == 0
    assert all(list(costs) == list(KINDS) for costs in found.costs.values())
    assert not evidence_of(files, reported, COCO, META, errors=False).costs


def test_an_image_that_was_loaded_twice_counts_once(tmp_path):
    samples = draw(1, 3, 2)
    files, _ = written(tmp_path, kd=samples)
    files[Arm.DISTILLED, 0].write_bytes(pickle.dumps([*samples, *samples]))
    assert len(read_samples(files[Arm.DISTILLED, 0])) == 3


def test_other_images_or_another_map_are_told(tmp_path):
    files, reported = written(tmp_path, baseline=draw(1, 4, 2), kd=draw(1, 5, 2))
    with pytest.raises(ValueError, match=r'same images, but those of .*kd\.pkl are others'):
        evidence_of(files, reported, COCO, META)
    with pytest.raises(ValueError, match=r'must be that of the metric, 0\.900, but is'):
        evidence_of(files, dict.fromkeys(files, 0.9), COCO, META)
