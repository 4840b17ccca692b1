"""No statistic is ever taken for a term, whatever the names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd.losses.log_keys import BALANCE, WEIGHT, is_term, statistic_key

WORDS = st.lists(st.sampled_from(['loss', '_', 'lo', 'ss', 's', 'kd', 'Loss']), max_size=6)


@given(WORDS.map(''.join), WORDS.map(''.join))
def test_a_statistic_is_no_term(name, part):
    assert not is_term(statistic_key(name, part))


@pytest.mark.parametrize(
    ('name', 'part', 'key'),
    [
        ('loss_soft', 'mined', 'soft_mined'),
        ('kd_loss', WEIGHT, 'kd_weight'),
        ('kdloss', BALANCE, 'kd_balance'),
        ('loss_kd', 'loss', 'kd_value'),
        ('loss_box', 'loss_iou', 'box_iou'),
    ],
)
def test_the_name_comes_first_and_then_the_part(name, part, key):
    assert statistic_key(name, part) == key
