"""The regions of localisation distillation against plain loops, and in a pair."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmrazor.registry import MODELS

from mmkd.connectors import LocalisationRegions
from mmkd.connectors.localisation_regions import localisation_regions
from tests.losses.test_prediction_rows import iou
from tests.tiny import raw_batch
from tests.zoo import taught


def middle(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def by_loops(levels, boxes, topk, alpha):
    anchors = [a for level in levels for a in level]
    found = [[0.0, 0.0] for _ in anchors]
    for box in boxes:
        far = [math.dist(middle(a), middle(box)) for a in anchors]
        candidates, first = [], 0
        for level in levels:
            own = sorted(range(first, first + len(level)), key=far.__getitem__)
            candidates += own[:topk]
            first += len(level)
        overlaps = [iou(anchors[i], box) for i in candidates]
        mean = sum(overlaps) / len(overlaps)
        variance = sum((o - mean) ** 2 for o in overlaps) / (len(overlaps) - 1)
        threshold = mean + math.sqrt(variance)
        for i, anchor in enumerate(anchors):
            overlap, (x, y) = iou(anchor, box), middle(anchor)
            width = max(anchor[2], box[2]) - min(anchor[0], box[0])
            height = max(anchor[3], box[3]) - min(anchor[1], box[1])
            diou = overlap - far[i] ** 2 / (width**2 + height**2)
            if i in candidates and overlap >= threshold:
                inside = box[0] < x < box[2] and box[1] < y < box[3]
                found[i][0] = max(found[i][0], float(inside))
            if alpha * threshold <= diou < threshold:
                found[i][1] = max(found[i][1], overlap)
    return found


@given(st.integers(0, 10**6), st.integers(0, 3), st.integers(2, 9), st.sampled_from([0.1, 0.25]))
@settings(max_examples=30)
def test_equals_the_oracle(seed, objects, topk, alpha):
    generator = torch.Generator().manual_seed(seed)

    def boxes(count, side):
        corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 40
        sides = (0.5 + torch.rand(count, 2, generator=generator, dtype=torch.float64)) * side
        return torch.cat([corner, corner + sides], 1)

    levels, truth = [boxes(12, 16), boxes(4, 30)], boxes(objects, 20)
    expected = by_loops([level.tolist() for level in levels], truth.tolist(), topk, alpha)
    found = localisation_regions(levels, truth, topk, alpha)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_a_pair_as_published():
    """Recorded, bound to the student's anchors, and undivided; an image without objects, too."""
    config = taught('gfl', 'gfl', 'ld')
    distiller = config.distiller
    source = 'mmdet.models.dense_heads.base_dense_head.BaseDenseHead.loss'
    distiller.student_recorders.update(
        truth=dict(type='MethodInputsCopy', source=source), rows=dict(type='Predictions')
    )
    distiller.connectors = dict(regions=dict(type='LocalisationRegions'))
    distiller.distill_losses.ld_loss_sides.update(normalizer='none', loss_weight=0.25 / 17)
    distiller.loss_forward_mappings.ld_loss_sides.update(
        rows_S=dict(recorder='rows', from_student=True),
        regions=dict(recorder='truth', from_student=True, connector='regions'),
    )
    torch.manual_seed(0)
    pair = MODELS.build(config).train()
    seen = {}
    loss = pair.distiller.distill_losses['ld_loss_sides']
    loss.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)
    batch = raw_batch()
    truth = batch['data_samples'][1].gt_instances
    batch['data_samples'][1].gt_instances = truth[:0]
    data = pair.data_preprocessor(batch, training=True)
    found = pair.loss(data['inputs'], data['data_samples'])['distill.ld_loss_sides']
    found.backward()
    assert pair.student.bbox_head.gfl_reg.weight.grad.any()

    regions = seen['regions']
    assert regions[0, :, 0].any() and regions[0, :, 1].any() and not regions[1].any()
    score = seen['rows_S'].log_prob.exp().amax(-1)
    main, valuable = 0.0, 0.0
    for row in regions[0].any(-1).nonzero().flatten().tolist():
        s, t = ((seen[k][0, row] / 10).softmax(-1).tolist() for k in ('preds_S', 'preds_T'))
        means = [
            100 * sum(q * math.log(q / p) for p, q in zip(*sides, strict=True)) / 17
            for sides in zip(s, t, strict=True)
        ]
        positive, overlap = regions[0, row].tolist()
        main += positive * score[0, row].item() * sum(means) / 4
        valuable += overlap * sum(means) / 16
    assert found.item() == pytest.approx(0.25 * main + 0.25 * valuable, rel=1e-3)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(topk=0), 'topk must be at least 1'),
        (dict(alpha=1.0), 'alpha from 0 to below 1, but got 9 and 1.0'),
        (
            dict(prior_generator=dict(type='MlvlPointGenerator', strides=[8])),
            'must make anchors.*got MlvlPointGenerator',
        ),
    ],
)
def test_what_does_not_do_is_told(settings, message):
    anchors = dict(type='AnchorGenerator', ratios=[1.0], scales=[8], strides=[8])
    with pytest.raises(ValueError, match=message):
        LocalisationRegions(**{'prior_generator': anchors, **settings})


def test_other_records_are_told():
    connector = LocalisationRegions(
        dict(type='AnchorGenerator', ratios=[1.0], scales=[8], strides=[8])
    )
    with pytest.raises(ValueError, match=r'the inputs .* of the head'):
        connector(torch.zeros(1, 8, 4, 4))
    with pytest.raises(ValueError, match='must have the 1 levels'):
        connector(([torch.zeros(1, 8, 4, 4)] * 2, []))
