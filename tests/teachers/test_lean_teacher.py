"""The lean teacher shows what the plain one shows."""

import copy
import re
from inspect import signature

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hub import get_config
from torch import nn

from mmkd.cache.key import teacher_key
from mmkd.teachers.lean_teacher import LeanTeacher
from mmkd.teachers.winograd_conv import WinogradConv2d
from tests.tiny import raw_batch, tiny_pair, tiny_ssd
from tests.zoo import small

pytestmark = pytest.mark.usefixtures('mmdet_scope')


@pytest.fixture
def teacher_ckpt(tmp_path):
    """A teacher whose BatchNorm has statistics of its own."""
    torch.manual_seed(0)
    teacher = MODELS.build(tiny_pair()).teacher
    for module in teacher.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
    path = tmp_path / 'teacher.pth'
    torch.save({'state_dict': teacher.state_dict()}, path)
    return str(path)


def terms(teacher_ckpt, **changes):
    """The pair and its distillation terms on a batch; the same student at each call."""
    torch.manual_seed(0)
    model = MODELS.build(tiny_pair(teacher_ckpt=teacher_ckpt, **changes)).train()
    data = model.data_preprocessor(raw_batch(), training=True)
    return model, {k: v for k, v in model(**data, mode='loss').items() if k.startswith('distill')}


@pytest.mark.parametrize(
    'lean, tolerance',
    [
        (dict(), 1e-5),
        (dict(fold_bn=False), 1e-5),
        (dict(channels_last=False), 1e-5),
        (dict(dtype='bfloat16'), 0.03),  # untrained maps, a few priors: rounding is seen
    ],
)
def test_terms_are_those_of_the_plain_teacher(teacher_ckpt, lean, tolerance):
    plain, expected = terms(teacher_ckpt)
    model, found = terms(teacher_ckpt, lean_teacher=lean)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=tolerance, atol=1e-6), name
    norms = [m for m in model.teacher.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == (not lean.get('fold_bn', True))
    assert any(isinstance(m, nn.BatchNorm2d) for m in plain.teacher.modules())
    assert not any(p.requires_grad for p in model.teacher.parameters())


@pytest.mark.parametrize('loss', ['ChannelWiseDivergence', 'L2Loss'])
def test_losses_of_mmrazor_take_its_maps(teacher_ckpt, loss):
    maps = dict(maps=dict(type='ModuleOutputs', source='bbox_head.cls_convs.0'))
    names = list(signature(MODELS.get(f'mmrazor.{loss}').forward).parameters)[1:]
    distiller = dict(
        type='ConfigurableDistiller',
        student_recorders=maps,
        teacher_recorders=maps,
        distill_losses=dict(loss_maps=dict(type=loss)),
        loss_forward_mappings=dict(
            loss_maps={
                name: dict(recorder='maps', from_student=from_student)
                for name, from_student in zip(names, (True, False), strict=True)
            }
        ),
    )
    weights = dict(distiller=distiller, student_loss_weights={})
    _, expected = terms(teacher_ckpt, **weights)
    _, found = terms(teacher_ckpt, lean_teacher={}, **weights)
    assert torch.allclose(found['distill.loss_maps'], expected['distill.loss_maps'], rtol=1e-5)


def test_reduced_precision_reaches_the_features_but_not_the_head(teacher_ckpt):
    model, _ = terms(teacher_ckpt, lean_teacher=dict(dtype='bfloat16'))
    seen = {}
    for name in ('backbone', 'bbox_head'):
        getattr(model.teacher, name).register_forward_hook(
            lambda _, args, out, name=name: seen.update({name: (args[0], out)})
        )
    model.teacher_source(torch.zeros(1, 3, 64, 64))
    assert seen['backbone'][1][0].dtype == torch.bfloat16
    inputs, (cls_scores, bbox_preds) = seen['bbox_head']
    assert {m.dtype for m in (*inputs, *cls_scores, *bbox_preds)} == {torch.float32}


@pytest.mark.parametrize('channels_last', [True, False])
@torch.no_grad()
def test_wide_convolutions_multiply_less(channels_last):
    torch.manual_seed(0)
    model = nn.Module()
    model.backbone = nn.Sequential(nn.Conv2d(128, 256, 3, padding=1), nn.Conv2d(256, 3, 3))
    lean, image = LeanTeacher(channels_last=channels_last), torch.randn(1, 128, 24, 24)
    before = model.requires_grad_(False).backbone(image)
    lean.prepare(model, [])
    kinds = [type(module) for module in model.backbone]
    assert kinds == [WinogradConv2d if channels_last else nn.Conv2d, nn.Conv2d]
    torch.testing.assert_close(model.backbone(lean.layout(image)), before)


def test_a_recorder_of_what_is_folded_is_refused():
    for source in ('backbone.layer1.0.conv1', 'backbone.bn1.weight'):
        teacher = MODELS.build(tiny_ssd()).eval()
        with pytest.raises(ValueError, match=rf'"{re.escape(source)}".*fold_bn=False'):
            LeanTeacher().prepare(teacher, [source])


@pytest.mark.parametrize(
    'name, source', [('retinanet', 'bbox_head.retina_cls'), ('gfl', 'bbox_head.gfl_reg')]
)
def test_a_recorder_of_a_convolution_that_stays_is_not(name, source):
    LeanTeacher().prepare(MODELS.build(small(name)).eval(), [source])


def test_convolutions_that_levels_share_are_left_as_they_are():
    """RTMDet's head has a BatchNorm for each level behind one convolution."""
    model = get_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py').model
    model.backbone.update(init_cfg=None, widen_factor=0.125, deepen_factor=0.167)
    model.neck.update(in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1)
    model.bbox_head.update(in_channels=16, feat_channels=16)
    teacher = MODELS.build(model).eval()
    for module in teacher.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_var.uniform_(0.2, 5)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.1)
    with torch.no_grad():
        image = torch.randn(1, 3, 64, 64)
        expected = teacher(image)
        LeanTeacher().prepare(teacher, ['bbox_head'])
        found = teacher(image)
    for levels, own in zip(found, expected, strict=True):
        for level, its in zip(levels, own, strict=True):
            assert torch.allclose(level, its, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in teacher.neck.modules())


def test_a_model_whose_norm_comes_before_its_convolution_is_refused():
    class Preactivated(nn.Module):
        """conv, then the BatchNorm of its input: in the order of definition it looks foldable."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)
            self.norm.running_mean.fill_(1.0)

        def forward(self, x):
            return self.conv(self.norm(x))

    model = nn.Sequential(Preactivated()).eval()
    model.extract_feat = lambda x: (model(x),)
    with pytest.raises(ValueError, match='does not directly follow'):
        LeanTeacher().prepare(model, [])


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"'bfloat16' or 'float16'.*got 'int8'"):
        LeanTeacher(dtype='int8')


def test_a_recorder_inside_a_compiled_part_is_refused():
    teacher = MODELS.build(tiny_ssd()).eval()
    with pytest.raises(ValueError, match=r'"backbone\.layer1".*compile=False'):
        LeanTeacher(fold_bn=False, compile=True).prepare(teacher, ['backbone.layer1'])


def test_compiled_parts_are_called_through_the_recorders_hooks(monkeypatch):
    compiled = []

    def compile_(function):
        compiled.append(function.__self__)
        return function

    monkeypatch.setattr(torch, 'compile', compile_)
    teacher = MODELS.build(tiny_ssd()).eval()
    LeanTeacher(compile=True).prepare(teacher, ['bbox_head'])
    assert compiled == [teacher.backbone, teacher.neck]


def test_a_copy_of_the_pair_shares_the_teacher(teacher_ckpt):
    model, _ = terms(teacher_ckpt, lean_teacher={})
    assert copy.deepcopy(model).teacher is model.teacher


def test_a_cache_tells_a_lean_teacher_from_a_plain_one(teacher_ckpt):
    keys = [
        teacher_key(terms(teacher_ckpt, lean_teacher=lean)[0].teacher_source)
        for lean in (None, {}, dict(dtype='bfloat16'))
    ]
    assert len({key['teacher weights'] for key in keys}) == 3
