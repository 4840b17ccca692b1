"""Boxes that no row can learn."""

import pytest
import torch

from mmkd.losses.functional.row_terms import weighted_giou

BOX, FAR = [0.0, 0.0, 8.0, 8.0], [float('-inf'), 0.0, float('inf'), 1e30]


@pytest.mark.parametrize(
    ('own', 'taught', 'weight'),
    [
        ([1.0, 0.0, 8.0, 8.0], FAR, 0.5),
        ([1.0, 0.0, 8.0, 8.0], [0.0, 0.0, 1e30, 1e30], 0.5),
        ([1.0, 0.0, 8.0, 8.0], [float('nan')] * 4, 0.5),
        (FAR, BOX, 0.0),
    ],
)
def test_a_pair_that_teaches_nothing_leaves_the_others_alone(own, taught, weight):
    """Neither in the value nor in the gradient."""
    rows = torch.tensor([[[1.0, 1.0, 8.0, 8.0], own]], requires_grad=True)
    value = weighted_giou(rows, torch.tensor([[BOX, taught]]), torch.tensor([[0.7, weight]]))
    value.backward()
    alone = rows.detach()[:, :1].requires_grad_()
    expected = weighted_giou(alone, torch.tensor([[BOX]]), torch.tensor([[0.7]]))
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(rows.grad[:, :1], alone.grad)
    assert not rows.grad[:, 1].any()
