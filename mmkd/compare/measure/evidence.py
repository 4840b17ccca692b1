"""What the predictions of all detectors of a comparison show, image by image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd.checkpoints.plain_pickle import load_pickle
from mmkd.compare.arms import Arm
from mmkd.compare.measure.bootstrap import image_half, resampled_images
from mmkd.compare.measure.class_matches import mean_average_precision
from mmkd.compare.measure.errors import Judged, error_costs, judge
from mmkd.compare.measure.metric_matches import MatchingMetric

#: An arm and a seed.
Key = tuple[Arm, int]
#: By how much the mAP computed here may differ from what the metric wrote: three digits.
_ROUNDING = 0.001


@dataclass(frozen=True)
class Evidence:
    """What lies behind the mAP of each run.

    Args:
        images: tested.
        objects: on them, without those that are ignored.
        resampled: by run the mAP on each resample of the images, the same resamples for all.
        judged: by run its detections, each with its kind of error.
        costs: by run the AP50 that each kind of error costs.
    """

    images: int
    objects: int
    resampled: Mapping[Key, NDArray[Any]]
    judged: Mapping[Key, Judged] = field(default_factory=dict, repr=False)
    costs: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)

    def image_half(self, pairs: Sequence[tuple[Key, Key]]) -> float:
        """Half the 95 % interval that the images give the mean difference of pairs of runs."""
        taught, others = zip(*pairs, strict=True)
        return image_half(
            [self.resampled[key] for key in taught],
            [self.resampled[key] for key in others],
            self.images,
        )


def read_samples(path: Path) -> list[Mapping[str, Any]]:
    """What ``mmkd test --out`` wrote, each image once, in the order of their ids."""
    with path.open('rb') as file:
        found = {sample['img_id']: sample for sample in load_pickle(file)}
    return [found[key] for key in sorted(found, key=str)]


def evidence_of(
    predictions: Mapping[Key, Path],
    reported: Mapping[Key, float],
    metric: Mapping[str, Any],
    meta: Mapping[str, Any],
    errors: bool = True,
    progress: Callable[[], Any] = lambda: None,
) -> Evidence:
    """Evaluate each run once; its mAP on resamples of the images follows from the matches.

    Args:
        predictions: by run the file that ``mmkd test --out`` wrote.
        reported: by run the mAP that the metric gave.
        metric: config of the metric, one for all.
        meta: ``metainfo`` of the test set.
        errors: whether to tell kinds of errors. Defaults to True.
        progress: called after each run.

    Raises:
        ValueError: the runs were tested on other images, or the metric gave another mAP.
    """
    matching = MatchingMetric(metric, meta)
    ids: list[Any] = []
    objects, weights = 0, np.zeros((0, 0), int)
    resampled, judged, costs = {}, {}, {}
    for key, path in predictions.items():
        samples = read_samples(path)
        found = [sample['img_id'] for sample in samples]
        if found != (ids or found):
            raise ValueError(
                'all runs of a comparison must be tested on the same images, but those of '
                f'{path} are others. Remove that file; the same command writes it anew.'
            )
        if not ids:
            ids = found
            ones = np.ones((1, len(ids)), int)
            weights = np.concatenate([ones, resampled_images(len(ids))])
        classes = matching.matches(samples)
        values = mean_average_precision(classes, weights, matching.recall)
        if abs(values[0] - reported[key]) > _ROUNDING:
            raise ValueError(
                f'the mAP of {path} must be that of the metric, {reported[key]:.3f}, but is '
                f'{values[0]:.3f}.'
            )
        objects, resampled[key] = sum(int(one.objects.sum()) for one in classes), values[1:]
        if errors:
            judged[key] = judge(samples)
            costs[key] = error_costs(judged[key])
        progress()
    return Evidence(len(ids), objects, resampled, judged, costs)
