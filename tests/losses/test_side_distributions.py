"""Distributions of sides against loops, and of real heads against the boxes that they give."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmrazor.models.task_modules import RecorderManager

from mmkd.losses import SideDistributions
from tests.losses.contract import LossCase
from tests.losses.test_prediction_rows import rows
from tests.tiny import tiny_yolov5
from tests.zoo import small

BINS = 5


def bins(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, 8, 4, BINS, generator=generator, dtype=dtype)


def inputs(seed, logit=1.0):
    return dict(
        preds_S=bins(seed), preds_T=bins(seed + 100), rows_T=rows(seed + 100, 8, logit=logit)
    )


CASE = LossCase(
    build=SideDistributions,
    inputs=inputs,
    empty=lambda: inputs(0, logit=-9.0),
    faults=(
        (lambda i: i | {'preds_S': bins(0)[0]}, 'preds_S must be distributions'),
        (lambda i: i | {'preds_T': [bins(0)]}, 'preds_T must be distributions'),
        (lambda i: i | {'preds_T': bins(0)[..., 1:]}, 'as many bins for each side'),
        (lambda i: i | {'preds_S': bins(0)[:, 1:]}, 'must have the same priors'),
        (lambda i: i | {'rows_T': rows(0, 7)}, 'rows_T must be the teacher'),
        (lambda i: i | {'rows_T': bins(0)}, 'rows_T must be the teacher'),
        (lambda i: i | {'regions': torch.ones(2, 8, 2)}, "need the student's rows"),
        (lambda i: i | {'regions': torch.ones(2, 7, 2), 'rows_S': rows(0, 8)}, r'got \(2, 7, 2\)'),
    ),
    log_keys=('taught',),
)


def by_loops(S, T, rows_T, tau, score_thr):
    total, whole, taught = 0.0, 0.0, 0
    for b in range(2):
        for i in range(8):
            weight = max(rows_T.log_prob[b, i].exp().tolist())
            if weight < score_thr or (rows_T.valid is not None and not rows_T.valid[b, i]):
                continue
            whole, taught = whole + weight, taught + 1
            for side in range(4):
                s, t = ([v / tau for v in of[b, i, side].tolist()] for of in (S, T))
                log_s, log_t = (
                    [v - math.log(sum(map(math.exp, values))) for v in values] for values in (s, t)
                )
                pairs = zip(log_s, log_t, strict=True)
                total += weight * sum(math.exp(q) * (q - p) for p, q in pairs) * tau**2 / 4
    return total / max(whole, 1), taught / 16


@given(st.integers(0, 10**6), st.floats(0.5, 10), st.floats(0, 0.9), st.booleans())
@settings(max_examples=30)
def test_equals_the_oracle(seed, tau, score_thr, some_valid):
    valid = torch.rand(2, 8, generator=torch.Generator().manual_seed(seed)) > 0.3
    found = replace(rows(seed, 8, logit=1.0), valid=valid if some_valid else None)
    S, T = bins(seed, torch.float64), bins(seed + 1, torch.float64)
    loss = SideDistributions(temperature=tau, score_thr=score_thr)
    expected, taught = by_loops(S, T, found, tau, score_thr)
    assert loss(S, T, found).item() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert loss.logs['taught'].item() == pytest.approx(taught)


def test_gradcheck():
    T, found = bins(1, torch.float64), rows(1, 8, logit=1.0)
    loss = SideDistributions()
    own = bins(0, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda own: loss(own, T, found), own)


def heads():
    yield 'gfl', small('gfl')
    for name, head in (
        ('yolov8', dict(type='YOLOv8Head', head_module=dict(type='YOLOv8HeadModule', reg_max=8))),
        (
            'ppyoloe',
            dict(type='PPYOLOEHead', head_module=dict(type='PPYOLOEHeadModule', reg_max=8)),
        ),
    ):
        config = ConfigDict(tiny_yolov5(), _scope_='mmyolo')
        module = config.bbox_head.head_module
        head['head_module'].update({k: v for k, v in module.items() if k != 'type'})
        config.bbox_head = ConfigDict(head)
        yield name, config


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('name', ['gfl', 'yolov8', 'ppyoloe'])
def test_their_means_are_the_boxes(name, training):
    if name != 'gfl':
        pytest.importorskip('mmyolo')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(dict(heads())[name])
    for parameter in model.bbox_head.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.1)
    model.train(training)
    recorders = dict(sides=dict(type='Distributions'), rows=dict(type='Predictions'))
    manager = RecorderManager(recorders)
    manager.initialize(model)
    with manager:
        model.bbox_head(model.extract_feat(torch.randn(2, 3, 64, 64)))
    bins, found = (manager.get_recorder(name).get_record_data() for name in recorders)
    modes = {m.training for m in model.bbox_head.modules()}
    assert modes == {training}, 'each module keeps its mode'
    count = bins.size(-1)
    assert bins.shape == (*found.boxes.shape, count) and count > 5
    sides = bins.softmax(-1) @ torch.arange(count).to(bins)
    centre, stride = found.priors.split(2, dim=-1)
    sides = sides * stride.repeat(1, 2)
    boxes = torch.cat([centre - sides[..., :2], centre + sides[..., 2:]], -1)
    torch.testing.assert_close(boxes, found.boxes, rtol=1e-4, atol=1e-3)


def test_other_heads_are_refused():
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(small('atss'))
    with pytest.raises(ValueError, match=r'means of distributions.*is ATSSHead'):
        RecorderManager(dict(sides=dict(type='Distributions'))).initialize(model)
