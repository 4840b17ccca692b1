"""``type='Predictions'`` through the algorithm: the student in its loss, the teacher in eval."""

import copy

import pytest
import torch
from mmdet.models.dense_heads import SSDHead
from mmrazor.registry import MODELS
from torch import nn

from mmkd.heads import READERS, Batch, Predictions, find_reader, read, reader
from tests.heads.models import small
from tests.tiny import fast_batch, freeze_bn, raw_batch, tiny_ssd, tiny_yolov5

FCOS = 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco'


@MODELS.register_module()
class SeenRows(nn.Module):
    """Keeps what it is given."""

    def forward(self, preds_S, preds_T):
        self.seen = preds_S, preds_T
        return preds_S.logits.mean() + preds_S.boxes.mean()


def pair(student, teacher, recorder=None, loss='SeenRows', balance=None, **mapping):
    recorder = dict(type='Predictions', **(recorder or {}))
    ask = dict(recorder='rows', **mapping)
    model = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='DetectionDistill',
            architecture=student,
            teacher=teacher,
            balance=balance,
            distiller=dict(
                type='ConfigurableDistiller',
                student_recorders=dict(rows=recorder),
                teacher_recorders=dict(rows=recorder),
                distill_losses=dict(loss_rows=dict(type=loss)),
                loss_forward_mappings=dict(
                    loss_rows=dict(
                        preds_S=dict(from_student=True, **ask),
                        preds_T=dict(from_student=False, **ask),
                    )
                ),
            ),
        )
    )
    model.student.init_weights()
    return model


def step(model, batch=None, size=64):
    batch = batch or raw_batch(size=size)
    data = model.data_preprocessor(batch, training=True)
    losses = model.loss(data['inputs'], data['data_samples'])
    assert 'distill.loss_rows' in losses
    s, t = model.distiller.distill_losses['loss_rows'].seen
    tensors = [v for v in (t.log_prob, t.boxes) if v.requires_grad]
    assert isinstance(s, Predictions) and not tensors
    return losses, s, t


def copied_teacher(model):
    """The teacher becomes the student's copy."""
    model.teacher.load_state_dict(model.student.state_dict())
    freeze_bn(model.student)
    return model


@pytest.mark.parametrize(
    'name',
    ['fcos/fcos_r50-caffe_fpn_gn-head_1x_coco', 'vfnet/vfnet_r50_fpn_1x_coco'],
)
def test_a_student_and_its_copy_predict_the_same(name):
    config = small(name)
    if 'fcos' in name:
        config.bbox_head.norm_on_bbox = True
    model = copied_teacher(pair(config, copy.deepcopy(config)))
    losses, s, t = step(model)
    torch.testing.assert_close(s.boxes.detach(), t.boxes, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(s.log_prob.detach(), t.log_prob, rtol=1e-4, atol=1e-4)
    assert torch.equal(s.priors, t.priors)
    losses['distill.loss_rows'].backward()
    assert model.student.backbone.conv1.weight.grad.any()
    assert 'forward' not in model.student.bbox_head.__dict__
    assert 'forward' not in model.teacher.__dict__


@pytest.mark.parametrize('source', ['', 'bbox_head'])
def test_any_teacher_and_student(source):
    """Softmax and priors on one side; the rows have padding where the images have."""
    model = pair(tiny_ssd(), small('gfl/gfl_r50_fpn_1x_coco'), dict(source=source))
    batch = raw_batch()
    batch['data_samples'][1].set_metainfo(dict(img_shape=(64, 32)))
    batch['inputs'][1] = batch['inputs'][1][:, :, :32]
    _, s, t = step(model.train(), batch)
    assert s.log_prob.shape[2] == t.log_prob.shape[2] == 3
    for rows in (s, t):
        assert rows.valid[0].all()
        assert torch.equal(rows.valid[1], rows.priors[:, 0] < 32)


def two_sizes(**changes):
    """A batch of an image of 64 x 48 and one of 32 x 64 pixels (w x h)."""
    batch = raw_batch(**changes)
    for i, (height, width) in enumerate(((48, 64), (64, 32))):
        batch['inputs'][i] = batch['inputs'][i][:, :height, :width]
        batch['data_samples'][i].set_metainfo(dict(img_shape=(height, width)))
        batch['data_samples'][i].gt_instances.bboxes.clamp_(max=min(height, width))
    return batch


@pytest.mark.parametrize(
    'name',
    [
        'guided_anchoring/ga-retinanet_r50-caffe_fpn_1x_coco',
        'gfl/gfl_r50_fpn_1x_coco',
        'yolact/yolact_r50_1xb8-55e_coco',
        'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance',
    ],
)
def test_a_teacher_knows_where_its_padding_is(name):
    """The teacher's batch is padded further than the student's, to a multiple of 32."""
    teacher = small(name)
    teacher.data_preprocessor.pad_size_divisor = 32
    model = pair(small(FCOS), teacher).train()
    _, s, t = step(model, two_sizes())
    for rows in (s, t):
        inside = rows.priors[:, :2] < torch.tensor([[[64, 48]], [[32, 64]]])
        lit = inside.all(-1)
        if 'guided' in name and rows is t:  # and where it sees an object
            assert (rows.valid <= lit).all()
        else:
            assert torch.equal(rows.valid, lit)


@pytest.mark.parametrize('name', [FCOS, 'retinanet/retinanet_r50_fpn_1x_coco'])
def test_row_i_is_row_i_where_the_teacher_is_padded_further(name):
    """Of 96 x 96 pixels the teacher's rows at the 64 x 64 of the student are left, in order."""
    student, teacher = small(name), small(name)
    student.data_preprocessor.pad_size_divisor = 32
    teacher.data_preprocessor.pad_size_divisor = 96
    model = copied_teacher(pair(student, teacher))
    losses, s, t = step(model, two_sizes())
    assert torch.equal(s.priors, t.priors) and torch.equal(s.valid, t.valid)
    assert s.log_prob.shape == t.log_prob.shape and s.boxes.shape == t.boxes.shape
    # Far from the border the same image is seen, but for what more padding changes.
    near = (s.boxes.detach() - t.boxes).abs().amax(-1)
    far = (s.boxes.detach() - t.boxes.flip(1)).abs().amax(-1)
    assert near.median() < far.median() / 4
    losses['distill.loss_rows'].backward()


def test_a_detr_as_teacher_is_told_the_size_of_its_own_batch():
    """Its attention masks the padding by the size of the batch that it sees."""
    name = 'detr/detr_r50_8xb2-150e_coco'
    teacher = small(name, num_queries=10)
    teacher.data_preprocessor.pad_size_divisor = 48  # 64 -> 96
    model = pair(small(FCOS), teacher).train()
    batch = two_sizes()
    _, _, t = step(model, copy.deepcopy(batch))
    data = model.teacher.data_preprocessor(batch)
    with torch.no_grad():
        own = read(
            model.teacher.bbox_head,
            model.teacher(**data, mode='tensor'),
            Batch(metas=[sample.metainfo for sample in data['data_samples']]),
        )
    torch.testing.assert_close(t.boxes, own.boxes, rtol=1e-4, atol=1e-3)


def test_a_two_stage_pair():
    config = small('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')
    cascade = small('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco')
    model = pair(config, cascade).train()
    losses, s, t = step(model)
    assert s.class_boxes.shape == (*s.boxes.shape[:2], 3, 4) and t.class_boxes is None
    assert s.valid.any(1).all() and s.priors is None
    losses['distill.loss_rows'].backward()
    grads = [p.grad for p in model.student.roi_head.parameters()]
    assert all(g is not None and g.isfinite().all() for g in grads)

    model = pair(config, copy.deepcopy(config), dict(source='rpn_head')).train()
    _, s, t = step(model)
    assert s.log_prob.shape[2] == 1 and s.boxes.shape == t.boxes.shape


def test_an_untrained_sparse_rcnn_runs():
    config = small('sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco')
    config.rpn_head.num_proposals = 10
    config.roi_head.update(
        num_stages=2, stage_loss_weights=[1, 1], bbox_head=config.roi_head.bbox_head[:2]
    )
    config.train_cfg.rcnn = config.train_cfg.rcnn[:2]
    losses, s, t = step(pair(config, copy.deepcopy(config)).train())
    assert s.boxes.shape == t.boxes.shape == (2, 10, 4) and s.class_boxes is None
    losses['distill.loss_rows'].backward()


def test_the_layers_of_a_detr():
    config = small('dino/dino-4scale_r50_8xb2-12e_coco', num_queries=20)
    model = pair(config, copy.deepcopy(config), dict(layers='all'), data_idx=0).train()
    _, s, t = step(model)
    assert s.boxes.shape == t.boxes.shape == (2, 20, 4)
    recorder = model.distiller.student_recorders.get_recorder('rows')
    assert recorder.data_buffer == []  # released


def test_mmyolos_fast_batches():
    pytest.importorskip('mmyolo')
    student, teacher = (dict(tiny_yolov5(w), _scope_='mmyolo') for w in (0.0625, 0.125))
    _, s, t = step(pair(student, teacher).train(), fast_batch(raw_batch()))
    assert s.boxes.shape == t.boxes.shape == (2, 3 * (64 + 16 + 4), 4)
    assert torch.equal(s.priors, t.priors)


@pytest.mark.parametrize(
    'name', ['faster_rcnn/faster-rcnn_r50_fpn_1x_coco', 'detr/detr_r50_8xb2-150e_coco']
)
def test_teachers_that_want_samples_teach_mmyolos_fast_batches(name):
    pytest.importorskip('mmyolo')
    student = dict(tiny_yolov5(), _scope_='mmyolo')
    teacher = small(name)
    teacher.data_preprocessor.pad_size_divisor = 96
    model = pair(student, dict(teacher, _scope_='mmdet')).train()
    batch = fast_batch(raw_batch())
    _, _, t = step(model, batch)
    assert len(t.boxes) == 2 and t.boxes.isfinite().all()
    assert isinstance(batch['data_samples'], dict)


def test_two_recorders_of_one_model_and_a_copy_of_it():
    model = pair(tiny_ssd(), tiny_ssd())
    twin = copy.deepcopy(model)
    assert twin.teacher is model.teacher
    step(twin.train())
    recorder = twin.distiller.student_recorders.get_recorder('rows')
    assert recorder._model is twin.student
    assert twin.distiller.teacher_recorders.get_recorder('rows')._model is model.teacher


def test_errors_come_before_the_first_step():
    with pytest.raises(ValueError, match=r"layers must be 'last' or 'all', but got 'first'"):
        pair(tiny_ssd(), tiny_ssd(), dict(layers='first'))
    with pytest.raises(ValueError, match=r"layers='all' is for DETRs.*SSDHead"):
        pair(tiny_ssd(), tiny_ssd(), dict(layers='all'))
    with pytest.raises(ValueError, match=r'source must be a head.*"head".*Take one of bbox_head'):
        pair(tiny_ssd(), tiny_ssd(), dict(source='head'))
    with pytest.raises(ValueError, match=r'no reader for ResNet'):
        pair(tiny_ssd(), tiny_ssd(), dict(source='backbone'))


def test_rows_teach_across_kinds():
    """An SSD teaches an FCOS, an FCOS itself, a Faster R-CNN an FCOS: one loss, one mapping."""
    fcos = small('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco')
    faster = small('faster_rcnn/faster-rcnn_r50_fpn_1x_coco')
    for teacher in (tiny_ssd(), fcos, faster):
        model = pair(fcos, teacher, loss='PredictionRows', balance=dict(shares=0.5)).train()
        data = model.data_preprocessor(raw_batch(), training=True)
        losses = model.loss(data['inputs'], data['data_samples'])
        assert losses['distill.loss_rows'] > 0
        assert {'distill.rows_cls', 'distill.rows_box'} <= set(losses)
        losses['distill.loss_rows'].backward()
        reached = [p.grad for p in model.student.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in reached)
        assert model.student.bbox_head.conv_centerness.weight.grad.any()


def test_a_new_head_is_one_function():
    """Its reader, by the guide of CONTRIBUTING.md: no other file knows of the head."""

    class NewHead(SSDHead):
        pass

    def read(head, outputs, batch):
        rows = find_reader(SSDHead.__new__(SSDHead))(head, outputs, batch)
        return Predictions(rows.log_prob - 1, rows.boxes, rows.priors, valid=rows.valid)

    config = tiny_ssd()
    config['bbox_head']['type'] = NewHead
    reader('tests.NewHead')(read)
    try:
        _, student, teacher = step(copied_teacher(pair(config, copy.deepcopy(config))))
    finally:
        del READERS['tests.NewHead']
    assert student.log_prob.requires_grad and student.log_prob.max() < -1
    torch.testing.assert_close(student.log_prob, teacher.log_prob)
    torch.testing.assert_close(student.boxes, teacher.boxes)
