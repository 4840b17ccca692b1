"""The stand-in ops against plain loops in float64, through mmcv.ops where users call them."""

import math
import sys

import mmcv.ops
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd.compat import mmcv_ops
from mmkd.compat.ops import focal_loss, nms, roi_align
from mmkd.compat.ops import torchvision_op as serving

pytestmark = pytest.mark.skipif(
    not isinstance(sys.modules['mmcv._ext'], mmcv_ops.MmcvExt), reason='mmcv has compiled ops'
)


def oracle_iou(a, b, offset):
    w = min(a[2], b[2]) - max(a[0], b[0]) + offset
    h = min(a[3], b[3]) - max(a[1], b[1]) + offset
    inter = max(w, 0.0) * max(h, 0.0)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    union = sum(areas) - inter
    return inter / union if union else 0.0


def oracle_nms(boxes, scores, threshold, offset):
    left = sorted(range(len(boxes)), key=lambda i: -scores[i])  # stable: ties in input order
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if oracle_iou(boxes[best], boxes[i], offset) <= threshold]
    return kept


# Small integers: exact in float32, and full of ties, duplicates and touching or empty boxes.
corner = st.integers(0, 12)
box = st.tuples(corner, corner, corner, corner).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
scored_boxes = st.lists(st.tuples(box, st.integers(0, 8)), max_size=30)
# No IoU of these boxes equals one of these: each is off every fraction of small integers.
thresholds = st.sampled_from([0.101, 0.303, 0.501, 0.707, 0.999])


def unpack(items):
    boxes = torch.tensor([b for b, _ in items], dtype=torch.float32).view(-1, 4)
    scores = torch.tensor([s for _, s in items], dtype=torch.float32) / 8
    return boxes, scores


@given(scored_boxes, thresholds, st.sampled_from([0, 1]))
def test_nms(items, threshold, offset):
    boxes, scores = unpack(items)
    expected = oracle_nms(boxes.tolist(), scores.tolist(), threshold, offset)
    dets, kept = mmcv.ops.nms(boxes, scores, threshold, offset=offset)
    assert kept.tolist() == expected
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[expected])


def random_boxes(n, seed=0, extent=300):
    generator = torch.Generator().manual_seed(seed)
    xy = torch.rand(n, 2, generator=generator) * extent
    wh = torch.rand(n, 2, generator=generator) * 60
    return torch.cat([xy, xy + wh], 1), torch.rand(n, generator=generator)


@given(scored_boxes, thresholds)
def test_nms_match(items, threshold):
    boxes, scores = unpack(items)
    groups = mmcv.ops.nms_match(torch.cat([boxes, scores[:, None]], 1), threshold)
    left, expected = sorted(range(len(boxes)), key=lambda i: -scores[i]), []
    while left:
        best = left[0]
        near = [
            i
            for i in left
            if i == best or oracle_iou(boxes[best].tolist(), boxes[i].tolist(), 0) >= threshold
        ]
        expected.append(near)
        left = [i for i in left if i not in near]
    assert [group.tolist() for group in groups] == expected


def test_nms_over_several_blocks(monkeypatch):
    monkeypatch.setattr(nms, 'torchvision_op', lambda name, device: None)
    boxes, scores = random_boxes(300)
    whole = nms.nms(boxes, scores, 0.3)
    assert whole.tolist() == oracle_nms(boxes.tolist(), scores.tolist(), 0.3, 0)
    monkeypatch.setattr(nms, 'NMS_BLOCK', 7)
    assert torch.equal(nms.nms(boxes, scores, 0.3), whole)


def test_nms_chain_alternates():
    # Each box overlaps only its neighbours: kept, suppressed, kept, ... the slowest to settle.
    x = torch.arange(60.0)
    boxes = torch.stack([x * 5, x * 0, x * 5 + 9, x * 0 + 10], 1)
    assert nms.nms(boxes, -x, 0.2).tolist() == list(range(0, 60, 2))


def test_nms_holds_one_block_of_overlaps(monkeypatch):
    sizes = []

    def recorded(boxes, others, offset):
        sizes.append(len(boxes) * len(others))
        return overlaps(boxes, others, offset)

    overlaps = nms.overlaps
    monkeypatch.setattr(nms, 'overlaps', recorded)
    monkeypatch.setattr(nms, 'NMS_BLOCK', 16)
    monkeypatch.setattr(nms, 'torchvision_op', lambda name, device: None)
    boxes, scores = random_boxes(1000)
    nms.nms(boxes, scores, 0.5)
    assert max(sizes) <= 16 * 1000


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_other_precisions(dtype):
    boxes, scores = random_boxes(50)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    expected = oracle_nms(boxes.tolist(), scores.tolist(), 0.4, 0)
    assert nms.nms(boxes, scores, 0.4).tolist() == expected


@given(scored_boxes, st.lists(st.integers(0, 2), min_size=30, max_size=30), thresholds)
def test_batched_nms_is_nms_per_class(items, classes, threshold):
    boxes, scores = unpack(items)
    classes = torch.tensor(classes[: len(boxes)], dtype=torch.long)
    config = dict(type='nms', iou_threshold=threshold)
    if len(boxes) == 0:
        return  # batched_nms takes the maximum of the boxes
    dets, kept = mmcv.ops.batched_nms(boxes, scores, classes, config)
    expected = set()
    for c in range(3):
        members = (classes == c).nonzero().flatten().tolist()
        of_class = oracle_nms(boxes[members].tolist(), scores[members].tolist(), threshold, 0)
        expected |= {members[i] for i in of_class}
    assert set(kept.tolist()) == expected
    assert dets[:, 4].tolist() == sorted(scores[list(expected)].tolist(), reverse=True)


def oracle_soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    """An array that is swapped and shrunk in place: its order decides between equal scores."""
    rows = [[*b, s, i] for i, (b, s) in enumerate(zip(boxes, scores, strict=True))]
    i = 0
    while i < len(rows):
        best = max(range(i, len(rows)), key=lambda j: (rows[j][4], -j))
        rows[i], rows[best] = rows[best], rows[i]
        j = i + 1
        while j < len(rows):
            iou = oracle_iou(rows[i], rows[j], offset)
            if method == 'gaussian':
                rows[j][4] *= math.exp(-iou * iou / sigma)
            elif iou >= threshold:
                rows[j][4] *= 1 - iou if method == 'linear' else 0
            if rows[j][4] < min_score:
                rows[j] = rows[-1]
                rows.pop()
            else:
                j += 1
        i += 1
    return rows


@given(
    scored_boxes,
    thresholds,
    st.sampled_from(['naive', 'linear', 'gaussian']),
    st.sampled_from([0, 1]),
    st.sampled_from([1e-3, 0.2071]),
)
def test_soft_nms(items, threshold, method, offset, min_score):
    boxes, scores = unpack(items)
    # float64 in the op as well, so that no tie is broken by rounding that the oracle lacks.
    boxes, scores = boxes.double(), scores.double()
    rows = oracle_soft_nms(
        boxes.tolist(), scores.tolist(), threshold, 0.5, min_score, method, offset
    )
    dets, kept = mmcv.ops.soft_nms(boxes, scores, threshold, 0.5, min_score, method, offset)
    assert kept.tolist() == [row[5] for row in rows]
    expected = torch.tensor([row[:5] for row in rows], dtype=torch.float64).view(-1, 5)
    torch.testing.assert_close(dets, expected)


def test_soft_nms_takes_arrays_and_batches():
    boxes, scores = random_boxes(40, extent=60)
    dets, kept = mmcv.ops.soft_nms(boxes.numpy(), scores.numpy(), 0.3)
    assert isinstance(dets, np.ndarray) and dets.dtype == np.float32 and len(dets) == len(kept)
    classes = torch.arange(40) % 3
    config = dict(type='soft_nms', iou_threshold=0.3, min_score=0.05)
    dets, kept = mmcv.ops.batched_nms(boxes, scores, classes, config)
    assert (dets[:, 4] <= scores[kept]).all() and (dets[:, 4] < scores[kept]).any()


# Focal loss


def oracle_sigmoid_focal(logits, targets, gamma, alpha, weight=None):
    loss = np.zeros(logits.shape)
    for n, row in enumerate(logits.tolist()):
        for c, x in enumerate(row):
            p = 1 / (1 + math.exp(-x))
            if targets[n] == c:
                loss[n, c] = -alpha * (1 - p) ** gamma * math.log(p)
            else:
                loss[n, c] = -(1 - alpha) * p**gamma * math.log(1 - p)
            if weight is not None and targets[n] < len(weight):
                loss[n, c] *= weight[targets[n]]
    return loss


logits = st.lists(
    st.lists(st.floats(-6, 6, width=32), min_size=3, max_size=3), min_size=1, max_size=5
)


@given(logits, st.data(), st.sampled_from([0.0, 1.0, 2.0, 2.5]), st.floats(0.0, 1.0))
def test_sigmoid_focal_loss(rows, data, gamma, alpha):
    x = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    label = st.integers(0, 3)  # 3 is background
    target = torch.tensor(data.draw(st.lists(label, min_size=len(rows), max_size=len(rows))))
    weight = data.draw(st.sampled_from([None, torch.tensor([0.5, 2.0, 1.0]).double()]))
    expected = oracle_sigmoid_focal(x.detach(), target.tolist(), gamma, alpha, weight)
    loss = mmcv.ops.sigmoid_focal_loss(x, target, gamma, alpha, weight, 'none')
    torch.testing.assert_close(loss.detach(), torch.from_numpy(expected))
    for reduction, whole in (('sum', expected.sum()), ('mean', expected.sum() / len(rows))):
        reduced = mmcv.ops.sigmoid_focal_loss(x, target, gamma, alpha, weight, reduction)
        assert reduced.item() == pytest.approx(whole, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize('op', [mmcv.ops.sigmoid_focal_loss, mmcv.ops.softmax_focal_loss])
@pytest.mark.parametrize('gamma', [1.0, 2.0, 2.5])
@pytest.mark.parametrize('weight', [None, torch.tensor([0.5, 2.0, 1.0]).double()])
def test_focal_loss_gradient(op, gamma, weight):
    torch.manual_seed(0)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 0, 1])
    assert torch.autograd.gradcheck(lambda x: op(x, target, gamma, 0.25, weight, 'mean'), (x,))


def test_softmax_focal_loss():
    torch.manual_seed(0)
    x, target = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    p = np.exp(x.numpy())
    p = (p / p.sum(1, keepdims=True))[range(4), target]
    expected = -0.25 * (1 - p) ** 2 * np.log(p)
    loss = mmcv.ops.softmax_focal_loss(x, target, 2.0, 0.25, None, 'none')
    np.testing.assert_allclose(loss.numpy(), expected)


def test_softmax_focal_loss_ignores_negative_targets():
    probabilities, target = torch.tensor([[0.3, 0.7], [0.4, 0.6]]), torch.tensor([-1, 1])
    empty, loss, factor = torch.zeros(0), torch.ones(2), torch.ones(2)
    grad = torch.ones(2, 2)
    focal_loss.softmax_focal_loss_forward(probabilities, target, empty, loss, 2.0, 0.25)
    focal_loss.softmax_focal_loss_backward(probabilities, target, empty, factor, grad, 2.0, 0.25)
    assert loss[0] == 0 and loss[1] > 0
    assert (grad[0] == 0).all() and (grad[1] != 0).all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_focal_loss_is_finite_in_half_precision(dtype):
    x = torch.tensor([[-80.0, 0.0, 80.0]], dtype=dtype, requires_grad=True)
    loss = mmcv.ops.sigmoid_focal_loss(x, torch.tensor([0]), 2.0, 0.25, None, 'sum')
    loss.backward()
    assert loss.dtype == dtype and loss.isfinite() and x.grad.isfinite().all()


# RoI align


def oracle_bilinear(image, y, x):
    height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    top = image[y0, x0] * (1 - (x - x0)) + image[y0, x1] * (x - x0)
    bottom = image[y1, x0] * (1 - (x - x0)) + image[y1, x1] * (x - x0)
    return top * (1 - (y - y0)) + bottom * (y - y0)


def oracle_roi_align(input, rois, size, scale, ratio, mode, aligned):
    output = np.zeros((len(rois), input.shape[1], *size))
    for k, (index, *box) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (v * scale - (0.5 if aligned else 0.0) for v in box)
        w, h = x2 - x1, y2 - y1
        if not aligned:
            w, h = max(w, 1.0), max(h, 1.0)
        bin_h, bin_w = h / size[0], w / size[1]
        n_y, n_x = ratio or math.ceil(bin_h), ratio or math.ceil(bin_w)
        for c, image in enumerate(input[int(index)].numpy()):
            for p, q in np.ndindex(*size):
                values = [
                    oracle_bilinear(
                        image,
                        y1 + p * bin_h + (i + 0.5) * bin_h / n_y,
                        x1 + q * bin_w + (j + 0.5) * bin_w / n_x,
                    )
                    for i in range(n_y)
                    for j in range(n_x)
                ]
                if mode == 'avg':
                    output[k, c, p, q] = sum(values) / max(len(values), 1)
                else:
                    output[k, c, p, q] = max(values, default=-1e4)
    return torch.from_numpy(output)


# Coordinates off the grid, some outside the map of 6 x 7 pixels at scale 1/2.
coordinate = st.integers(-30, 170).map(lambda v: v / 10 + 0.013)
roi = st.tuples(st.integers(0, 1), coordinate, coordinate, coordinate, coordinate).map(
    lambda r: (r[0], min(r[1], r[3]), min(r[2], r[4]), max(r[1], r[3]), max(r[2], r[4]))
)
roi_settings = (
    st.sampled_from([(1, 1), (2, 3)]),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from(['avg', 'max']),
    st.booleans(),
)


@given(st.lists(roi, max_size=4), *roi_settings)
def test_roi_align(rois, size, scale, ratio, mode, aligned):
    torch.manual_seed(0)
    input = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    rois = torch.tensor(rois, dtype=torch.float64).view(-1, 5)
    output = mmcv.ops.roi_align(input, rois, size, scale, ratio, mode, aligned)
    expected = oracle_roi_align(input, rois, size, scale, ratio, mode, aligned)
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('aligned', [False, True])
def test_roi_align_gradient(ratio, mode, aligned):
    torch.manual_seed(0)
    input = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(
        [[0, 0.3, 0.7, 7.1, 8.9], [1, -3.2, 2.1, 4.4, 20.3], [1, 2.2, 2.1, 2.2, 2.1]],
        dtype=torch.float64,
    )
    assert torch.autograd.gradcheck(
        lambda x: mmcv.ops.roi_align(x, rois, (2, 3), 0.5, ratio, mode, aligned), (input,)
    )


def test_roi_align_in_chunks(monkeypatch):
    torch.manual_seed(0)
    input = torch.randn(2, 3, 20, 20, requires_grad=True)
    boxes, _ = random_boxes(30)
    rois = torch.cat([torch.arange(30.0)[:, None] % 2, boxes / 10], 1)
    whole = mmcv.ops.roi_align(input, rois, 3)
    (grad,) = torch.autograd.grad(whole.square().sum(), input)
    monkeypatch.setattr(roi_align, 'ROI_VALUES', 1)
    chunked = mmcv.ops.roi_align(input, rois, 3)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(torch.autograd.grad(chunked.square().sum(), input)[0], grad)


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_roi_align_takes_half_precision_and_any_layout(mode):
    torch.manual_seed(0)
    input = torch.randn(1, 3, 8, 8).half()
    rois = torch.tensor([[0, 1.0, 1.0, 6.0, 5.0]]).half()
    expected = oracle_roi_align(input.double(), rois, (2, 2), 1.0, 0, mode, True)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = input.clone(memory_format=layout).requires_grad_()
        output = mmcv.ops.roi_align(x, rois, 2, 1.0, 0, mode, True)
        output.float().sum().backward()
        assert output.dtype == x.grad.dtype == torch.float16
        torch.testing.assert_close(output.double(), expected, rtol=2e-3, atol=2e-3)
        assert x.grad.float().sum() == pytest.approx(3 * 4, rel=1e-2)


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align_of_inverted_boxes(mode, ratio):
    """An untrained Sparse R-CNN proposes such: no point, or, of a set number, in reverse."""
    input = torch.randn(1, 2, 8, 8, requires_grad=True)
    rois = torch.tensor([[0, 5.0, 1.0, 2.0, 3.0], [0, 6.0, 7.0, 2.0, 1.0], [0, 1.0, 1.0, 5.0, 4.0]])
    output = mmcv.ops.roi_align(input, rois, 2, 1.0, ratio, mode, True)
    if ratio:
        ordered = mmcv.ops.roi_align(input, rois[:, [0, 3, 2, 1, 4]], 2, 1.0, ratio, mode, True)
        torch.testing.assert_close(output[0], ordered[0].flip(-1))
    elif mode == 'avg':
        assert not output[:2].any()
    torch.testing.assert_close(
        output[2:], mmcv.ops.roi_align(input, rois[2:], 2, 1.0, ratio, mode, True)
    )
    output[output > -100].sum().backward()
    assert input.grad.isfinite().all()


def test_roi_align_of_what_is_no_number():
    rois = torch.tensor([[0, math.nan, 1.0, 2.0, 3.0], [0, 1.0, 1.0, math.inf, 3.0]])
    for ratio in (0, 2):
        output = mmcv.ops.roi_align(torch.ones(1, 1, 8, 8), rois, 2, 1.0, ratio, 'avg', True)
        assert output[0].eq(0).all() and output.isfinite().all()


# Deformable attention


def test_deformable_attention():
    from mmcv.ops.multi_scale_deform_attn import (
        MultiScaleDeformableAttnFunction,
        multi_scale_deformable_attn_pytorch,
    )

    torch.manual_seed(0)
    shapes = torch.tensor([[3, 4], [2, 2]])
    starts = torch.tensor([0, 12])
    inputs = [
        torch.randn(1, 16, 2, 3, dtype=torch.float64, requires_grad=True),
        torch.rand(1, 5, 2, 2, 2, 2, dtype=torch.float64, requires_grad=True),
        torch.rand(1, 5, 2, 2, 2, dtype=torch.float64, requires_grad=True),
    ]
    output = MultiScaleDeformableAttnFunction.apply(inputs[0], shapes, starts, *inputs[1:], 64)
    expected = multi_scale_deformable_attn_pytorch(inputs[0], shapes, *inputs[1:])
    torch.testing.assert_close(output, expected)
    sent = torch.randn_like(output)
    for grad, wanted in zip(
        torch.autograd.grad(output, inputs, sent),
        torch.autograd.grad(expected, inputs, sent),
        strict=True,
    ):
        torch.testing.assert_close(grad, wanted)


# torchvision


def test_torchvision_that_does_not_work_is_not_used(monkeypatch):
    import types

    def broken(*args):
        raise RuntimeError('operator torchvision::nms does not exist')

    fake = types.ModuleType('torchvision')
    fake.ops = types.SimpleNamespace(nms=broken, roi_align=broken)
    monkeypatch.setitem(sys.modules, 'torchvision', fake)
    serving.torchvision_op.cache_clear()
    try:
        assert serving.torchvision_op('nms', 'cpu') is None
        assert nms.nms(torch.zeros(1, 4), torch.zeros(1), 0.5).tolist() == [0]
    finally:
        serving.torchvision_op.cache_clear()


@given(scored_boxes, thresholds)
def test_plain_nms_equals_torchvisions(items, threshold):
    if serving.torchvision_op('nms', 'cpu') is None:
        pytest.skip('needs a torchvision that matches torch')
    boxes, scores = unpack(items)
    with pytest.MonkeyPatch.context() as patch:
        served = nms.nms(boxes, scores, threshold)
        patch.setattr(nms, 'torchvision_op', lambda name, device: None)
        assert torch.equal(served, nms.nms(boxes, scores, threshold))


@given(st.lists(roi, max_size=4), *roi_settings)
def test_plain_roi_align_equals_torchvisions(rois, size, scale, ratio, mode, aligned):
    if serving.torchvision_op('roi_align', 'cpu') is None:
        pytest.skip('needs a torchvision that matches torch')
    input = torch.randn(2, 3, 6, 7)
    rois = torch.tensor(rois).view(-1, 5)
    with pytest.MonkeyPatch.context() as patch:
        served = mmcv.ops.roi_align(input, rois, size, scale, ratio, mode, aligned)
        patch.setattr(roi_align, 'torchvision_op', lambda name, device: None)
        plain = mmcv.ops.roi_align(input, rois, size, scale, ratio, mode, aligned)
    torch.testing.assert_close(served, plain)


def test_roi_align_that_asks_for_torchvision_runs_without_it(monkeypatch):
    """As CrowdDet's config does; mmcv's own forward imports it."""
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    monkeypatch.setitem(sys.modules, 'torchvision.ops', None)
    serving.torchvision_op.cache_clear()
    try:
        settings = dict(output_size=2, spatial_scale=0.5, sampling_ratio=0, aligned=True)
        maps, rois = torch.randn(1, 3, 8, 8), torch.tensor([[0.0, 1, 2, 11, 13]])
        found = mmcv.ops.RoIAlign(use_torchvision=True, **settings)
        expected = mmcv.ops.RoIAlign(**settings)(maps, rois)
        assert torch.equal(found(maps, rois), expected) and expected.any()
        with pytest.raises(ImportError):
            mmcv.ops.RoIAlign.forward.__wrapped__(found, maps, rois)
    finally:
        serving.torchvision_op.cache_clear()
