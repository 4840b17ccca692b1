"""Heads of all kinds as graphs: each of the readable ones is exported, or refused by name."""

import os

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import DefaultScope
from torch import nn

from mmkd.algorithms.build_detector import build_detector
from mmkd.export.not_exportable import NotExportableError
from mmkd.export.onnx_file import graph_bytes
from mmkd.export.parity import row_errors
from mmkd.export.reference import Reference
from mmkd.export.rows_graph import RowsGraph, exported_head
from tests.heads import dense_cases
from tests.heads.dense_cases import CASES, build
from tests.zoo import small

#: Heads with a convolution whose op mmcv has compiled alone.
_COMPILED = (
    *('TOODHead', 'VFNetHead', 'FoveaHead', 'RepPointsHead', 'DDODHead', 'NASFCOSHead'),
    *('GARPNHead', 'GARetinaHead', 'GuidedAnchorHead'),
)
DEFORMABLE = {name for name in CASES if name.split()[0] in _COMPILED}
EXPORTED = sorted(set(CASES) - DEFORMABLE)


class Detector(nn.Module):
    """A head on the levels of an image, without more."""

    def __init__(self, head, sizes) -> None:
        super().__init__()
        from mmdet.models import DetDataPreprocessor

        self.data_preprocessor = DetDataPreprocessor(
            mean=[120, 110, 100], std=[60, 55, 50], bgr_to_rgb=True
        )
        self.bbox_head = head
        self.sizes = sizes
        torch.manual_seed(0)
        self.mix = nn.Conv2d(3, 8, 1)

    def extract_feat(self, image):
        features = self.mix(image)
        return tuple(nn.functional.adaptive_avg_pool2d(features, size) for size in self.sizes)


SIZE = (64, 48)
THOROUGH = os.environ.get('HYPOTHESIS_PROFILE') == 'thorough'


def rows_of(model):
    """The graph's rows for a batch of three, exported with one of two; and PyTorch's."""
    graph = RowsGraph(model, SIZE).eval()
    content = graph_bytes(graph, dict(preprocessing=dict(input='uint8')))
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    images = np.random.default_rng(1).integers(0, 256, (3, 3, *SIZE), dtype=np.uint8)
    return Reference(model, 'mmdet', SIZE).rows(images), session.run(None, {'image': images})


def opened(name):
    """The detector around a head of mmdet (a name of CASES) or MMYOLO ('mmyolo.' before it)."""
    if name.startswith('mmyolo.'):
        from tests.heads import test_yolo

        head = test_yolo.build(name.removeprefix('mmyolo.'))
        return Detector(head, dense_cases.SIZES)
    return Detector(build(CASES[name], name), CASES[name].sizes)


def yolo_heads() -> list[str]:
    try:
        from tests.heads import test_yolo
    except pytest.skip.Exception:  # MMYOLO is not installed
        return []
    return [f'mmyolo.{name}' for name in test_yolo.CASES]


#: One head for each reader and each coder; the property below tries all.
CHOSEN = (
    *('SSDHead', 'RetinaHead', 'FSAFHead', 'PAAHead', 'GFLHead', 'FCOSHead', 'AutoAssignHead'),
    *('CenterNetUpdateHead', 'SABLRetinaHead', 'RTMDetSepBNHead', 'YOLOFHead', 'YOLOXHead'),
    *('YOLOV3Head', 'CenterNetHead'),
    *('mmyolo.YOLOv5Head', 'mmyolo.YOLOv6Head', 'mmyolo.YOLOv8Head', 'mmyolo.PPYOLOEHead'),
)
KNOWN = [*EXPORTED, *yolo_heads()]


@pytest.mark.parametrize('name', [name for name in KNOWN if name in CHOSEN])
def test_a_head_with_random_weights_keeps_its_rows(name):
    """Step 1 of the check, for a batch of another size than the graph was made with."""
    own, outputs = rows_of(opened(name))
    errors = row_errors(own, outputs, SIZE)
    assert own.scores.shape[0] == 3 and own.scores.std() > 1e-3
    assert errors['score'] <= 1e-4 and errors['box_of_tolerance'] <= 1, errors


@pytest.mark.parametrize('name', sorted(DEFORMABLE))
def test_a_head_with_a_compiled_op_is_refused_by_name(name):
    with pytest.raises(NotExportableError, match=f'{name.split()[0]} runs mmcv'):
        rows_of(opened(name))


@settings(max_examples=max(4, settings().max_examples // 10) if THOROUGH else 4)
@given(
    name=st.sampled_from(KNOWN),
    seed=st.integers(0, 2**16),
    spread=st.floats(0.05, 0.2),
)
def test_random_heads_keep_their_rows(name, seed, spread):
    model = opened(name)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0, spread)
    errors = row_errors(*rows_of(model), SIZE)
    assert errors['score'] <= 1e-4 and errors['box_of_tolerance'] <= 1, errors


def detector(name):
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_detector(small(name)).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0, 0.05)
    return model


DETRS = ('detr', 'conditional_detr', 'dab_detr', 'deformable_detr', 'dino')


@pytest.mark.parametrize('name', DETRS if THOROUGH else ('detr', 'dino'))
def test_a_detr_keeps_its_rows(name):
    """Of deformable attention there is a level of one cell, too."""
    own, outputs = rows_of(detector(name))
    errors = row_errors(own, outputs, SIZE)
    assert own.scores.std() > 1e-3 and errors['score'] <= 1e-4, errors
    assert errors['box_of_tolerance'] <= 1


def test_a_detector_that_needs_float32_is_refused_by_name_with_half():
    """A DETR makes its queries in float32."""
    graph = RowsGraph(detector('detr'), SIZE, half=True).eval()
    with pytest.raises(NotExportableError, match=r'DETR with DETRHead does not: .* without'):
        graph_bytes(graph, dict(preprocessing=dict(input='uint8')))


def test_what_has_no_graph_is_refused_by_name():
    class RoIHead(nn.Module):
        pass

    with pytest.raises(NotExportableError, match='a bbox_head, but Module has none'):
        exported_head(nn.Module())
    unknown = nn.Module()
    unknown.bbox_head = RoIHead()
    with pytest.raises(NotExportableError, match=r'RoIHead cannot be exported: mmkd\.heads has no'):
        exported_head(unknown)
