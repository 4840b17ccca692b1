import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmrazor.registry import MODELS
from torch.nn import functional as F

from mmkd.losses import WeightedSoftCls
from mmkd.losses.weighted_soft_cls import mine
from tests.losses.contract import LossCase, shape_faults
from tests.losses.ssd_inputs import NUM_CLASSES, maps, rows, targets

WIDTH = NUM_CLASSES + 1


def inputs(seed, share=0.2, ignored=0.0, dtype=torch.float32):
    student = maps(seed, WIDTH, 2.0, dtype=dtype)
    teacher = maps(seed + 100, WIDTH, 2.0, dtype=dtype)
    assigned = targets(seed, share, ignored=ignored, dtype=dtype)
    return {'preds_S': student, 'preds_T': teacher, 'targets': assigned}


def one_channel(inputs):
    return inputs | {'preds_S': maps(0, 1), 'preds_T': maps(1, 1)}


CASE = LossCase(
    build=WeightedSoftCls,
    inputs=inputs,
    empty=lambda: inputs(0, share=0),
    zero_at_equal=True,
    non_negative={'bg_weight': 1.0},
    log_keys=('mined',),
    faults=(
        *shape_faults('must agree in classes and priors', r'must be a \(B, C, H, W\) map'),
        (one_channel, r'must hold C \+ 1 >= 2 channels for each prior'),
    ),
)


def softmax(row):
    top = max(row)
    exps = [math.exp(v - top) for v in row]
    return [e / sum(exps) for e in exps]


def oracle(preds_S, preds_T, targets, temperature, bg_weight, fg_weight, ratio, log_eps=None):
    """The equation in plain loops, float64; mining by sorting each image's negatives."""
    labels, label_weights, _, _, num_pos = targets
    eps = log_eps or 0.0
    total = 0.0
    for i in range(preds_S[0].size(0)):
        label = [c for level in labels for c in level[i].tolist()]
        weight = [w for level in label_weights for w in level[i].tolist()]
        student = [row.tolist() for row in rows(preds_S, WIDTH, i)]
        teacher = [row.tolist() for row in rows(preds_T, WIDTH, i)]
        positives = [p for p, c in enumerate(label) if c < NUM_CLASSES]
        negatives = [p for p, c in enumerate(label) if c == NUM_CLASSES and weight[p] > 0]
        negatives.sort(key=lambda p: -weight[p] * -math.log(softmax(student[p])[-1]))
        for p in positives + negatives[: int(ratio * len(positives))]:
            prob_S = softmax([v / temperature for v in student[p]])
            prob_T = softmax([v / temperature for v in teacher[p]])
            for c in range(WIDTH):
                w = bg_weight if c == NUM_CLASSES else fg_weight
                total += w * prob_T[c] * (math.log(prob_T[c] + eps) - math.log(prob_S[c] + eps))
    return temperature**2 * total / max(num_pos, 1)


@pytest.mark.parametrize('log_eps', [None, 1e-3])
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 0.5),
    ignored=st.sampled_from([0.0, 0.3]),
    temperature=st.floats(0.5, 8),
    ratio=st.sampled_from([0, 1, 2.5, 3]),
)
@settings(max_examples=15, deadline=None)
def test_equals_the_oracle(log_eps, seed, share, ignored, temperature, ratio):
    data = inputs(seed, share, ignored, torch.float64)
    loss = WeightedSoftCls(temperature, 1.5, 0.8, ratio, loss_weight=1.0, log_eps=log_eps)
    expected = oracle(
        **data, temperature=temperature, bg_weight=1.5, fg_weight=0.8, ratio=ratio, log_eps=log_eps
    )
    assert loss(**data).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize('log_eps', [None, 1e-3])
def test_gradcheck(log_eps):
    data = inputs(3, 0.3, dtype=torch.float64)
    loss = WeightedSoftCls(temperature=2.0, log_eps=log_eps)

    def by_levels(*levels):
        return loss(list(levels), data['preds_T'], data['targets'])

    leaves = [level.requires_grad_() for level in data['preds_S']]
    assert torch.autograd.gradcheck(by_levels, leaves)


def test_by_hand():
    # One image, 1 x 3 cells, 1 anchor, C = 1; tau = 1; the first prior is positive, so one
    # negative is mined at ratio 1. The student's logits (fg, bg) are (0, 0) for the positive,
    # (0, ln 3) and (ln 3, 0) for the negatives: background probabilities 3/4 and 1/4, so the
    # third is harder and mined. The teacher says (3/4, 1/4) for the positive, (1/4, 3/4) for the
    # others. With bg 2 and fg 1:
    #   positive: 1 * 3/4 * ln((3/4) / (1/2)) + 2 * 1/4 * ln((1/4) / (1/2)) = -0.042475
    #   mined:    1 * 1/4 * ln((1/4) / (3/4)) + 2 * 3/4 * ln((3/4) / (1/4)) =  1.373265
    # sum 1.330790, N_pos = 1
    ln3 = math.log(3)
    student = torch.tensor([[0.0, 0.0, ln3], [0.0, ln3, 0.0]]).view(1, 2, 1, 3)
    teacher = torch.tensor([[ln3, 0.0, 0.0], [0.0, ln3, ln3]]).view(1, 2, 1, 3)
    boxes = [torch.zeros(1, 3, 4)]
    data = ([torch.tensor([[0, 1, 1]])], [torch.ones(1, 3)], boxes, boxes, 1)
    loss = WeightedSoftCls(bg_weight=2.0, neg_pos_ratio=1, loss_weight=1.0)
    assert loss(student, teacher, data).item() == pytest.approx(1.330790, abs=2e-6)
    assert loss.logs['mined'] == 2


def test_is_kldiv_sum_with_equal_weights():
    data = inputs(1, 1.0)  # every prior positive, so all are in M
    tau = 3.0
    loss = WeightedSoftCls(tau, 1.0, 1.0, loss_weight=1.0)
    rows_S, rows_T = (
        torch.stack([row for i in range(2) for row in rows(data[key], WIDTH, i)]) / tau
        for key in ('preds_S', 'preds_T')
    )
    kl = F.kl_div(rows_S.log_softmax(-1), rows_T.softmax(-1), reduction='sum')
    expected = kl * tau**2 / data['targets'][4]
    assert loss(**data).item() == pytest.approx(expected.item(), rel=1e-5)


def mmdet_mined_ce(head, preds, targets):
    """SSDHead's own classification loss of the batch."""
    labels, label_weights, boxes, box_weights = (torch.cat(part, 1) for part in targets[:4])
    losses = 0
    for i in range(labels.size(0)):
        scores = torch.stack(rows(preds, WIDTH, i))
        out = head.loss_by_feat_single(
            scores, boxes[i], boxes[i], labels[i], label_weights[i], boxes[i], box_weights[i], 1
        )
        losses = losses + out[0]
    return losses.sum()


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), ignored=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_mined_set_is_that_of_mmdet(seed, share, ignored):
    from mmdet.models.dense_heads import SSDHead

    head = SSDHead.__new__(SSDHead)
    torch.nn.Module.__init__(head)
    head.num_classes = NUM_CLASSES
    head.train_cfg = {'neg_pos_ratio': 3, 'smoothl1_beta': 1.0}
    head.reg_decoded_bbox = False

    data = inputs(seed, share, ignored)
    labels, label_weights = (torch.cat(part, 1) for part in data['targets'][:2])
    scores = torch.stack([torch.stack(rows(data['preds_S'], WIDTH, i)) for i in range(2)])
    ce = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction='none').view(2, -1)
    ce = ce * label_weights
    positive = labels < NUM_CLASSES
    mined = mine(ce, positive, ~positive & (label_weights > 0), 3)
    expected = mmdet_mined_ce(head, data['preds_S'], data['targets'])
    assert (ce * mined).sum().item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)


def test_mining_counts_per_image():
    positive = torch.tensor([[True, False, False, False], [False] * 4, [True] * 4])
    hardness = torch.tensor([[0.0, 1, 2, 3]] * 3)
    mined = mine(hardness, positive, ~positive, 2)
    assert mined.tolist() == [[True, False, True, True], [False] * 4, [True] * 4]


def test_confident_logits_stay_finite():
    data = inputs(0, 0.5)
    data['preds_S'] = [200 * level for level in data['preds_S']]
    data['preds_T'] = [200 * level for level in data['preds_T']]
    data['preds_S'] = [level.requires_grad_() for level in data['preds_S']]
    value = WeightedSoftCls()(**data)
    value.backward()
    assert value.isfinite()
    assert all(level.grad.isfinite().all() for level in data['preds_S'])


@pytest.mark.parametrize('temperature', [0, -1.0])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match='temperature must be positive'):
        WeightedSoftCls(temperature=temperature)


def test_is_built_from_a_config():
    loss = MODELS.build({'type': 'WeightedSoftCls', 'temperature': 2.0})
    assert loss.temperature == 2.0
