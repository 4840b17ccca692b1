import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.losses import TeacherBoundedReg
from tests.losses.contract import LossCase, shape_faults
from tests.losses.ssd_inputs import NUM_CLASSES, maps, rows, targets


def inputs(seed, share=0.2, dtype=torch.float32):
    student, teacher = maps(seed, 4, dtype=dtype), maps(seed + 100, 4, dtype=dtype)
    return {'preds_S': student, 'preds_T': teacher, 'targets': targets(seed, share, dtype=dtype)}


def no_avg_factor(inputs):
    return inputs | {'targets': inputs['targets'][:4]}


def targets_of_one_level(inputs):
    return inputs | {'targets': (*([part[0]] for part in inputs['targets'][:4]), 3)}


def class_maps(inputs):
    return inputs | {'preds_S': maps(0, 8), 'preds_T': maps(1, 8)}


CASE = LossCase(
    build=TeacherBoundedReg,
    inputs=inputs,
    empty=lambda: inputs(0, share=0),
    zero_at_equal=True,  # the gate's > is strict, and the margin is 0
    log_keys=('active',),
    faults=(
        *shape_faults('must agree in priors', r'must be a \(B, C, H, W\) map'),
        (no_avg_factor, "must be what the head's `get_targets` returns"),
        (targets_of_one_level, r'must hold one \(B, P_level\) tensor per level'),
        (class_maps, 'must hold 4 channels for each prior'),
    ),
)


def oracle(preds_S, preds_T, targets, margin, gate):
    """The equation in plain loops, float64."""
    labels, _, boxes, _, num_pos = targets
    errors = []
    for i in range(preds_S[0].size(0)):
        label = [c for level in labels for c in level[i].tolist()]
        ground_truth = [g for level in boxes for g in level[i].tolist()]
        priors = zip(rows(preds_S, 4, i), rows(preds_T, 4, i), ground_truth, label, strict=True)
        for s, t, g, c in priors:
            if 0 <= c < NUM_CLASSES:
                errors.append(
                    tuple(
                        sum((a - b) ** 2 for a, b in zip(p.tolist(), g, strict=True))
                        for p in (s, t)
                    )
                )
    if gate == 'batch':
        whole = sum(s for s, _ in errors)
        total = whole if whole + margin > sum(t for _, t in errors) else 0.0
    else:
        total = sum(s for s, t in errors if s + margin > t)
    return total / max(num_pos, 1)


@pytest.mark.parametrize('gate', ['prior', 'batch'])
@pytest.mark.parametrize('margin', [0.0, 2.0])
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_equals_the_oracle(gate, margin, seed, share):
    data = inputs(seed, share, torch.float64)
    value = TeacherBoundedReg(margin, loss_weight=1.0, gate=gate)(**data)
    assert value.item() == pytest.approx(oracle(**data, margin=margin, gate=gate), rel=1e-12)


@pytest.mark.parametrize('gate', ['prior', 'batch'])
def test_gradcheck(gate):
    data = inputs(3, 0.5, torch.float64)
    loss = TeacherBoundedReg(gate=gate)

    def by_levels(*levels):
        return loss(list(levels), data['preds_T'], data['targets'])

    leaves = [level.requires_grad_() for level in data['preds_S']]
    assert torch.autograd.gradcheck(by_levels, leaves)


def test_by_hand():
    # One image, one level of 1 x 2 cells and 1 anchor; both priors positive, g = 0.
    # Prior 0: s = (1, 0, 0, 0), t = (2, 0, 0, 0): 1 > 4 is false; 1 + 3.5 > 4 is true.
    # Prior 1: s = (0, 3, 0, 0), t = (0, 0, 1, 0): 9 > 1 is true.
    # margin 0: 9 / 2 = 4.5, one of two active; margin 3.5: (1 + 9) / 2 = 5, both active.
    # gate='batch', margin 0: 1 + 9 > 4 + 1, so (1 + 9) / 2 = 5.
    student = torch.zeros(1, 4, 1, 2)
    teacher = torch.zeros(1, 4, 1, 2)
    student[0, 0, 0, 0], teacher[0, 0, 0, 0] = 1, 2
    student[0, 1, 0, 1], teacher[0, 2, 0, 1] = 3, 1
    labels = [torch.tensor([[0, 1]])]
    data = (labels, [torch.ones(1, 2)], [torch.zeros(1, 2, 4)], [torch.ones(1, 2, 4)], 2)
    loss = TeacherBoundedReg(loss_weight=1.0)
    assert loss(student, teacher, data) == 4.5
    assert loss.logs['active'] == 0.5
    loss = TeacherBoundedReg(margin=3.5, loss_weight=1.0)
    assert loss(student, teacher, data) == 5
    assert loss.logs['active'] == 1
    assert TeacherBoundedReg(loss_weight=1.0, gate='batch')(student, teacher, data) == 5
    assert TeacherBoundedReg()(student, teacher, data) == 2.25


def test_a_prior_that_beats_the_teacher_gets_no_gradient():
    data = inputs(0, 1.0)
    data['preds_S'] = [level.requires_grad_() for level in data['preds_S']]
    data['preds_T'] = [level + 100 for level in data['preds_T']]
    TeacherBoundedReg()(**data).backward()
    assert not any(level.grad.any() for level in data['preds_S'])


@pytest.mark.parametrize('num_pos', [0, torch.tensor(0), torch.tensor([0.0])])
def test_the_average_factor_is_at_least_one(num_pos):
    data = inputs(0, 0.5)
    ones = TeacherBoundedReg()(**data | {'targets': (*data['targets'][:4], 1)})
    value = TeacherBoundedReg()(**data | {'targets': (*data['targets'][:4], num_pos)})
    assert value == ones


def test_a_huge_error_elsewhere_does_no_harm():
    data = inputs(0, 0.2)
    boxes, weights = data['targets'][2:4]
    for box, weight in zip(boxes, weights, strict=True):
        box[weight == 0] = float('inf')
    data['preds_S'] = [level.requires_grad_() for level in data['preds_S']]
    value = TeacherBoundedReg()(**data)
    assert value.isfinite()


def test_unknown_gate():
    with pytest.raises(ValueError, match="gate must be 'prior' or 'batch', got 'image'"):
        TeacherBoundedReg(gate='image')
