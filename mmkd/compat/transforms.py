"""Patches by which a teacher's detections go through a student's augmentation."""

import functools
from typing import Any


def hand_out_detections() -> None:
    """A data set knows of ground truth alone.

    One that has been given a teacher's detections puts them beside each image's ground truth,
    wherever that is asked for: by the pipeline, or by a transform that mixes images.
    """
    from mmengine.dataset import BaseDataset

    from mmkd.detections.following import DETECTIONS

    original = BaseDataset.get_data_info

    @functools.wraps(original)
    def get_data_info(self: Any, idx: int) -> Any:
        info = original(self, idx)
        known = self.__dict__.get(DETECTIONS)
        if known is not None:
            info[DETECTIONS] = known.of(info)
        return info

    BaseDataset.get_data_info = get_data_info


def let_detections_follow() -> None:
    """A transform moves ground truth alone."""
    from mmcv.transforms import BaseTransform

    from mmkd.detections.following import follow

    original = BaseTransform.__call__

    @functools.wraps(original)
    def call(self: Any, results: Any) -> Any:
        return follow(original, self, results)

    BaseTransform.__call__ = call
