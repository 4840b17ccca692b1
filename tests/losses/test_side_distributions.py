"""Distributions of sides against loops, and of real heads against the boxes that they give."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmrazor.models.task_modules import RecorderManager

from mmkd.heads.distributions import Distributions
from mmkd.losses import SideDistributions
from tests.losses.contract import LossCase
from tests.losses.test_disagreement_rows import GRID, hidden, on_grid
from tests.tiny import tiny_yolov5
from tests.zoo import small

BINS = 5


def bins(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(2, 8, 4, BINS, generator=generator, dtype=dtype)


def student(seed):
    """Its scores teach nothing and get no gradient: the contract does not see them."""
    return Distributions(bins(seed), SimpleNamespace(priors=GRID, valid=None))


def teacher(seed, logit=1.0):
    return Distributions(bins(seed), hidden(seed, logit=logit))


CASE = LossCase(
    build=SideDistributions,
    inputs=lambda seed: dict(preds_S=student(seed), preds_T=teacher(seed + 100)),
    empty=lambda: dict(preds_S=student(0), preds_T=teacher(1, logit=-9.0)),
    faults=(
        (lambda i: i | {'preds_S': bins(0)}, 'preds_S must be Distributions'),
        (lambda i: i | {'preds_T': bins(0)}, 'preds_T must be Distributions'),
        (
            lambda i: i | {'preds_T': replace(i['preds_T'], bins=bins(0)[..., 1:])},
            'as many bins for each side',
        ),
        (
            lambda i: (
                i | {'preds_T': replace(i['preds_T'], rows=replace(on_grid(0), priors=GRID + 1))}
            ),
            'must have the same priors',
        ),
    ),
    zero_at_equal=False,  # see below: the student's record lacks scores here
    log_keys=('taught',),
)


def by_loops(S, T, tau, score_thr):
    total, whole, taught = 0.0, 0.0, 0
    for b in range(2):
        for i in range(8):
            weight = max(T.rows.log_prob[b, i].exp().tolist())
            if weight < score_thr or any(
                r.valid is not None and not r.valid[b, i] for r in (S.rows, T.rows)
            ):
                continue
            whole, taught = whole + weight, taught + 1
            for side in range(4):
                s, t = ([v / tau for v in d.bins[b, i, side].tolist()] for d in (S, T))
                log_s, log_t = (
                    [v - math.log(sum(map(math.exp, values))) for v in values] for values in (s, t)
                )
                pairs = zip(log_s, log_t, strict=True)
                total += weight * sum(math.exp(q) * (q - p) for p, q in pairs) * tau**2 / 4
    return total / max(whole, 1), taught / 16


@given(st.integers(0, 10**6), st.floats(0.5, 10), st.floats(0, 0.9), st.booleans())
@settings(max_examples=30)
def test_equals_the_oracle(seed, tau, score_thr, some_valid):
    masks = torch.rand(2, 2, 8, generator=torch.Generator().manual_seed(seed)) > 0.3
    S, T = (
        Distributions(
            bins(seed + k, torch.float64),
            on_grid(seed + k, masks[k] if some_valid else None, logit=1.0),
        )
        for k in (0, 1)
    )
    loss = SideDistributions(temperature=tau, score_thr=score_thr)
    expected, taught = by_loops(S, T, tau, score_thr)
    assert loss(S, T).item() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert loss.logs['taught'].item() == pytest.approx(taught)
    assert loss(Distributions(T.bins, S.rows), T).item() == pytest.approx(0, abs=1e-6)


def test_gradcheck():
    T = Distributions(bins(1, torch.float64), on_grid(1, double=True, logit=1.0))
    rows = on_grid(0)

    def by_bins(own):
        return SideDistributions()(Distributions(own, rows), T)

    assert torch.autograd.gradcheck(by_bins, bins(0, torch.float64).requires_grad_())


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
    manager = RecorderManager(dict(sides=dict(type='Distributions')))
    manager.initialize(model)
    with manager:
        model.bbox_head(model.extract_feat(torch.randn(2, 3, 64, 64)))
    found = manager.get_recorder('sides').get_record_data()
    modes = {m.training for m in model.bbox_head.modules()}
    assert modes == {training}, 'each module keeps its mode'
    count = found.bins.size(-1)
    assert found.bins.shape == (*found.rows.boxes.shape, count) and count > 5
    sides = found.bins.softmax(-1) @ torch.arange(count).to(found.bins)
    centre, stride = found.rows.priors.split(2, dim=-1)
    sides = sides * stride.repeat(1, 2)
    boxes = torch.cat([centre - sides[..., :2], centre + sides[..., 2:]], -1)
    torch.testing.assert_close(boxes, found.rows.boxes, rtol=1e-4, atol=1e-3)


def test_other_heads_are_refused():
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(small('atss'))
    with pytest.raises(ValueError, match=r'means of distributions.*is ATSSHead'):
        RecorderManager(dict(sides=dict(type='Distributions'))).initialize(model)
