"""Ways of training: accumulated gradients, EMA, SyncBN, mixed precision."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import convert_sync_batchnorm
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmkd.runner.launch import prepare_launch
from tests.tiny import (
    fast_batch,
    freeze_bn,
    raw_batch,
    tiny_pair,
    tiny_runner,
    tiny_ssd_with_adapters,
    tiny_yolov5_pair,
)

pytestmark = pytest.mark.usefixtures('mmdet_scope')
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def build(**changes):
    torch.manual_seed(0)
    return MODELS.build(tiny_ssd_with_adapters() | changes)


def parts_and_whole() -> tuple[list[dict], dict]:
    """Two images with the same objects, one by one and together."""
    parts = [raw_batch(1, seed=seed) for seed in (0, 1)]
    parts[1]['data_samples'][0].gt_instances = parts[0]['data_samples'][0].gt_instances.clone()
    return parts, {key: parts[0][key] + parts[1][key] for key in ('inputs', 'data_samples')}


def step(model, batches: list[dict]) -> torch.Tensor:
    """The change of all parameters in one step over the batches."""
    freeze_bn(model)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    wrapper = OptimWrapper(optimizer, accumulative_counts=len(batches))
    for batch in batches:
        model.train_step(batch, wrapper)
    changes = [p.detach() - old for p, old in zip(model.parameters(), before, strict=True)]
    return torch.cat([change.flatten() for change in changes])


def test_accumulated_gradients_take_the_step_of_the_whole_batch():
    """Where the parts have equally many positives: each part is divided by its own."""
    parts, whole = parts_and_whole()
    accumulated, expected = step(build(), parts), step(build(), [whole])
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(accumulated, expected, rtol=1e-3, atol=1e-6)


def test_mmyolos_own_terms_accumulate_to_a_smaller_step():
    """They are sums over the images of a batch, of which accumulation takes the mean."""
    pytest.importorskip('mmyolo')
    parts, whole = parts_and_whole()
    steps = []
    for batches in (parts, [whole]):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmyolo'):
            model = MODELS.build(tiny_yolov5_pair())
        model.distillation_stopped = True
        steps.append(step(model, [fast_batch(batch) for batch in batches]))
    torch.testing.assert_close(steps[0], steps[1] / 2, rtol=1e-3, atol=1e-6)


def test_ema_averages_the_student_and_is_what_is_exported(tmp_path):
    ema = EMAHook(momentum=0.5, update_buffers=True)
    model = build()
    runner = tiny_runner(
        model,
        [raw_batch(1, seed=seed) for seed in range(2)],
        tmp_path,
        cfg=Config(dict(model=tiny_pair())),
        custom_hooks=[ema, dict(type='ExportStudentHook')],
    )
    runner.train()
    averaged = ema.ema_model.module
    assert averaged.teacher is model.teacher
    assert not any('teacher' in name for name, _ in averaged.named_parameters())
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    exported = torch.load(tmp_path / 'student.pth', weights_only=False)['state_dict']
    student = averaged.student.state_dict()
    assert exported.keys() == student.keys() == model.student.state_dict().keys()
    assert all(torch.equal(value, student[key]) for key, value in exported.items())
    raw = {k: v for k, v in model.student.named_parameters() if not torch.equal(v, student[k])}
    assert len(raw) > 50  # the average is not the last step
    kept = saved['ema_state_dict']['module.architecture.backbone.conv1.weight']
    assert torch.equal(kept, model.student.backbone.conv1.weight)  # to resume from


def norms(model, kind):
    return [name for name, module in model.named_modules() if type(module) is kind]


def test_syncbn_is_the_students_alone():
    """What the runner does with ``sync_bn = 'torch'``."""
    model = build()
    student, teacher = (norms(m, nn.BatchNorm2d) for m in (model.student, model.teacher))
    model = convert_sync_batchnorm(model, 'torch')
    assert student and norms(model.student, nn.SyncBatchNorm) == student
    assert teacher and norms(model.teacher, nn.BatchNorm2d) == teacher
    freeze_bn(model)  # in training it asks for a GPU
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    assert model.train_step(raw_batch(), wrapper)['distill.loss_soft'] > 0


def test_two_processes_without_a_gpu_keep_mmyolos_batchnorm(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    detector = dict(type='YOLODetector')
    for model in (detector, dict(type='DetectionDistill', architecture=detector)):
        config = Config(dict(model=model))
        prepare_launch(config, 'pytorch')
        assert config.model.get('architecture', config.model).use_syncbn is False


@needs_gpu
@pytest.mark.parametrize('family', ['ssd', 'yolov5'])
def test_a_gpu_takes_the_step_that_the_cpu_takes(family, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    found = []
    for device in ('cpu', 'cuda'):
        if family == 'ssd':
            model, batch = build(balance=dict(shares=0.5)), raw_batch()
        else:
            pytest.importorskip('mmyolo')
            torch.manual_seed(0)
            with DefaultScope.overwrite_default_scope('mmyolo'):
                model = MODELS.build(tiny_yolov5_pair(balance=dict(shares=0.5)))
            batch = fast_batch(raw_batch())
        model = model.to(device).train()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
        logs = model.train_step(batch, wrapper)
        values = {
            **{k: torch.as_tensor(v) for k, v in logs.items()},
            **dict(model.named_parameters()),
        }
        found.append({k: v.detach().cpu() for k, v in values.items()})
    assert found[0]['distill.imitation_balance'] > 0
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)


@needs_gpu
@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision_on_a_gpu(dtype):
    model = build().cuda().train()
    seen = set()
    for module in (model.student.backbone.conv1, model.teacher.backbone.conv1):
        module.register_forward_hook(lambda *args: seen.add(args[-1].dtype))
    scale = 'dynamic' if dtype == 'float16' else 1.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    wrapper = AmpOptimWrapper(loss_scale=scale, dtype=dtype, optimizer=optimizer)
    before = {k: v.clone() for k, v in model.named_parameters()}
    for seed in range(12):  # the first ones may only lower the scale
        logs = model.train_step(raw_batch(seed=seed), wrapper)
        assert all(torch.isfinite(torch.as_tensor(v)).all() for v in logs.values())
    assert seen == {getattr(torch, dtype)}
    assert all(torch.isfinite(p).all() for p in model.parameters())
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, before[name])]
    assert len(moved) > len(before) / 2


@needs_gpu
def test_syncbn_trains_on_a_gpu(tmp_path):
    torch.distributed.init_process_group(
        'nccl', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    try:
        model = convert_sync_batchnorm(build(), 'torch').cuda().train()
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
        assert torch.isfinite(model.train_step(raw_batch(), wrapper)['loss'])
    finally:
        torch.distributed.destroy_process_group()
