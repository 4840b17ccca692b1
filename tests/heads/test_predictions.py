"""``Predictions`` and what a reader knows of the images."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

from mmkd.heads import Batch, Predictions


def of(log_prob, **others):
    return Predictions(log_prob.view(1, -1, 1), torch.zeros(1, log_prob.numel(), 4), **others)


@given(st.lists(st.floats(-80, 14), min_size=1, max_size=8))
def test_logits_of_a_sigmoid_are_its_input(values):
    x = torch.tensor(values)
    logits = of(logsigmoid(x)).logits.flatten()
    torch.testing.assert_close(logits, x, rtol=1e-3, atol=0.1)
    exact = of(logsigmoid(x.double())).logits.flatten()
    torch.testing.assert_close(exact[x < 10], x[x < 10].double(), rtol=1e-6, atol=1e-6)


def test_logits_and_their_gradient_are_finite_at_certainty_and_impossibility():
    log_prob = torch.tensor([0.0, -1e-9, -100.0, -1e30, -torch.inf], requires_grad=True)
    logits = of(log_prob).logits
    assert logits.isfinite().all() and (logits.flatten().diff() <= 0).all()
    logits.sum().backward()
    assert log_prob.grad.isfinite().all() and log_prob.grad[0] == 1


def test_detached_rows_have_no_graph_and_lose_nothing():
    x = torch.zeros(4, requires_grad=True)
    rows = of(x * 2 - 1, quality=(x - 1).view(1, 4, 1), valid=torch.ones(1, 4).bool())
    bare = rows.detach()
    assert not bare.log_prob.requires_grad and not bare.quality.requires_grad
    assert torch.equal(bare.valid, rows.valid) and bare.priors is None


PRIORS = torch.tensor([[x, y, 8, 8] for y in (4.0, 12.0, 20.0, 28.0) for x in (4.0, 12.0, 20.0)])


def test_rows_in_the_padding_are_not_valid():
    metas = [
        dict(img_shape=(32, 24, 3)),  # as some transforms write it
        dict(img_shape=(20, 13)),
        # MMYOLO's letterbox: above, below, left, right
        dict(img_shape=(32, 24), pad_param=torch.tensor([8.0, 8.0, 0.0, 0.0])),
        dict(batch_input_shape=(32, 24)),  # MMYOLO's fast collation
    ]
    valid = Batch((32, 24), metas).valid(PRIORS).view(4, 4, 3)
    assert valid[0].all() and valid[3].all()
    assert valid[1].tolist() == [[True, True, False]] * 2 + [[False] * 3] * 2
    assert valid[2].any(1).tolist() == [False, True, True, False]
    assert Batch((32, 24)).valid(PRIORS) is None
    assert Batch(metas=[{}]).valid(PRIORS) is None


def test_sizes_are_width_and_height_of_each_image():
    batch = Batch(metas=[dict(img_shape=(32, 24)), dict(img_shape=(8, 16, 3))])
    assert batch.sizes(PRIORS, 'it').tolist() == [[24, 32, 24, 32], [16, 8, 16, 8]]
    with pytest.raises(
        ValueError, match='it needs the metainfo of the images with their img_shape'
    ):
        Batch(metas=[dict(img_shape=(8, 8)), {}]).sizes(PRIORS, 'it')


@given(
    levels=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3),
    more=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3),
    anchors=st.integers(1, 3),
)
def test_rows_at_the_priors_of_a_smaller_grid(levels, more, anchors):
    def priors(sizes):
        return torch.tensor(
            [
                (s * (x + 0.5), s * (y + 0.5), s, s)
                for s, (h, w) in zip((8.0, 16.0, 32.0), sizes, strict=False)
                for y in range(h)
                for x in range(w)
                for _ in range(anchors)
            ]
        )

    small = priors(levels)
    large = priors([(h + a, w + b) for (h, w), (a, b) in zip(levels, more, strict=False)])
    x = torch.rand(2, len(large), 3)
    rows = Predictions(x, torch.rand(2, len(large), 4), large, valid=x[..., 0] < 0.5)
    found = rows.at(small + 0.01)
    kept = [i for i, prior in enumerate(large.tolist()) if prior in small.tolist()]
    assert torch.equal(found.priors, small)
    assert torch.equal(found.log_prob, x[:, kept]) and torch.equal(found.boxes, rows.boxes[:, kept])
    assert torch.equal(found.valid, rows.valid[:, kept])
    assert rows.at(large) is rows and rows.at(None) is rows
    assert found.at(large) is found  # of more there is nothing to give
    assert rows.at(small[:1] + 3) is rows
