"""Plain feature distillation is made of existing parts: an adapter and MMRazor's L2Loss."""

import pytest
import torch
from mmrazor.models.losses import L2Loss
from torch.nn import functional as F

from mmkd.connectors import FeatureAdapter


def test_l2_loss_without_normalisation_is_the_mean_squared_error():
    adapter = FeatureAdapter(3, 5)
    student, teacher = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 4, 6)
    loss = L2Loss(loss_weight=0.1, normalize=False, div_element=True)
    expected = 0.1 * F.mse_loss(adapter(student), teacher)
    assert loss(adapter(student), teacher).item() == pytest.approx(expected.item(), rel=1e-6)
