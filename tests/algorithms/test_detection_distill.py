"""DetectionDistill: what the teacher does, what it is left out of, what is logged and checked."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper

from mmkd.algorithms.build_detector import build_detector
from mmkd.algorithms.detection_distill import DetectionDistill
from tests.tiny import raw_batch, tiny_pair, tiny_ssd
from tests.zoo import small

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def build(**changes) -> DetectionDistill:
    torch.manual_seed(0)
    return MODELS.build(tiny_pair(**changes))


def losses_of(model, **batch):
    model.train()
    data = model.data_preprocessor(raw_batch(**batch), training=True)
    return model(**data, mode='loss')


def test_every_term_is_logged_under_its_own_name():
    model = build()
    total, logs = model.parse_losses(losses_of(model))
    assert set(logs) == {
        'loss',
        'student.loss_cls',
        'student.loss_bbox',
        'distill.loss_soft',
        'distill.loss_bounded',
        'distill.soft_mined',
        'distill.bounded_active',
    }
    parts = sum(value for name, value in logs.items() if 'loss' in name and name != 'loss')
    torch.testing.assert_close(total, parts)
    assert all(v != 0 for name, v in logs.items() if 'bounded' not in name)


def test_student_loss_weights_scale_the_named_term_only():
    plain, weighted = build(student_loss_weights={}), build(student_loss_weights=dict(loss_cls=0.7))
    a, b = (m.parse_losses(losses_of(m))[1] for m in (plain, weighted))
    torch.testing.assert_close(b['student.loss_cls'], 0.7 * a['student.loss_cls'])
    torch.testing.assert_close(b['student.loss_bbox'], a['student.loss_bbox'])


def test_student_loss_weights_that_name_no_term_are_refused():
    model = build(student_loss_weights=dict(loss_class=0.7))
    with pytest.raises(ValueError, match=r'loss_cls, loss_bbox.*but got loss_class'):
        losses_of(model)


def test_teacher_is_no_part_of_the_model():
    model = build()
    teacher = {id(p) for p in model.teacher.parameters()}
    assert teacher and not teacher & {id(p) for p in model.parameters()}
    assert not any(m is model.teacher for m in model.modules())
    student = sum(v.numel() for v in model.student.state_dict().values())
    assert sum(v.numel() for v in model.state_dict().values()) == student
    assert copy.deepcopy(model).teacher is model.teacher
    assert ExponentialMovingAverage(model).module.teacher is model.teacher
    assert EMAHook().priority  # the hook builds the average above


def test_teacher_stays_in_eval_without_grad_and_unchanged():
    model = build()
    before = copy.deepcopy(model.teacher.state_dict())
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    student = copy.deepcopy(model.student.state_dict())
    for _ in range(2):
        model.train_step(raw_batch(), optimizer)
    assert not any(m.training for m in model.teacher.modules())
    assert not any(p.requires_grad or p.grad is not None for p in model.teacher.parameters())
    for key, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    moved = [k for k, v in model.student.state_dict().items() if not torch.equal(v, student[k])]
    assert len(moved) > 50


def test_teacher_with_dropout_put_into_train_mode_by_hand_is_put_back():
    model = build()
    model.teacher.train()
    losses_of(model)
    assert not any(m.training for m in model.teacher.modules())


def test_teacher_never_computes_its_loss(monkeypatch):
    model = build()

    def refuse(*args, **kwargs):
        raise AssertionError('the teacher computed its loss')

    monkeypatch.setattr(model.teacher, 'loss', refuse)
    monkeypatch.setattr(model.teacher.bbox_head, 'loss', refuse)
    losses_of(model)


@pytest.mark.parametrize('student_rgb', [True, False])
@pytest.mark.parametrize('teacher_std', [1.0, 58.0, 77.0])
def test_teacher_sees_its_own_preprocessing(student_rgb, teacher_std):
    """What the teacher gets through the student's batch is what its own preprocessor makes."""
    model = build(
        architecture=tiny_ssd(rgb=student_rgb), teacher=tiny_ssd(width=16, std=teacher_std)
    )
    batch = raw_batch(seed=3)
    batch['inputs'][1] = batch['inputs'][1][:, :48, :56].contiguous()  # padded in the batch
    batch['data_samples'][1].set_metainfo(dict(img_shape=(48, 56)))
    own = model.teacher.data_preprocessor(copy.deepcopy(batch), training=True)['inputs']
    seen = []
    model.teacher.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    data = model.data_preprocessor(batch, training=True)
    model.train()
    model(**data, mode='loss')
    torch.testing.assert_close(seen[0], own, rtol=1e-5, atol=1e-4)


def test_equal_preprocessing_costs_no_copy():
    model = build(teacher=tiny_ssd(width=16))
    data = model.data_preprocessor(raw_batch(), training=True)
    assert model.teacher_source.translation(data['inputs'], data['data_samples']) is data['inputs']


def test_student_starts_as_it_would_alone():
    """With the same seed, so that a control run differs in nothing but the distillation."""
    model = build()
    model.init_weights()
    torch.manual_seed(0)
    baseline = MODELS.build(tiny_ssd())
    baseline.init_weights()
    own = model.student.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in baseline.state_dict().items())


def test_head_is_not_run_when_recorders_tap_the_neck():
    distiller = dict(
        type='ConfigurableDistiller',
        student_recorders=dict(feat=dict(type='ModuleOutputs', source='neck')),
        teacher_recorders=dict(feat=dict(type='ModuleOutputs', source='neck')),
        connectors=dict(
            adapt=dict(
                type='TorchNNConnector',
                module_name='Conv2d',
                module_args=dict(in_channels=16, out_channels=32, kernel_size=1),
            )
        ),
        distill_losses=dict(loss_feat=dict(type='L2Loss')),
        loss_forward_mappings=dict(
            loss_feat=dict(
                s_feature=dict(recorder='feat', from_student=True, data_idx=0, connector='adapt'),
                t_feature=dict(recorder='feat', from_student=False, data_idx=0),
            )
        ),
    )
    model = build(distiller=distiller)
    calls = []
    model.teacher.bbox_head.register_forward_hook(lambda *_: calls.append(1))
    losses = losses_of(model)
    assert losses['distill.loss_feat'] > 0 and not calls
    total, _ = model.parse_losses(losses)
    total.backward()
    assert model.distiller.connectors['adapt'].func.weight.grad.abs().sum() > 0


def test_records_are_released():
    model = build()
    losses_of(model)
    for manager in (model.distiller.teacher_recorders, model.distiller.student_recorders):
        assert all(not recorder.data_buffer for recorder in manager.recorders.values())


def test_batch_without_objects_trains_on():
    model = build()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    logs = model.train_step(raw_batch(boxes=0), optimizer)
    assert all(torch.isfinite(torch.as_tensor(v)) for v in logs.values())


@pytest.mark.parametrize('boxes', [0, 2])
def test_every_parameter_gets_a_gradient(boxes):
    """Otherwise DDP would need ``find_unused_parameters``."""
    model = build()
    model.parse_losses(losses_of(model, boxes=boxes))[0].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_prediction_is_the_students_alone(monkeypatch):
    model = build().eval()
    monkeypatch.setattr(model.teacher, 'forward', None)  # calling it would fail
    with torch.no_grad():
        [result, _] = model.val_step(raw_batch())
        [own, _] = model.student.val_step(raw_batch())
    assert torch.equal(result.pred_instances.bboxes, own.pred_instances.bboxes)


def test_moving_the_model_moves_the_teacher():
    model = build().double()
    assert next(model.teacher.parameters()).dtype == torch.float64


def test_trainable_teacher_is_refused():
    with pytest.raises(ValueError, match='frozen'):
        build(teacher_trainable=True)


def test_detector_from_a_file_of_another_scope(tmp_path):
    config = tmp_path / 'teacher.py'
    config.write_text(f"default_scope = 'mmdet'\nmodel = {tiny_ssd()!r}\n")
    assert build_detector(str(config)).bbox_head.num_classes == 3
    pair = tmp_path / 'pair.py'
    pair.write_text(f'model = {tiny_pair()!r}\n')
    assert build_detector(str(pair)).backbone.base_channels == 8  # of a pair, the student


def test_detector_from_an_installed_config():
    model = build_detector('mmdet::pascal_voc/ssd300_voc0712.py')
    assert model.bbox_head.num_classes == 20


def test_a_config_may_be_built_again_and_serve_both_sides():
    """DETR's head writes into the config that it is built from, and refuses what it wrote."""
    model = small('detr')
    before = copy.deepcopy(model)
    for _ in range(2):
        build_detector(model)
    assert model == before


def test_detector_from_something_else_is_refused(tmp_path):
    config = tmp_path / 'no_model.py'
    config.write_text('data_root = 1\n')
    with pytest.raises(ValueError, match='has only data_root'):
        build_detector(str(config), 'teacher')
    with pytest.raises(TypeError, match='teacher must be'):
        build_detector(3, 'teacher')


def test_plain_student_weights_load_into_the_algorithm():
    """mmengine's ``load_from`` gives a plain detector's keys; without a prefix none would load."""
    from mmengine.runner.checkpoint import load_state_dict

    plain = MODELS.build(tiny_ssd())
    model = build()
    load_state_dict(model, plain.state_dict(), strict=True)
    for key, value in plain.state_dict().items():
        assert torch.equal(model.student.state_dict()[key], value)


def test_a_shuffled_teacher_sees_the_other_image():
    model, shuffled = build(), build(shuffle_teacher=True)
    shuffled.teacher.load_state_dict(model.teacher.state_dict())
    seen = []
    for each in (model, shuffled):
        each.teacher.bbox_head.register_forward_hook(lambda _m, _i, out: seen.append(out[0][0]))
    a, b = losses_of(model), losses_of(shuffled)
    torch.testing.assert_close(seen[1], seen[0].flip(0))
    torch.testing.assert_close(b['student.loss_cls'], a['student.loss_cls'])
    assert not torch.isclose(a['distill.loss_soft'], b['distill.loss_soft'])


def test_a_shuffled_teacher_needs_two_images():
    with pytest.raises(ValueError, match=r'another image.*single image.*batch_size'):
        losses_of(build(shuffle_teacher=True), images=1)
