"""mmengine and mmcv know of ground truth alone: each fails once that has changed."""

import inspect

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import Expand
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.dataset import BaseDataset

from mmkd.detections.carrying_boxes import Carried, CarryingBoxes
from mmkd.detections.following import DETECTIONS


class Images(BaseDataset):
    def load_data_list(self):
        return [dict(img_id=1)]


class Fitted:
    def of(self, info):
        return f'those of {info["img_id"]}'


def test_a_data_set_hands_out_what_it_was_given():
    dataset = Images(serialize_data=False)
    assert DETECTIONS not in dataset.get_data_info(0)
    dataset.__dict__[DETECTIONS] = Fitted()
    assert dataset.get_data_info(0)[DETECTIONS] == 'those of 1'
    assert DETECTIONS not in BaseDataset.get_data_info.__wrapped__(dataset, 0)


def test_detections_beyond_an_image_stay_without_the_patch():
    def results():
        boxes = HorizontalBoxes(torch.tensor([[0.0, 0, 8, 8], [100, 100, 120, 120]]))
        carried = Carried(boxes, torch.ones(2, 1))
        truth = CarryingBoxes.of(HorizontalBoxes(torch.zeros(0, 4)), carried)
        return dict(img=np.zeros((32, 32, 3), np.uint8), gt_bboxes=truth)

    same = Expand(prob=0.0)
    assert len(inspect.unwrap(BaseTransform.__call__)(same, results())['gt_bboxes'].carried) == 2
    assert len(same(results())['gt_bboxes'].carried) == 1
