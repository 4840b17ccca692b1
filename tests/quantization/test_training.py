"""A training with fake quantisers: what it keeps, and what its file gives."""

import copy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model.utils import convert_sync_batchnorm
from torch import nn

from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.checkpoints.state_keys import is_of_quantizer
from mmkd.compare.configs import baseline, with_model
from mmkd.hooks import QuantizeHook
from mmkd.quantization import Quantize, quantize
from mmkd.quantization.quantized import learned_ranges, ranges_in, split_ranges
from mmkd.runner import ExactRunner
from tests.quantization.test_quantized import QUICK, ssd
from tests.tiny import raw_batch, tiny_pair, tiny_runner, tiny_ssd, tiny_yolov5

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def test_exchanged_batchnorms_go_on():
    """What a run with ``sync_bn`` does after the model was built."""
    pair = MODELS.build(tiny_pair(quantize=QUICK))
    pair = convert_sync_batchnorm(pair, 'torch')
    pair.train()
    norm = pair.student.backbone.bn1
    assert isinstance(norm, nn.SyncBatchNorm)
    norm.eval()  # in training it asks for a GPU
    norm(torch.randn(1, 8, 4, 4))
    assert norm.output_quantizer.ranges[2] > 0


def train(tmp_path, epochs=2, hooks=(), **changes):
    images = [raw_batch(1, seed=seed) for seed in range(3)]
    torch.manual_seed(0)
    settings = dict(train_cfg=dict(by_epoch=True, max_epochs=epochs), **changes)
    config = Config(dict(model=tiny_pair(quantize=QUICK), default_scope='mmdet'))
    runner = tiny_runner(
        MODELS.build(config.model.to_dict()),
        images,
        tmp_path,
        runner=ExactRunner,
        cfg=config,
        custom_hooks=[dict(type='ExportStudentHook'), *hooks],
        **settings,
    )
    runner.train()
    return runner


def test_a_run_resumes_exactly_and_its_student_is_plain(tmp_path):
    straight = train(tmp_path / 'a').model
    train(tmp_path / 'b', epochs=1)
    resumed = train(tmp_path / 'b', resume=True).model
    ends = straight.state_dict(), resumed.state_dict()
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    student = torch.load(tmp_path / 'a/student.pth', weights_only=False)
    ranges = student['quantization']
    assert student['state_dict'].keys() == ssd().state_dict().keys()
    assert ranges and set(ranges) == {
        key.removeprefix('architecture.') for key in ends[0] if is_of_quantizer(key)
    }
    assert ranges['backbone.conv1.input_quantizer.ranges'][2] > 0.9
    load_detector(ssd(), str(tmp_path / 'a/student.pth'), 'checkpoint')
    load_detector(ssd(), str(tmp_path / 'a/epoch_2.pth'), 'checkpoint')
    of_run = ranges_in(str(tmp_path / 'a/epoch_2.pth'))
    assert all(torch.equal(of_run[key], ranges[key]) for key in ranges)
    pair = MODELS.build(tiny_pair(quantize=QUICK, student_ckpt=str(tmp_path / 'a/student.pth')))
    assert torch.equal(
        pair.student.backbone.conv1.weight, student['state_dict']['backbone.conv1.weight']
    )


@pytest.mark.parametrize('buffers', [True, False])
def test_averaged_weights_have_ranges_of_their_own(tmp_path, buffers):
    hook = EMAHook(momentum=0.1, update_buffers=buffers)
    train(tmp_path, hooks=[hook])
    ranges = learned_ranges(torch.load(tmp_path / 'student.pth', weights_only=False))
    model = hook.ema_model.module.student
    assert ranges and all(torch.equal(v, model.state_dict()[k]) for k, v in ranges.items())
    low, high, weight = ranges['backbone.conv1.input_quantizer.ranges'].tolist()
    assert low / weight < -1 and high / weight > 1  # of normalised pixels, from the first step on


def test_mixed_precision_trains(tmp_path):
    pair = MODELS.build(tiny_pair(quantize=QUICK))
    data = pair.data_preprocessor(raw_batch(), True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for _ in range(3):
            losses = pair(**data, mode='loss')
    total, _ = pair.parse_losses(losses)
    total.backward()
    assert total.isfinite() and pair.student.backbone.conv1.weight.grad.isfinite().all()


def test_frozen_statistics_stand_still():
    student = tiny_ssd()
    student['backbone']['norm_eval'] = False
    for settings, still in ((dict(freeze_norm=True), True), (dict(), False)):
        pair = MODELS.build(tiny_pair(architecture=student, quantize={**QUICK, **settings}))
        pair.train()
        before = pair.student.backbone.bn1.running_mean.clone()
        pair(**pair.data_preprocessor(raw_batch(), True), mode='loss')
        assert torch.equal(pair.student.backbone.bn1.running_mean, before) is still
        assert pair.student.backbone.bn1.output_quantizer.ranges[2] > 0


def test_a_detector_on_its_own_trains_by_a_hook(tmp_path):
    hook = QuantizeHook(**QUICK, freeze_norm=True)
    model = ssd()
    config = Config(dict(model=tiny_ssd(), default_scope='mmdet'))
    runner = tiny_runner(
        model, [raw_batch(1)], tmp_path, cfg=config, custom_hooks=[hook, EMAHook()]
    )
    runner.train()
    ranges = ranges_in(str(tmp_path / 'epoch_1.pth'))
    assert ranges['backbone.conv1.input_quantizer.ranges'][2] > 0
    again = ssd()
    load_detector(again, str(tmp_path / 'epoch_1.pth'), 'checkpoint')
    hook.load(again, str(tmp_path / 'epoch_1.pth'))
    assert torch.equal(
        again.backbone.conv1.input_quantizer.ranges, ranges['backbone.conv1.input_quantizer.ranges']
    )
    pair = Config(dict(model=tiny_pair()))
    with pytest.raises(ValueError, match=r'Give the pair quantize=dict'):
        tiny_runner(MODELS.build(tiny_pair()), [], tmp_path, cfg=pair, custom_hooks=[hook]).train()


def test_a_comparison_quantises_the_baseline_too():
    pair = Config(dict(model=tiny_pair(quantize=QUICK), default_scope='mmdet'))
    assert baseline(pair).custom_hooks == [dict(type='QuantizeHook', **QUICK)]
    assert not with_model(pair, pair.model.teacher).get('custom_hooks')
    pair.model.quantize = None
    assert not baseline(pair).get('custom_hooks')


def test_an_evaluation_is_that_of_the_quantised_student(tmp_path, monkeypatch):
    from mmengine.runner import Runner

    from mmkd.runner.evaluate import evaluate
    from tests.export import conftest as exports

    train(tmp_path, epochs=1)
    student = str(tmp_path / 'student.pth')
    exports.save(tiny_ssd(), tmp_path / 'images', 'ratio', 'mmdet')
    box = dict(id=1, image_id=0, category_id=0, bbox=[1, 1, 20, 20], area=400, iscrowd=0)
    exports.write_truth(tmp_path / 'images', [(48, 64), (64, 64)], [box])
    config = exports.config_for(tiny_ssd(), tmp_path / 'images', 'ratio', 'mmdet')
    config.update(work_dir=str(tmp_path / 'test'), custom_hooks=[dict(type='QuantizeHook')])
    config.test_cfg, config.val_cfg = dict(type='TestLoop'), dict(type='ValLoop')
    seen = []

    def test(runner):
        runner.call_hook('before_run')
        seen.append(runner.model)
        return {}

    monkeypatch.setattr(Runner, 'test', test)
    evaluate(config, student)
    ranges = ranges_in(student)
    assert ranges and all(torch.equal(seen[0].state_dict()[k], v) for k, v in ranges.items())


@pytest.mark.parametrize('name', ['ssd', 'yolov5'])
def test_the_file_gives_what_the_student_gives(name, tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    from mmkd.export.export_onnx import Settings
    from mmkd.export.int8.export_int8 import opened
    from mmkd.export.int8.learned import fixed, make_learned
    from mmkd.export.reference import Reference
    from mmkd.export.trained import open_trained
    from tests.export import conftest as exports

    if name == 'yolov5':
        pytest.importorskip('mmyolo')
        model, kind, scope = tiny_yolov5(), 'yolo', 'mmyolo'
        model['bbox_head']['test_cfg'] = model['test_cfg'] = exports.YOLO_TEST
    else:
        model, kind, scope = tiny_ssd(), 'ratio', 'mmdet'
    trained = open_trained(str(exports.save(model, tmp_path / name, kind, scope)))
    images = [np.random.default_rng(i).integers(0, 256, (1, 3, 64, 64), np.uint8) for i in range(3)]
    student = copy.deepcopy(trained.model)
    quantize(student, Quantize(batches=1, momentum=0.3))
    for image in images * 3:
        batch = dict(inputs=[torch.from_numpy(image[0])])
        student.bbox_head(student.extract_feat(student.data_preprocessor(batch)['inputs']))
    ranges = split_ranges(student.state_dict())[1]
    files, parity = make_learned(trained, Settings(), ranges, map_images=0)
    convs = sum(isinstance(m, nn.Conv2d) for m in student.modules())
    assert parity.int8['quantised'] == convs - len(parity.int8['left_out'])
    assert len(parity.int8['left_out']) == (8 if name == 'ssd' else 3)  # those that predict
    file = opened(files.rows)
    fake = Reference(fixed(trained.model, ranges), scope, file.size)
    plain = Reference(trained.model, scope, file.size)
    # A value in the middle between two steps is rounded either way, and in a deep detector one such
    # value changes many after it: then the two differ as two roundings do.
    nearer = 0.3 if name == 'ssd' else 1.0
    for image in images:
        own, exact, found = fake.rows(image), plain.rows(image), file.raw(image)
        for place, key in enumerate(('boxes', 'scores')):
            away = np.abs(found[place] - getattr(own, key))
            cost = np.abs(getattr(exact, key) - getattr(own, key))  # of rounding at all
            assert away.mean() < nearer * cost.mean(), (key, away.mean(), cost.mean())
    with pytest.raises(ValueError, match='has nothing for other'):
        make_learned(trained, Settings(), {'other.conv.input_quantizer.ranges': torch.ones(3)})
    untouched = {key: torch.zeros_like(value) for key, value in ranges.items()}
    with pytest.raises(ValueError, match=r'exporter torchscript, but got --exporter dynamo'):
        make_learned(trained, Settings(exporter='dynamo'), ranges)
    with pytest.raises(ValueError, match='none was observed'):
        make_learned(trained, Settings(), untouched)
