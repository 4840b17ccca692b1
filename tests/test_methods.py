"""Each method teaches small pairs of all the kinds that docs/methods.md promises, balanced.

A pair states its two detectors and the method: nothing of channels, levels, priors or sources.
"""

import copy
import importlib.util

import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.model import ExponentialMovingAverage
from mmrazor.registry import MODELS

from tests.tiny import fast_batch, raw_batch
from tests.zoo import taught

# Method, student, teacher.
PAIRS = [
    ('pkd', 'retinanet', 'faster_rcnn'),
    ('cwd', 'faster_rcnn', 'fcos'),
    ('cwd', 'yolov5', 'retinanet'),
    ('mgd', 'gfl', 'atss'),
    ('mgd', 'detr', 'yolov5'),
    ('score_imitation', 'faster_rcnn', 'faster_rcnn'),
    ('score_imitation', 'retinanet', 'ssd'),
    ('score_imitation_reference', 'fcos', 'yolov5'),
    ('bckd', 'gfl', 'gfl'),
    ('bckd', 'yolov5', 'yolov5'),
    ('ld', 'gfl', 'gfl'),
    ('ld', 'yolov8', 'yolov8'),
    ('crosskd', 'retinanet', 'retinanet'),
    ('crosskd', 'gfl', 'atss'),
    ('cross_head', 'fcos', 'gfl'),
    ('cross_head', 'faster_rcnn', 'retinanet'),
    ('cross_head', 'retinanet', 'yolov5'),
    ('matched_queries', 'detr', 'deformable_detr'),
    ('matched_queries', 'dino', 'detr'),
    ('prediction_rows', 'fcos', 'faster_rcnn'),
    ('prediction_rows', 'detr', 'yolov5'),
    ('soft_ground_truth', 'retinanet', 'faster_rcnn'),
    ('soft_ground_truth', 'mask_rcnn', 'detr'),
    ('soft_ground_truth', 'deformable_detr', 'retinanet'),
    ('soft_ground_truth', 'yolov5', 'fcos'),
]
#: Which are looked at from all sides: EMA, resume, mixed precision.
CLOSELY = {
    ('pkd', 'retinanet', 'faster_rcnn'),
    ('mgd', 'gfl', 'atss'),
    ('score_imitation', 'retinanet', 'ssd'),
    ('bckd', 'gfl', 'gfl'),
    ('ld', 'gfl', 'gfl'),
    ('crosskd', 'gfl', 'atss'),
    ('cross_head', 'fcos', 'gfl'),
    ('matched_queries', 'detr', 'deformable_detr'),
    ('prediction_rows', 'fcos', 'faster_rcnn'),
    ('soft_ground_truth', 'retinanet', 'faster_rcnn'),
}


def build(name, student, teacher):
    for kind in (student, teacher):
        if kind in ('yolov5', 'yolov8') and importlib.util.find_spec('mmyolo') is None:
            pytest.skip('needs the extra [yolo]')
    config = taught(student, teacher, name, balance=dict(shares=0.5))
    if name == 'score_imitation_reference':
        config.pop('balance')
    if name == 'ld':  # a teacher of random weights is sure of nothing
        config.distiller.distill_losses.ld_loss_sides.score_thr = 0.0
    torch.manual_seed(0)
    pair = MODELS.build(config)
    pair.student.init_weights()
    return pair.train()


def batch_of(student, **changes):
    batch = raw_batch(**changes)
    if student == 'mask_rcnn':
        for sample in batch['data_samples']:
            masks = torch.ones(len(sample.gt_instances.bboxes), 64, 64, dtype=torch.uint8)
            sample.gt_instances.masks = BitmapMasks(masks.numpy(), 64, 64)
    return fast_batch(batch) if student.startswith('yolov') else batch


def losses_of(pair, batch):
    data = pair.data_preprocessor(copy.deepcopy(batch), training=True)
    return pair.parse_losses(pair.loss(data['inputs'], data['data_samples']))


def step(pair, batch):
    torch.manual_seed(1)
    trained = [p for p in pair.parameters() if p.requires_grad]
    total, logged = losses_of(pair, batch)
    total.backward()
    assert all(p.grad is not None for p in trained), 'DDP waits for a gradient of each parameter'
    assert all(p.grad.isfinite().all() for p in trained)
    torch.optim.SGD(trained, lr=1e-3).step()
    pair.zero_grad()
    return {key: value.item() for key, value in logged.items()}


@pytest.mark.parametrize(('name', 'student', 'teacher'), PAIRS)
def test_teaches(name, student, teacher):
    pair, batch = build(name, student, teacher), batch_of(student)
    first = step(pair, batch)
    terms = [key for key in first if key.startswith(f'distill.{name}_loss')]
    assert terms and all(first[key] > 0 for key in terms), first
    if (name, student, teacher) not in CLOSELY:
        return

    averaged = ExponentialMovingAverage(pair)
    averaged.update_parameters(pair)
    assert averaged.module.teacher is pair.teacher
    averaged.module.eval().test_step(batch_of(student))

    resumed = build(name, student, teacher)
    resumed.load_state_dict(pair.state_dict())
    resumed.teacher.load_state_dict(pair.teacher.state_dict())
    second = step(pair, batch)
    assert step(resumed, batch) == second != first

    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        for number, boxes in ((1, 2), (2, 0)):  # one image; no objects
            _, logged = losses_of(pair, batch_of(student, images=number, boxes=boxes))
            assert all(logged[key].isfinite() for key in terms)


@pytest.mark.parametrize('name', ['crosskd', 'cross_head'])
def test_what_no_cache_can_keep_is_said_before_the_run(name):
    with pytest.raises(ValueError, match=r"the teacher's head itself.*Train without teacher_cache"):
        MODELS.build(taught('gfl', 'gfl', name, teacher_cache='no such folder'))


@pytest.mark.parametrize('teacher', ['faster_rcnn', 'detr'])
def test_a_head_that_maps_alone_do_not_feed_is_no_teacher_of_cross_head(teacher):
    with pytest.raises(ValueError, match=r"'Towers' needs a dense head.*prediction_rows"):
        MODELS.build(taught('retinanet', teacher, 'cross_head'))


def test_towers_of_other_widths_are_seen():
    config = taught('fcos', 'retinanet', 'crosskd')
    config.architecture.bbox_head.feat_channels = 8
    loss = MODELS.build(config).distiller.distill_losses['crosskd_loss_cross']
    assert [(conv.in_channels, conv.out_channels) for conv in loss.adapters] == [(8, 16)] * 2
    config.architecture.bbox_head.feat_channels = 16
    loss = MODELS.build(config).distiller.distill_losses['crosskd_loss_cross']
    assert not loss.adapters


ROWS = ('prediction_rows', 'soft_ground_truth', 'score_imitation')


@pytest.mark.parametrize(
    ('student', 'teacher', 'names'),
    [('fcos', 'retinanet', (*ROWS, 'pkd', 'cross_head')), ('detr', 'faster_rcnn', ROWS)],
    ids=['dense', 'DETR'],
)
def test_images_of_several_sizes_without_objects_or_detections(student, teacher, names):
    """A teacher that is sure of nothing, images that are padded to one another's size."""
    pair = MODELS.build(taught(student, teacher, *names)).train()
    pair.student.init_weights()
    for parameter in pair.teacher.parameters():
        parameter.data.zero_()
    batch = raw_batch(boxes=0)
    batch['inputs'][1] = batch['inputs'][1][:, :40, :52]
    batch['data_samples'][1].set_metainfo(dict(img_shape=(40, 52), ori_shape=(40, 52)))
    total, logged = losses_of(pair, batch)
    total.backward()
    assert all(value.isfinite().all() for value in logged.values())
    assert all(p.grad.isfinite().all() for p in pair.parameters() if p.grad is not None)
