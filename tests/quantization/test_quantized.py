"""A student with fake quantisers: where they are, what a training keeps, what is exported."""

import copy

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model.utils import convert_sync_batchnorm
from torch import nn

from mmkd.algorithms.build_detector import build_detector
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.checkpoints.state_keys import is_of_quantizer
from mmkd.compare.configs import baseline, with_model
from mmkd.hooks import QuantizeHook
from mmkd.quantization import Quantize, quantize
from mmkd.quantization.quantized import fix, learned_ranges, ranges_in, restore, split_ranges
from mmkd.quantization.sites import find_sites
from mmkd.runner import ExactRunner
from tests.tiny import raw_batch, tiny_pair, tiny_runner, tiny_ssd, tiny_yolov5

pytestmark = pytest.mark.usefixtures('mmdet_scope')
QUICK = dict(batches=1, momentum=0.5)


def ssd():
    torch.manual_seed(0)
    return build_detector(tiny_ssd())


def features(model, seed: int = 0):
    torch.manual_seed(seed)
    return model.bbox_head(model.extract_feat(torch.randn(2, 3, 64, 64)))[0]


def test_each_tensor_has_one_quantiser():
    model = ssd()
    sites = find_sites(model)
    convs = {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert set(sites.convolutions) == convs
    heads = {name for name in convs if name.startswith('bbox_head')}
    assert sites.predictors == heads and len(heads) == 8
    reads = sites.convolutions
    assert reads['backbone.conv1'] and not reads['backbone.layer1.0.conv2']
    assert sites.outputs['backbone.layer1.0.bn1'] == (0, float('inf'))  # a ReLU is behind
    assert sites.outputs['backbone.layer1.0.bn2'][0] == -float('inf')  # the shortcut comes between
    assert 'backbone.layer1.0.conv1' not in sites.outputs


def test_mobilenets_relu6_is_part_of_the_range():
    cfg = tiny_ssd()
    cfg['backbone'] = dict(type='MobileNetV2', out_indices=(2, 4, 7), widen_factor=0.25)
    cfg['neck'] = None
    cfg['bbox_head'].update(in_channels=(8, 24, 1280))
    for key in ('strides', 'ratios', 'min_sizes', 'max_sizes'):
        generator = cfg['bbox_head']['anchor_generator']
        generator[key] = generator[key][:3]
    model = build_detector(cfg)
    limits = set(find_sites(model).outputs.values())
    assert (0.0, 6.0) in limits and (-float('inf'), float('inf')) in limits


def test_the_model_is_otherwise_as_it_was():
    model = ssd().train()
    before, random = copy.deepcopy(model), torch.random.get_rng_state()
    quantize(model, Quantize())
    assert torch.equal(torch.random.get_rng_state(), random)
    own, ranges = split_ranges(model.state_dict())
    assert list(own) == list(before.state_dict()) and ranges
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in own.items())
    assert [type(m).__name__ for m in before.modules()] == [
        type(m).__name__ for n, m in model.named_modules() if not is_of_quantizer(f'{n}.x')
    ]
    modes = {name: m.training for name, m in before.named_modules()}
    assert all(m.training == modes[n] for n, m in model.named_modules() if n in modes)
    assert not any('quantizer' in name for name, _ in model.named_parameters())


def test_a_copy_and_a_restored_model_compute_the_same():
    model = ssd()
    quantize(model, Quantize(**QUICK))
    for seed in range(3):
        features(model, seed)
    model.eval()
    copied, restored = copy.deepcopy(model), ssd()
    own, ranges = split_ranges(model.state_dict())
    restored.load_state_dict(own)
    restore(restored, ranges)
    restored.eval()
    exact = ssd().eval()
    exact.load_state_dict(own)
    with torch.no_grad():
        found = features(model)
        for other in (copied, restored):
            assert all(map(torch.equal, found, features(other)))
        assert not any(map(torch.equal, found, features(exact)))
        fix(restored)
        for one, other in zip(found, features(restored), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert copied.backbone.conv1.input_quantizer is not model.backbone.conv1.input_quantizer


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


@pytest.mark.parametrize(
    ('setting', 'match'),
    [
        (True, 'quantize must be a dict with any of batches.*but got True'),
        (dict(bits=4), 'but got bits'),
        (dict(batches=-1), 'batches, 0 or more, but got -1'),
        (dict(batches=2.5), 'but got 2.5'),
        (dict(momentum=0), 'above 0 and at most 1, but got 0'),
        (dict(momentum='x'), "but got 'x'"),
        (dict(predictors=1), 'predictors must be True or False, but got 1'),
        (dict(freeze_norm='yes'), "freeze_norm must be True or False, but got 'yes'"),
        (dict(leave_out='neck'), "a list of names of modules, but got 'neck'"),
        (dict(leave_out=['nek']), 'must name modules of the student, but it has no nek'),
        (dict(leave_out=['backbone', 'neck', 'bbox_head']), 'of SingleStageDetector none is left'),
    ],
)
def test_bad_settings_are_refused(setting, match):
    with pytest.raises(ValueError, match=match):
        MODELS.build(tiny_pair(quantize=setting))


def test_what_is_left_out_stays_in_float():
    model = ssd()
    quantize(model, Quantize(leave_out=['backbone.layer1', 'neck'], predictors=True))
    kept = {key.split('.weight_q')[0] for key in model.state_dict() if '.weight_q' in key}
    assert not any(name.startswith(('backbone.layer1', 'neck')) for name in kept)
    assert 'bbox_head.cls_convs.0.0' in kept and 'backbone.conv1' in kept


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


def test_levels_may_share_convolutions():
    """Then a state dict has each under several names."""
    pytest.importorskip('onnxruntime')
    from tests.export.test_heads import opened as detector

    model = detector('RetinaSepBNHead').eval()
    model._modules['bbox_head'] = model._modules.pop('bbox_head')  # behind what gives its features
    plain = copy.deepcopy(model)
    quantize(model, Quantize(**QUICK, leave_out=['bbox_head.reg_convs.1']))
    kept = {key.split('.weight_q')[0] for key in model.state_dict() if '.weight_q' in key}
    assert {'mix', 'bbox_head.cls_convs.0.0.conv', 'bbox_head.cls_convs.1.0.conv'} <= kept
    assert not any('reg_convs' in name for name in kept)  # of each level
    for _ in range(2):
        features = model.extract_feat(torch.randn(1, 3, 64, 48))
        model.bbox_head(features)
    restore(plain, split_ranges(model.state_dict())[1])
    ends = [m.state_dict() for m in (model.eval(), plain)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('backbone.conv1.input_quantizer.ranges', torch.ones(4)),
        ('backbone.bn1.input_quantizer.ranges', torch.ones(3)),
        ('backbone.relu.weight_quantizer.bits', torch.tensor(8)),
        ('backbone.output_quantizer.ranges', torch.ones(3)),
        ('gone.output_quantizer.ranges', torch.ones(3)),
    ],
)
def test_ranges_of_something_else_are_refused(key, value):
    model = ssd()
    with pytest.raises(ValueError, match=rf'SingleStageDetector has nothing for {key}'):
        restore(model, {key: value})
    assert not any(is_of_quantizer(key) for key in model.state_dict())


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
