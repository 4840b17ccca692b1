"""Whose keys a file has: a detector's own under any wrapper, and state that is no weight."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.model import ExponentialMovingAverage

from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.checkpoints.state_keys import averaged_twins, normalisation, student_state_dict
from tests.tiny import tiny_pair, tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')

WRAPPERS = st.lists(
    st.sampled_from(['module.', '_orig_mod.', 'architecture.', 'student.']), max_size=4
)


@given(WRAPPERS, st.booleans())
def test_wrappers_come_off_in_any_order(wrappers, beside):
    plain = {'backbone.conv1.weight': torch.ones(1), 'bbox_head.bias': torch.zeros(1)}
    wrapped = dict(plain)
    for prefix in wrappers:
        wrapped = {prefix + key: value for key, value in wrapped.items()}
        if prefix in ('architecture.', 'student.') and beside:
            wrapped['connectors.a.weight'] = torch.ones(2)
    assert student_state_dict(wrapped) == plain


def test_a_part_that_was_compiled():
    found = student_state_dict({'backbone._orig_mod.conv1.weight': 1, 'neck.conv.weight': 2})
    assert found == {'backbone.conv1.weight': 1, 'neck.conv.weight': 2}


def test_what_only_looks_like_a_wrapper_stays():
    """One key with ``module.`` among others is a part of the model; so is ``ema_...`` alone."""
    plain = {'module.weight': 1, 'head.weight': 2, 'ema_other_weight': 3, 'pixel_mean_scale': 4}
    assert student_state_dict(plain) == plain
    assert averaged_twins(plain) == []
    state = {
        'backbone.norm.mean': torch.zeros(3),
        'mean': torch.zeros(3),
        'data_preprocessor.mean': torch.zeros(3),
        'preprocessor.conv.std': torch.zeros(3),
    }
    assert normalisation(state, []) == {'data_preprocessor.mean': 'mean'}
    assert normalisation(state, ['data_preprocessor.mean']) == {}


def load(tmp_path, checkpoint, caplog=None, **changes):
    """Load a file into a tiny SSD; the model, what was loaded, and the log."""
    torch.save(checkpoint, tmp_path / 'file.pth')
    model = MODELS.build({**tiny_ssd(), **changes})
    loaded = load_detector(model, str(tmp_path / 'file.pth'), 'checkpoint')
    return model, loaded


@pytest.fixture
def weights():
    torch.manual_seed(3)
    return MODELS.build(tiny_ssd()).state_dict()


def same(model, weights) -> bool:
    return all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


def test_averaged_weights_alone(tmp_path, weights, logged):
    model = MODELS.build(tiny_ssd())
    model.load_state_dict(weights)
    averaged = ExponentialMovingAverage(model, update_buffers=True).state_dict()
    assert 'steps' in averaged and 'module.backbone.conv1.weight' in averaged
    for checkpoint in (averaged, dict(ema_state_dict=averaged), dict(ema=averaged)):
        if 'ema' in checkpoint:
            with pytest.raises(ValueError, match='no tensors'):
                load(tmp_path, checkpoint)
            continue
        loaded, record = load(tmp_path, checkpoint)
        assert same(loaded, weights) and record.share == 1.0
    assert 'averaged weights (ema_state_dict) are taken' in logged()


def test_of_both_the_evaluated_ones_are_taken(tmp_path, weights, logged):
    other = {f'module.{key}': torch.zeros_like(value) for key, value in weights.items()}
    loaded, _ = load(tmp_path, dict(state_dict=weights, ema_state_dict=other))
    assert same(loaded, weights)
    assert 'state_dict is taken; ema_state_dict is left out' in logged()


def test_twins_of_mmdet_2(tmp_path, weights, logged):
    twins = {'ema_' + k.replace('.', '_'): torch.full_like(v, 9) for k, v in weights.items()}
    loaded, record = load(tmp_path, dict(state_dict={**weights, **twins}))
    assert same(loaded, weights) and record.fit == record.total == len(weights)
    assert "twins that mmdet 2.x's EMA keeps: ema_backbone_conv1_weight" in logged()
    with pytest.raises(ValueError, match='1 unexpected: ema_other_weight'):
        load(tmp_path, dict(state_dict={**weights, 'ema_other_weight': torch.ones(1)}))


@pytest.mark.parametrize(
    'names', [('data_preprocessor.mean', 'data_preprocessor.std'), ('pixel_mean', 'pixel_std')]
)
def test_normalisation_among_the_weights(tmp_path, weights, names, logged):
    mean, std = torch.tensor([120.0, 110, 100]), torch.tensor([58.0] * 3)
    state = {**weights, names[0]: mean.view(3, 1, 1), names[1]: std.view(3, 1, 1)}
    loaded, record = load(tmp_path, dict(state_dict=state))
    assert same(loaded, weights) and record.share == 1.0 and not record.differences
    assert f'left out as settings, not weights: {", ".join(names)}' in logged()
    state[names[1]] = torch.ones(3)
    with pytest.raises(ValueError, match=r'std=\[58\.0, 58\.0, 58\.0\].*with \[1\.0, 1\.0, 1\.0\]'):
        load(tmp_path, dict(state_dict=state))
    for nothing in (torch.zeros(3), torch.full((3,), float('nan')), torch.zeros(0)):
        loaded, _ = load(tmp_path, dict(state_dict={**state, names[1]: nothing}))
        assert same(loaded, weights)


def test_a_distillation_with_averaged_weights(tmp_path):
    pair = MODELS.build(ConfigDict(tiny_pair()))
    averaged = ExponentialMovingAverage(pair, update_buffers=True).state_dict()
    loaded, record = load(tmp_path, dict(ema_state_dict=averaged))
    assert same(loaded, pair.student.state_dict()) and record.share == 1.0


def test_remedies_name_keys_that_exist(tmp_path, weights):
    """``checkpoint_strict`` is none: tools/test.py loads strictly."""
    del weights['backbone.conv1.weight']
    with pytest.raises(ValueError, match=r'1 missing: backbone\.conv1\.weight') as error:
        load(tmp_path, dict(state_dict=weights))
    assert '_strict' not in str(error.value)
    path = str(tmp_path / 'file.pth')
    with pytest.raises(ValueError, match='set teacher_ckpt_strict=False'):
        MODELS.build(ConfigDict(tiny_pair(teacher=tiny_ssd(), teacher_ckpt=path)))
