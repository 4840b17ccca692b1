import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.connectors import FeatureAdapter
from mmkd.losses import FineGrainedImitation
from tests.losses.contract import LossCase, shape_faults

SIZES = ((4, 6), (2, 3))
CHANNELS = 5


def inputs(seed, share=0.4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)

    def maps(channels):
        return [torch.randn(2, channels, *s, generator=generator, dtype=dtype) for s in SIZES]

    mask = [torch.rand(2, 1, *s, generator=generator) < share for s in SIZES]
    return {
        'preds_S': maps(CHANNELS),
        'preds_T': maps(CHANNELS),
        'mask': [m.float() for m in mask],
    }


def mask_of_one_level(inputs):
    return inputs | {'mask': inputs['mask'][0]}


def mask_without_channel(inputs):
    return inputs | {'mask': [m[:, 0] for m in inputs['mask']]}


def wide_mask(inputs):
    return inputs | {'mask': [m.expand(-1, CHANNELS, -1, -1) for m in inputs['mask']]}


CASE = LossCase(
    build=FineGrainedImitation,
    inputs=inputs,
    empty=lambda: inputs(0, share=0),
    log_keys=('coverage',),
    faults=(
        *shape_faults('must agree in channels and strides', r'must be a \(B, C, H, W\) map'),
        (mask_of_one_level, r'mask must hold one \(B, 1, H, W\) for each'),
        (mask_without_channel, r'mask must be a \(B, C, H, W\) map'),
        (wide_mask, r'mask must hold one \(B, 1, H, W\) for each'),
    ),
)


def oracle(preds_S, preds_T, mask, normalizer):
    """The equation in plain loops, float64."""
    total, cells = 0.0, 0
    for s, t, m in zip(preds_S, preds_T, mask, strict=True):
        for i in range(m.size(0)):
            for y in range(m.size(2)):
                for x in range(m.size(3)):
                    if m[i, 0, y, x] == 1:
                        cells += 1
                        for c in range(s.size(1)):
                            total += (s[i, c, y, x].item() - t[i, c, y, x].item()) ** 2
    return total / (2 * max(cells, 1)) / (CHANNELS if normalizer == '2NC' else 1)


def weighted(data, seed):
    """The mask's cells with weights from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    masks = [m * torch.rand(m.shape, generator=generator) for m in data['mask']]
    return data | {'mask': masks}


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_weights_and_the_form_of_ultralytics(seed):
    data = weighted(inputs(seed, dtype=torch.float64), seed)
    total, whole, levels = 0.0, 0.0, 0.0
    for s, t, m in zip(*data.values(), strict=True):
        level = 0.0
        for i in range(m.size(0)):
            for y in range(m.size(2)):
                for x in range(m.size(3)):
                    for c in range(CHANNELS):
                        level += float(m[i, 0, y, x] * (s[i, c, y, x] - t[i, c, y, x]) ** 2)
        total, whole = total + level, whole + float(m.sum())
        levels += level / (CHANNELS * float(m.sum()) + 1e-9)
    loss = FineGrainedImitation(loss_weight=1.0)
    assert loss(**data).item() == pytest.approx(total / (2 * max(whole, 1)), rel=1e-6)
    cells = sum(m.numel() for m in data['mask'])
    assert loss.logs['coverage'].item() == pytest.approx(whole / cells)
    theirs = FineGrainedImitation(loss_weight=6.0, normalizer='ultralytics')
    assert theirs(**data).item() == pytest.approx(6.0 * 2 * levels, rel=1e-6)
    nothing = data | {'mask': [m * 0 for m in data['mask']]}
    assert theirs(**nothing).item() == 0


@pytest.mark.parametrize('normalizer', ['2N', '2NC'])
@given(seed=st.integers(0, 10**6), share=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_equals_the_oracle(normalizer, seed, share):
    data = inputs(seed, share, torch.float64)
    value = FineGrainedImitation(loss_weight=1.0, normalizer=normalizer)(**data)
    assert value.item() == pytest.approx(oracle(**data, normalizer=normalizer), rel=1e-12)


@pytest.mark.parametrize('normalizer', ['2N', 'ultralytics'])
def test_gradcheck(normalizer):
    data = weighted(inputs(0, dtype=torch.float64), 0)
    loss = FineGrainedImitation(loss_weight=1.0, normalizer=normalizer)

    def by_levels(*levels):
        return loss(list(levels), data['preds_T'], data['mask'])

    assert torch.autograd.gradcheck(by_levels, [s.requires_grad_() for s in data['preds_S']])


def test_by_hand():
    # 2 channels, 1 x 3 cells, cells 0 and 2 masked. Differences: cell 0 (1, 2), cell 1 (100, 100),
    # cell 2 (0, 3): (1 + 4 + 0 + 9) / (2 * 2) = 3.5, times 0.01. Two of three cells covered.
    student = torch.tensor([[1.0, 100.0, 0.0], [2.0, 100.0, 3.0]]).view(1, 2, 1, 3)
    mask = torch.tensor([1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    loss = FineGrainedImitation()
    assert loss(student, torch.zeros_like(student), mask).item() == pytest.approx(0.035)
    assert loss.logs['coverage'].item() == pytest.approx(2 / 3)
    mean = FineGrainedImitation(normalizer='2NC')
    assert mean(student, torch.zeros_like(student), mask).item() == pytest.approx(0.0175)


def test_no_masked_cell_reaches_the_adapter():
    adapter = FeatureAdapter(3, CHANNELS)
    student, teacher = torch.randn(2, 3, 4, 6), torch.randn(2, CHANNELS, 4, 6)
    value = FineGrainedImitation()(adapter(student), teacher, torch.zeros(2, 1, 4, 6))
    value.backward()
    assert value == 0
    assert all(p.grad is not None and not p.grad.any() for p in adapter.parameters())


def test_what_is_not_masked_may_be_anything():
    data = inputs(0)
    for s, m in zip(data['preds_S'], data['mask'], strict=True):
        s.masked_fill_(m == 0, float('inf'))
    assert FineGrainedImitation()(**data).isfinite()


def test_unknown_normalizer():
    with pytest.raises(ValueError, match="must be '2N', '2NC' or 'ultralytics', got 'N'"):
        FineGrainedImitation(normalizer='N')
