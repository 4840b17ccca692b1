"""YOLO maps in few bytes: how many, and how far the losses notice."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.cache.obj_cells import ObjCells, _sample
from mmkd.losses import ObjScaledBoxCls

ANCHORS = dict(
    type='mmdet.YOLOAnchorGenerator',
    base_sizes=[
        [(10, 13), (16, 30), (33, 23)],
        [(30, 61), (62, 45), (59, 119)],
        [(116, 90), (156, 198), (373, 326)],
    ],
    strides=[8, 16, 32],
)


def shapes(classes, size=640):
    return [
        (3 * width, size // stride, size // stride)
        for width in (classes, 4, 1)
        for stride in (8, 16, 32)
    ]


def kinds(maps):
    return [maps[i : i + 3] for i in (0, 3, 6)]


def scene(classes=20, size=320, objects=8, seed=0, seen=7.0, images=2):
    """What a teacher says that is nearly sure of no object, and of each object near its cells."""
    g = torch.Generator().manual_seed(seed)
    maps = [torch.randn(images, *shape, generator=g) for shape in shapes(classes, size)]
    for cls, obj in zip(maps[:3], maps[6:], strict=True):
        side = obj.shape[-1]
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing='ij')
        near = torch.zeros(images, 3, side, side)
        label = torch.randint(classes, (images, 3, side, side), generator=g)
        for image in range(images):
            for _ in range(objects // 3 + 1):
                cx, cy, reach = (
                    torch.rand(3, generator=g) * torch.tensor([side, side, 2])
                ).tolist()
                close = torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (1 + reach) ** 2)
                which = torch.randint(3, (), generator=g)
                own = close > near[image, which]
                label[image, which][own] = torch.randint(classes, (), generator=g)
                near[image, which] = torch.maximum(near[image, which], close)
        obj.mul_(1.5).add_(-seen).add_((seen + 2) * near)
        by_class = cls.view(images, 3, classes, side, side)
        by_class.mul_(1.5).sub_(6)
        by_class.scatter_add_(2, label.unsqueeze(2), (4 + 4 * near).unsqueeze(2))
    return maps


def students(teacher, seed=1):
    g = torch.Generator().manual_seed(seed)
    noise = [torch.randn(m.shape, generator=g) for m in teacher]
    start = [0.0, 0.0, 0.0, *[0.0] * 3, *[0.0] * 3]
    start[:3], start[6:] = [-4.9] * 3, [-6.0] * 3
    return {
        'untrained': [0.1 * n + b for n, b in zip(noise, start, strict=True)],
        'half way': [0.6 * t + 0.4 * b + n for t, n, b in zip(teacher, noise, start, strict=True)],
        'nearly there': [t + 0.3 * n for t, n in zip(teacher, noise, strict=True)],
    }


LOSSES = {
    'as shipped': dict(level_weights=[4.0, 1.0, 0.4]),
    'ciou': dict(box_loss='ciou', prior_generator=ANCHORS),
    'soft classes': dict(cls_loss='kl', temperature=2.0),
    'reference': dict(normalizer='mean', box_loss='l2', cls_loss='l2'),
}


def encoded(teacher):
    codec = ObjCells([m.shape[1:] for m in teacher])
    data = codec.encode(teacher)
    assert data.shape == (len(teacher[0]), codec.nbytes) and data.dtype == torch.uint8
    return codec.decode(data)


@pytest.mark.parametrize('classes', [1, 20])
@pytest.mark.parametrize('name', LOSSES)
def test_terms_are_within_one_percent(name, classes):
    teacher = scene(classes)
    kept = encoded(teacher)
    loss = ObjScaledBoxCls(classes, **LOSSES[name])
    for who, student in students(teacher).items():
        loss(kinds(student), kinds(teacher))
        live = loss.logs
        loss(kinds(student), kept)
        for term in ('box', 'cls', 'obj', 'objectness'):
            expected = pytest.approx(live[term].item(), rel=0.01)
            assert loss.logs[term].item() == expected, (who, term)


@pytest.mark.parametrize('name', LOSSES)
def test_the_gradient_points_where_the_live_one_does(name):
    teacher = scene(20)
    loss = ObjScaledBoxCls(20, **LOSSES[name])
    grads = []
    for maps in (kinds(teacher), encoded(teacher)):
        student = [m.clone().requires_grad_() for m in students(teacher)['half way']]
        found = torch.autograd.grad(loss(kinds(student), maps), student)
        grads.append(torch.cat([g.flatten() for g in found]))
    assert torch.cosine_similarity(*grads, dim=0) > 0.99
    assert grads[1].norm() == pytest.approx(grads[0].norm().item(), rel=0.02)


def test_one_image_is_decoded_as_one_of_many():
    teacher = scene(3)
    codec = ObjCells([m.shape[1:] for m in teacher])
    data = codec.encode(teacher)
    for image in range(2):
        alone = codec.decode(data[image : image + 1]).levels
        for one, both in zip(alone, codec.decode(data).levels, strict=True):
            assert all(torch.equal(a, b[image : image + 1]) for a, b in zip(one, both, strict=True))


def test_bytes_of_a_yolov5_view():
    """At 640 px: less than 200 KB, with any number of classes."""
    for classes in (1, 20, 80, 365):
        assert 150_000 < ObjCells(shapes(classes)).nbytes + 8 <= 200_000


def test_all_priors_of_a_small_view_are_kept():
    teacher = scene(3, size=64)
    levels = encoded(teacher).levels
    for level, obj in zip(levels, teacher[6:], strict=True):
        assert level.places.sort().values.tolist() == [[*range(obj[0].numel())]] * 2
        torch.testing.assert_close(level.weight, obj.sigmoid(), rtol=0, atol=1e-6)


@given(
    weights=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60),
    rows=st.integers(1, 60),
)
@settings(max_examples=50, deadline=None)
def test_the_sample_stands_for_all(weights, rows):
    weight = torch.tensor([weights])
    index, share = _sample(weight, min(rows, len(weights)))
    assert share.shape == index.shape == (1, min(rows, len(weights)))
    assert share.sum().item() == pytest.approx(weight.sum().item(), rel=1e-4, abs=1e-6)
    assert index.min() >= 0 and index.max() < len(weights)
    assert ((share == 0) | (weight.gather(1, index) > 0)).all()


def test_the_same_view_is_always_sampled_alike():
    teacher = scene(3)
    codec = ObjCells([m.shape[1:] for m in teacher])
    assert torch.equal(codec.encode(teacher), codec.encode(teacher))


@pytest.mark.parametrize(
    'other', [shapes(3)[:6], [(3, 4, 4)] * 2, [(6, 4, 4), (4, 4, 4), (2, 4, 4)], [(3,)] * 3, []]
)
def test_other_records_do_not_fit(other):
    assert not ObjCells.fits(other)
    with pytest.raises(ValueError, match="Set its codec to 'dense16'"):
        ObjCells(other)
