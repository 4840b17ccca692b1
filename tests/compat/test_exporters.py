"""torch's exporter and a linspace of one step."""

import io
import warnings

import numpy as np
import pytest
import torch

from mmkd.compat.exporters import constant_linspaces

onnxruntime = pytest.importorskip('onnxruntime', reason='of the extra "export"')
pytest.importorskip('onnx', reason='of the extra "export"')


class Points(torch.nn.Module):
    """As deformable attention has them: from the size of a level as a tensor."""

    def forward(self, level):
        size = torch._shape_as_tensor(level)
        ends = [torch.linspace(0.5, side - 0.5, side, dtype=torch.float32) for side in size]
        return level + torch.cat(ends).sum()


def found(size: tuple[int, int]) -> np.ndarray:
    content, level = io.BytesIO(), torch.zeros(size)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(Points(), (level,), content, dynamo=False, input_names=['level'])
    session = onnxruntime.InferenceSession(content.getvalue())
    return session.run(None, {'level': level.numpy()})[0]


def test_torch_still_writes_nan():
    """Else the patch is no longer needed."""
    assert np.isnan(found((1, 4))).all()


@pytest.mark.parametrize('size', [(1, 4), (1, 1), (3, 2)])
def test_a_linspace_is_a_constant(size):
    with constant_linspaces():
        np.testing.assert_allclose(found(size), Points()(torch.zeros(size)).numpy())
    assert torch.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
