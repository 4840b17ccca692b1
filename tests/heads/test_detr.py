"""Rows of DETR's kin and of heads that are told the classes by a text."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mmkd.heads import Batch, read
from mmkd.heads.detr import read_layer
from tests.heads.dense_cases import CLASSES, ONE, UNFILTERED
from tests.heads.same import assert_rows_are_the_heads_own

QUERIES, LAYERS, DIMS = 7, 2, 8
SHAPES = [(50, 40), (640, 480)]
METAS = [dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0)) for shape in SHAPES]
BATCH = Batch((640, 480), METAS, num_queries=QUERIES)
# Its default, which the head writes into when it is first built.
SOFTMAX = dict(loss_cls=dict(type='CrossEntropyLoss', bg_cls_weight=0.1, class_weight=1.0))
SIGMOID = dict(loss_cls=dict(type='FocalLoss', use_sigmoid=True))
TWO_STAGE = dict(num_pred_layer=LAYERS + 1, as_two_stage=True)
TOKENS = [{1: [0], 2: [1, 2], 3: [4]}] * 2

ALONE = ('ATSSVLFusionHead',)

# Per head: its arguments, and detections of a row.
CASES = {
    'DETRHead': (SOFTMAX, 1),
    'DETRHead of sigmoid': (SIGMOID, CLASSES),
    'ConditionalDETRHead': (SIGMOID, CLASSES),
    'DABDETRHead': (SIGMOID, CLASSES),
    'DeformableDETRHead': (dict(num_pred_layer=LAYERS, **SIGMOID), CLASSES),
    'DINOHead': (dict(**TWO_STAGE, **SIGMOID), CLASSES),
    'DDQDETRHead': (dict(**TWO_STAGE, **SIGMOID), CLASSES),
    'GroundingDINOHead': (
        dict(contrastive_cfg=dict(max_text_len=6), **TWO_STAGE, **SIGMOID),
        CLASSES,
    ),
}


def build(name):
    torch.manual_seed(0)
    config = dict(type=name.split()[0], num_classes=CLASSES, embed_dims=DIMS, **CASES[name][0])
    cfg = dict(max_per_img=QUERIES * (CLASSES if CASES[name][1] > 1 else 1))
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(ConfigDict(config, test_cfg=cfg))
    for parameter in head.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return head.eval()


def inputs(name, queries=QUERIES):
    hidden = torch.randn(LAYERS, 2, queries, DIMS)
    kind = name.split()[0]
    if kind == 'DETRHead':
        return [hidden]
    if kind == 'ConditionalDETRHead':
        return [hidden, torch.rand(2, queries, 2)]
    if kind == 'DABDETRHead':
        return [hidden, torch.rand(LAYERS, 2, queries, 4)]
    references = [torch.rand(2, queries, 4) for _ in range(LAYERS)]
    if kind == 'GroundingDINOHead':
        mask = torch.tensor([[True, True, True, False, True]] * 2)
        return [hidden, references, torch.randn(2, 5, DIMS), mask]
    return [hidden, references]


@pytest.mark.parametrize('name', CASES)
def test_rows_are_the_heads_own(name):
    head, given = build(name), inputs(name)
    kept = torch.ones(2, QUERIES, dtype=torch.bool)
    batch = Batch(BATCH.input_shape, METAS, num_queries=QUERIES)
    options = {}
    if name == 'DDQDETRHead':  # a mask for each attention head of each image
        kept[0, 2] = kept[1, 5] = False
        masks = kept[:, None, None].expand(2, 4, QUERIES, QUERIES).flatten(0, 1)
        head.cache_dict = dict(num_heads=4, distinct_query_mask=[masks])
        head.test_cfg.max_per_img = (QUERIES - 1) * CLASSES
    if name == 'GroundingDINOHead':
        with pytest.raises(ValueError, match='token_positive_map'):
            read(head, head(*given), batch)
        batch = Batch(BATCH.input_shape, METAS, TOKENS, QUERIES)
        options = dict(batch_token_positive_maps=TOKENS)
    leaf = given[0].requires_grad_()
    outputs = head(*given)
    found = read(head, outputs, batch)
    own = head.predict_by_feat(
        *[o.detach().clone() for o in outputs], batch_img_metas=METAS, rescale=False, **options
    )
    for b in (0, 1):
        assert_rows_are_the_heads_own(found, b, own[b], SHAPES[b], CASES[name][1], kept[b])
    if name == 'DDQDETRHead':
        assert torch.equal(found.valid, kept)
    (found.logits.sum() + found.boxes.sum()).backward()
    assert leaf.grad.isfinite().all() and leaf.grad[-1].any() and not leaf.grad[0].any()
    first = read_layer(head, outputs, batch, 0)
    assert first.valid is None and not torch.equal(first.boxes, found.boxes)


def test_denoising_and_dense_queries_are_no_rows():
    head, plain = build('DINOHead'), inputs('DINOHead')
    extra = inputs('DINOHead', queries=4)
    given = [
        torch.cat([extra[0], plain[0]], 2),
        [torch.cat(pair, 1) for pair in zip(extra[1], plain[1], strict=True)],
    ]
    expected = read(head, head(*plain), BATCH)
    found = read(head, head.train()(*given), BATCH)
    torch.testing.assert_close(found.boxes, expected.boxes)
    torch.testing.assert_close(found.log_prob, expected.log_prob)

    head = build('DDQDETRHead')
    expected = read(head, head(*plain), BATCH)
    head.cache_dict = dict(num_dense_queries=4)
    given = [
        torch.cat([given[0], extra[0]], 2),
        [torch.cat(p, 1) for p in zip(given[1], extra[1], strict=True)],
    ]
    found = read(head, head.train()(*given), BATCH)
    torch.testing.assert_close(found.boxes, expected.boxes)


def test_the_sizes_of_the_images_must_be_known():
    head = build('DABDETRHead')
    with pytest.raises(ValueError, match='img_shape'):
        read(head, head(*inputs('DABDETRHead')))


def test_glip(monkeypatch):
    """Its layers need a language model, so that the maps are made up here."""
    from mmdet.models.dense_heads import atss_vlfusion_head

    monkeypatch.setattr(atss_vlfusion_head, 'VLFusionModule', lambda **_: torch.nn.Identity())
    config = dict(
        type='ATSSVLFusionHead',
        num_classes=CLASSES,
        in_channels=8,
        anchor_generator=dict(ONE, strides=[8]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoderForGLIP', target_stds=[0.1, 0.1, 0.2, 0.2]),
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(config)
    outputs = [torch.randn(2, 12, 6)], [torch.randn(2, 4, 4, 3)], [torch.randn(2, 1, 4, 3)]
    found = read(head, outputs, Batch(metas=METAS, token_maps=TOKENS))
    own = head.predict_by_feat(
        outputs[0],
        outputs[1],
        outputs[2],
        batch_img_metas=METAS,
        batch_token_positive_maps=TOKENS,
        cfg=UNFILTERED,
        with_nms=False,
    )
    for b in (0, 1):
        assert_rows_are_the_heads_own(found, b, own[b], SHAPES[b], CLASSES)
    with pytest.raises(ValueError, match='token_positive_map'):
        read(head, outputs, Batch(metas=METAS))
