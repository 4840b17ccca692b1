"""Rows of mmdet's dense heads against the heads' own prediction."""

import pytest
import torch

from mmkd.heads import Batch, read
from tests.heads.dense_cases import (
    CASES,
    INPUT,
    METAS,
    SHAPES,
    build,
    features,
    freeze_norms,
    without_nms,
)
from tests.heads.same import assert_rows_are_the_heads_own

BATCH = Batch(INPUT, METAS)


@pytest.mark.parametrize('name', CASES)
def test_rows_are_the_heads_own_and_the_same_in_training(name):
    case = CASES[name]
    head, maps = build(case, name), features(case)
    guided = 'loc_filter_thr' in case.config  # its masked convolution takes one image
    if guided:
        freeze_norms(head.train())
    with torch.no_grad():
        outputs = head(maps)
        found = read(head, outputs, BATCH)
        own = (case.own or without_nms)(head, outputs, **case.cfg)
        with torch.autocast('cpu', torch.bfloat16):
            mixed = read(head, outputs, BATCH)
    assert torch.equal(mixed.boxes, found.boxes) and torch.equal(mixed.log_prob, found.log_prob)
    for b, detections in enumerate(own):
        assert_rows_are_the_heads_own(found, b, detections, SHAPES[b], case.per_row)

    freeze_norms(head.train())
    leaves = [m.requires_grad_() for m in maps]
    trained = read(head, head(tuple(leaves)), BATCH)
    for one, other in ((trained.log_prob, found.log_prob), (trained.boxes, found.boxes)):
        torch.testing.assert_close(one.detach(), other, rtol=1e-4, atol=1e-4)
    assert torch.equal(trained.valid, found.valid)
    assert trained.logits.isfinite().all()
    for part in (trained.logits, trained.boxes):
        grads = torch.autograd.grad(part.sum(), leaves, retain_graph=True, allow_unused=True)
        assert all(g is not None and g.isfinite().all() and g.any() for g in grads)
