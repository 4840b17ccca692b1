"""A student's loss run again: with the same ground truth it gives the same."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmrazor.models.task_modules import RecorderManager
from torch import nn

from mmkd.heads import Detections
from mmkd.recorders.loss_pass import own_draws, samples_with
from tests.heads.models import small as by_name
from tests.tiny import fast_batch, raw_batch, tiny_ssd, tiny_yolov5
from tests.zoo import small

DINO = 'dino/dino-4scale_r50_8xb2-12e_coco'
RTMDET_INS = 'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco'


def student(name):
    """A detector in training mode, without dropout, of which a second run would differ."""
    if name == 'ssd':
        config = ConfigDict(tiny_ssd())
    elif name == 'dino':
        config = by_name(DINO, num_queries=20)
    elif name == 'dynamic_rcnn':
        config = by_name('dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco')
        config.train_cfg.rcnn.dynamic_rcnn.update_iter_interval = 2  # the second run would
    elif name == 'yolov5':
        pytest.importorskip('mmyolo')
        config = ConfigDict(tiny_yolov5(), _scope_='mmyolo')
    else:
        config = small(name)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.train()


def batch_of(model, name):
    batch = raw_batch()
    for sample in batch['data_samples']:
        boxes = sample.gt_instances.bboxes
        if 'mask' in name:
            masks = torch.zeros(len(boxes), 64, 64, dtype=torch.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
                mask[y1:y2, x1:x2] = 1
            sample.gt_instances.masks = BitmapMasks(masks.numpy(), 64, 64)
    truth = [
        Detections(torch.arange(len(g.bboxes)), g.bboxes, g.labels, torch.ones(len(g.bboxes)))
        for g in (copy.deepcopy(s.gt_instances) for s in batch['data_samples'])
    ]
    data = model.data_preprocessor(fast_batch(batch) if name == 'yolov5' else batch, True)
    return data['inputs'], data['data_samples'], truth


def record(model, inputs, samples, key=None):
    manager = RecorderManager(dict(own=dict(type='LossPass')))
    manager.initialize(model)
    with manager, own_draws(inputs.device, *(key or ('first',))):
        terms = model.loss(inputs, samples)
    return terms, manager.get_recorder('own').get_record_data()


def state_of(model):
    roi_head = getattr(model, 'roi_head', None)
    return {
        **{name: buffer.clone() for name, buffer in model.named_buffers()},
        'thresholds': torch.tensor(
            [len(roi_head.iou_history), roi_head.bbox_assigner.pos_iou_thr]
            if hasattr(roi_head, 'iou_history')
            else []
        ),
    }


@pytest.mark.parametrize(
    'name',
    ['ssd', 'fcos', 'yolox', 'yolov5', 'faster_rcnn', 'mask_rcnn', 'dynamic_rcnn', 'detr', 'dino'],
)
def test_the_same_ground_truth_gives_the_same_terms(name):
    model = student(name)
    inputs, samples, truth = batch_of(model, name)
    runs = []
    model.backbone.register_forward_hook(lambda *_: runs.append(1))
    first, own = record(model, inputs, samples, ('draws',))
    before, random = state_of(model), torch.get_rng_state()
    again = own.again(truth, 'draws')
    assert len(runs) == 1 and 'extract_feat' not in vars(model) and 'loss' not in vars(model)
    assert list(first) == list(again)
    for term in first:
        torch.testing.assert_close(again[term], first[term], msg=f'{term} {again[term]}')
    for key, value in state_of(model).items():
        assert torch.equal(value, before[key]), key
    assert torch.equal(torch.get_rng_state(), random)

    # Nothing on the images: the terms stay finite and reach the features.
    none = [Detections(*(value[:0] for value in image)) for image in truth]
    terms = own.again(none, 'draws')
    values = [
        v.sum() if torch.is_tensor(v) else sum(v).sum() for k, v in terms.items() if 'loss' in k
    ]
    assert all(value.isfinite().all() for value in values), terms
    sum(value.sum() for value in values if value.requires_grad).backward()
    grads = [p.grad for p in model.backbone.parameters() if p.grad is not None]
    assert grads and all(g.isfinite().all() for g in grads)
    assert any(g.any() for g in grads) or name == 'ssd'  # which mines negatives by positives


def test_boxes_end_where_the_image_does():
    model = student('ssd')
    inputs, samples, truth = batch_of(model, 'ssd')
    samples[1].set_metainfo(dict(img_shape=(40, 30)))
    samples[1].gt_instances.areas = torch.ones(2)
    _, own = record(model, inputs, samples)
    boxes = torch.tensor([[-5.0, 10.0, 70.0, 50.0], [31.0, 0.0, 60.0, 20.0], [0.0, 0.0, 0.5, 9.0]])
    found = [
        Detections(torch.arange(3), boxes, torch.tensor([0, 1, 2]), torch.ones(3)) for _ in truth
    ]
    first, second = (sample.gt_instances for sample in samples_with(own.call, found))
    assert first.bboxes.tolist() == [[0, 10, 64, 50], [31, 0, 60, 20]]
    assert second.bboxes.tolist() == [[0, 10, 30, 40]]
    assert second.labels.tolist() == [0] and second.areas.tolist() == [0]
    assert len(samples[1].gt_instances) == 2, 'the batch keeps its own'


def test_a_detector_of_masks_alone_is_refused():
    class Masks(nn.Module):
        panoptic_head = nn.Identity()

    with pytest.raises(ValueError, match=r"'LossPass' needs a detector with one of.*got Masks"):
        RecorderManager(dict(own=dict(type='LossPass'))).initialize(Masks())
