"""Connectors that rearrange a head's maps: FlattenCls, SplitPredMaps, ReencodeBoxes."""

import pytest
import torch
from mmdet.models.dense_heads import YOLOV3Head
from mmrazor.registry import MODELS

from mmkd.connectors import FlattenCls, ReencodeBoxes, SplitPredMaps
from tests.losses.ssd_inputs import maps, rows


def test_flatten_cls_keeps_the_order_of_get_targets():
    levels = maps(0, 4)
    expected = torch.stack([row for image in range(2) for row in rows(levels, 4, image)])
    assert torch.equal(FlattenCls(4)(levels), expected)


def test_flatten_cls_refuses_other_channels():
    with pytest.raises(ValueError, match='multiple of cls_out_channels=5 channels'):
        FlattenCls(5)(maps(0, 4))


def test_split_pred_maps_reads_yolov3(mmdet_scope):
    head = YOLOV3Head(
        num_classes=2,
        in_channels=(8, 8, 8),
        out_channels=(8, 8, 8),
        train_cfg=None,
    ).eval()
    with torch.no_grad():
        out = head([torch.randn(1, 8, n, n) for n in (1, 2, 4)])
    scores, boxes, objectness = SplitPredMaps(2)(out)
    first = out[0][2].view(1, 3, 7, 4, 4)  # anchor-major: x, y, w, h, objectness, classes
    assert torch.equal(boxes[2].view(1, 3, 4, 4, 4), first[:, :, :4])
    assert torch.equal(objectness[2], first[:, :, 4])
    assert torch.equal(scores[2].view(1, 3, 2, 4, 4), first[:, :, 5:])


def test_split_pred_maps_refuses_other_channels():
    with pytest.raises(ValueError, match=r'multiple of 5 \+ num_classes = 8 channels'):
        SplitPredMaps(3)([torch.zeros(1, 21, 2, 2)])


PRIORS = {'type': 'AnchorGenerator', 'strides': [8, 16], 'ratios': [0.5, 1.0], 'scales': [2]}
CODER = {
    'type': 'DeltaXYWHBBoxCoder',
    'target_means': [0.0] * 4,
    'target_stds': [0.1, 0.1, 0.2, 0.2],
}
LEVELS = [(2, 3), (1, 2)]


def box_maps():
    return [0.3 * torch.randn(2, 8, *size) for size in LEVELS]


def test_reencode_boxes_is_the_identity_for_equal_heads():
    levels = box_maps()
    for again, level in zip(ReencodeBoxes(PRIORS, CODER)(levels), levels, strict=True):
        assert torch.allclose(again, level, atol=1e-4)


def test_reencode_boxes_decodes_to_the_same_boxes():
    larger = PRIORS | {'scales': [3]}
    plain = CODER | {'target_stds': [1.0] * 4}
    connector = MODELS.build(
        {
            'type': 'mmrazor.ReencodeBoxes',
            'prior_generator': PRIORS,
            'bbox_coder': CODER,
            'student_prior_generator': larger,
            'student_bbox_coder': plain,
        }
    )
    levels = box_maps()
    for level, again, own, other in zip(
        levels,
        connector(levels),
        connector.priors_T.grid_priors(LEVELS, device='cpu'),
        connector.priors_S.grid_priors(LEVELS, device='cpu'),
        strict=True,
    ):
        for i in range(2):
            before = connector.coder_T.decode(own, torch.stack(rows([level], 4, i)))
            after = connector.coder_S.decode(other, torch.stack(rows([again], 4, i)))
            assert torch.allclose(before, after, atol=1e-3)


def test_reencode_boxes_needs_paired_priors():
    with pytest.raises(ValueError, match='same strides and priors per cell'):
        ReencodeBoxes(PRIORS, CODER, PRIORS | {'ratios': [1.0]})
    with pytest.raises(ValueError, match='must have the 2 levels'):
        ReencodeBoxes(PRIORS, CODER)(box_maps()[:1])
