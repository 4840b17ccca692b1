"""The student's loss with the teacher's detections, against a detector of a few lines."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmkd.algorithms.loss_watch import excused
from mmkd.heads import Predictions
from mmkd.losses import SoftGroundTruth
from mmkd.recorders.loss_pass import LossPass, StudentCall
from tests.losses.contract import LossCase
from tests.losses.test_prediction_rows import rows


class Means(nn.Module):
    """Predicts for an image one box and one class, by the means of its map's channels."""

    def extract_feat(self, inputs):
        raise AssertionError('the features are there already')

    def loss(self, inputs, samples):
        (maps,) = self.extract_feat(inputs)
        image, label, box = samples['bboxes_labels'].split([1, 1, 4], dim=1)
        means = maps.mean((2, 3))[image.flatten().long()]  # (G, 4 + C)
        count = max(len(box), 1)
        chosen = means[:, 4:].log_softmax(-1).gather(1, label.long())
        return dict(
            loss_cls=-chosen.sum() / count,
            loss_bbox=[(means[:, :4] - box / 64).square().sum() / count, maps.sum() * 0],
            loss_mask=maps.sum(),  # a box does not tell
            acc=maps.new_ones(()),
        )


def own_pass(seed, images=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(images, 7, 3, 2, generator=generator, dtype=dtype)
    samples = dict(bboxes_labels=torch.zeros(0, 6), img_metas=[])
    return LossPass([(maps,)], StudentCall(Means(), torch.zeros(images, 3, 64, 64), samples))


CASE = LossCase(
    build=lambda **options: SoftGroundTruth(**{'soft': False, **options}),
    inputs=lambda seed: dict(preds_S=own_pass(seed), preds_T=rows(seed + 100, 9)),
    empty=None,  # that there is nothing is taught, too
    faults=(
        (lambda i: i | {'preds_S': [torch.zeros(1, 1, 2, 2)]}, "recorded with `type='LossPass'"),
        (lambda i: i | {'preds_T': torch.zeros(1, 1, 2, 2)}, "and preds_T with `type='Pred"),
        (
            lambda i: i | {'preds_S': LossPass([], i['preds_S'].call)},
            'must take its features from `extract_feat`',
        ),
    ),
    zero_at_equal=False,  # it is a loss of detections
    log_keys=('objects', 'score'),
)


def by_loops(own, found, kept):
    """The loss, spelled out in float64, of the rows that are ``kept`` in each image."""
    ((maps,),) = own.features
    total, count = 0.0, 0
    for b, indices in enumerate(kept):
        means = [sum(channel.flatten().tolist()) / 6 for channel in maps[b]]
        for i in indices:
            box = [min(max(v, 0.0), 64.0) for v in found.boxes[b, i].tolist()]
            label = int(found.log_prob[b, i].argmax())
            total += sum((m - v / 64) ** 2 for m, v in zip(means[:4], box, strict=True))
            total += math.log(sum(math.exp(m) for m in means[4:])) - means[4 + label]
            count += 1
    return total / max(count, 1)


@given(st.integers(0, 10**6), st.floats(0.05, 0.6), st.integers(1, 9))
@settings(max_examples=20)
def test_all_that_the_teacher_detects(seed, score_thr, most):
    own, found = own_pass(seed, dtype=torch.float64), rows(seed + 1, 9, logit=1.0)
    loss = SoftGroundTruth(score_thr=score_thr, iou_thr=1.0, max_per_img=most, soft=False)
    score = found.log_prob.exp().amax(-1)
    kept = [
        [i for i in row.argsort(descending=True).tolist() if row[i] >= score_thr][:most]
        for row in score
    ]
    assert loss(own, found).item() == pytest.approx(by_loops(own, found, kept), rel=1e-5)
    assert loss.logs['objects'].item() == pytest.approx(sum(map(len, kept)) / 2)


def test_each_detection_counts_as_often_as_its_score():
    found, own = rows(3, 6, logit=1.0), own_pass(0)
    loss = SoftGroundTruth(score_thr=0.0, iou_thr=1.0)
    counts, before = [], torch.get_rng_state()
    for _ in range(100):
        loss(own, found)
        counts.append(loss.logs['objects'].item())
    expected = found.log_prob.exp().amax(-1).sum().item() / 2
    assert sum(counts) / 100 == pytest.approx(expected, rel=0.1) and len(set(counts)) > 2
    assert torch.equal(torch.get_rng_state(), before), 'the run draws as it would without'


def test_a_resumed_run_draws_the_same():
    own, found = own_pass(0), rows(1, 9, logit=1.0)
    loss = SoftGroundTruth()
    for _ in range(3):
        loss(own, found)
    resumed = SoftGroundTruth()
    resumed.load_state_dict(loss.state_dict())
    torch.manual_seed(7)
    expected = [loss(own, found).item() for _ in range(3)]
    torch.manual_seed(8)
    assert [resumed(own, found).item() for _ in range(3)] == expected
    assert len(set(expected)) > 1
    loss.eval()(own, found)
    assert loss.step == 6, 'only training counts'


def test_nothing_detected():
    none = Predictions(torch.full((2, 3, 3), -9.0), rows(0, 3).boxes)
    loss = SoftGroundTruth()
    assert loss(own_pass(0), none).item() == 0 and loss.logs['objects'] == 0
    assert excused(loss), 'a head may need objects to learn anything, and a batch may have none'
    loss(own_pass(0), rows(1, 9, logit=9.0))
    assert not excused(loss)


def test_gradcheck():
    own, found = own_pass(0, dtype=torch.float64), rows(1, 9)
    ((maps,),) = own.features
    call = own.call
    loss = SoftGroundTruth(soft=False)
    assert torch.autograd.gradcheck(
        lambda maps: loss(LossPass([(maps,)], call), found), maps.requires_grad_()
    )


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (dict(score_thr=-0.1), 'score_thr must be at least 0 and below 1, got -0.1'),
        (dict(iou_thr=0), 'iou_thr must be above 0 and at most 1, got 0'),
        (dict(max_per_img=0), 'max_per_img must be at least 1, got 0'),
    ],
)
def test_numbers_out_of_range(arguments, told):
    with pytest.raises(ValueError, match=told):
        SoftGroundTruth(**arguments)
