"""Scores by cell against loops and against the heads' own maps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from mmrazor.models.task_modules import RecorderManager

from mmkd.heads import Predictions
from mmkd.heads.score_maps import score_maps
from tests.losses.test_prediction_rows import rows
from tests.zoo import small

INPUT = (40, 56)
STRIDES = [8, 16, 32]
SIZES = [(5, 7), (3, 4), (2, 2)]


def on_a_grid(seed, anchors, offset, valid):
    """Rows in the order of a head's own: level, row, column, anchor."""
    cells = [
        ((x + offset) * s, (y + offset) * s, s, s)
        for s, (h, w) in zip(STRIDES, SIZES, strict=True)
        for y in range(h)
        for x in range(w)
        for _ in range(anchors)
    ]
    made = rows(seed, len(cells))
    mask = torch.rand(2, len(cells), generator=torch.Generator().manual_seed(seed)) > 0.3
    return Predictions(
        made.log_prob, made.boxes, torch.tensor(cells), valid=mask if valid else None
    )


@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.0, 0.5]), st.booleans())
@settings(max_examples=20)
def test_the_cells_of_priors(seed, anchors, offset, valid):
    found = on_a_grid(seed, anchors, offset, valid)
    score = found.log_prob.exp().amax(-1)
    score = score * found.valid if valid else score
    maps, row = score_maps(found, SIZES, INPUT), 0
    for level, (h, w) in zip(maps, SIZES, strict=True):
        assert level.shape == (2, 1, h, w)
        for y in range(h):
            for x in range(w):
                expected = score[:, row : row + anchors].amax(1)
                assert torch.equal(level[:, 0, y, x], expected)
                row += anchors


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=20)
def test_boxes_around_the_cells(seed, level_without_priors):
    """Of proposals and queries, and on a level that is finer than the head's."""
    found, sizes = rows(seed, 9, spread=60.0), SIZES
    if level_without_priors:
        found, sizes = on_a_grid(seed, 1, 0.5, True), [(10, 14)]
    score = found.log_prob.exp().amax(-1)
    score = score * found.valid if level_without_priors else score
    for level, (h, w) in zip(score_maps(found, sizes, INPUT), sizes, strict=True):
        for b in range(2):
            for y in range(h):
                for x in range(w):
                    cx, cy = (x + 0.5) * INPUT[1] / w, (y + 0.5) * INPUT[0] / h
                    inside = [
                        float(s)
                        for s, (x1, y1, x2, y2) in zip(
                            score[b], found.boxes[b].tolist(), strict=True
                        )
                        if x1 < cx < x2 and y1 < cy < y2
                    ]
                    assert float(level[b, 0, y, x]) == pytest.approx(max(inside, default=0.0))


def test_no_rows():
    none = Predictions(torch.zeros(2, 0, 3), torch.zeros(2, 0, 4))
    assert [m.shape for m in score_maps(none, SIZES, INPUT)] == [(2, 1, *s) for s in SIZES]


def recorded(name, size=(64, 64), **options):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(small(name)).eval()
    manager = RecorderManager(dict(scores=dict(type='ScoreMaps', **options)))
    manager.initialize(model)
    with manager, torch.no_grad():
        outputs = model.bbox_head(model.extract_feat(torch.randn(2, 3, *size)))
    return manager.get_recorder('scores').get_record_data(), outputs


@pytest.mark.parametrize('name', ['retinanet', 'fcos'])
def test_the_maps_of_a_head(name):
    """Small images have two levels of a single cell: each has its own priors."""
    maps, outputs = recorded(name)
    expected = [cls.sigmoid() for cls in outputs[0]]
    if name == 'fcos':
        expected = [c * q.sigmoid() for c, q in zip(expected, outputs[2], strict=True)]
    for level, own in zip(maps, expected, strict=True):
        torch.testing.assert_close(level, own.amax(1, keepdim=True))
    assert not any(m.requires_grad for m in maps)
    middle = maps[0].median().item()
    kept = recorded(name, score_thr=middle)[0][0]
    assert torch.equal(kept, maps[0] * (maps[0] >= middle))


def test_a_threshold_is_a_score():
    with pytest.raises(ValueError, match='score_thr must be at least 0 and below 1, but got 1'):
        RecorderManager(dict(scores=dict(type='ScoreMaps', score_thr=1)))
