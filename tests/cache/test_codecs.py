"""Codecs: bytes of a view, and how far the losses notice."""

import pytest
import torch

from mmkd.cache.codecs import Dense, NearBoxes, Softmax, SparseSoftmax
from mmkd.cache.obj_cells import ObjCells
from mmkd.losses import TeacherBoundedReg, WeightedSoftCls
from tests.cache.ssd300 import levels, scene
from tests.tiny import ROOT


def shapes(maps):
    return [tuple(level.shape[1:]) for level in maps]


@pytest.mark.parametrize(('classes', 'limit'), [(20, 64_000), (80, 121_000)])
def test_bytes_of_an_ssd300_view(classes, limit):
    """8732 priors: 64 KB with VOC's 20 classes, 121 KB with COCO's 80, for any teacher."""
    cls, box = (levels(torch.zeros(1, 8732, width)) for width in (classes + 1, 4))
    header = 8
    codecs = SparseSoftmax(shapes(cls), classes + 1), NearBoxes(shapes(box))
    assert 0.9 * limit < sum(codec.nbytes for codec in codecs) + header <= limit
    assert codecs[0].encode(cls).shape == (1, codecs[0].nbytes)


def test_the_bytes_that_the_docs_name():
    page = (ROOT / 'docs/cache.md').read_text()
    cls, coco, box = (shapes(levels(torch.zeros(1, 8732, width))) for width in (21, 81, 4))
    yolo = [(3 * c, size, size) for c in (80, 4, 1) for size in (80, 40, 20)]
    for views, each in (
        (8 * 16_551, SparseSoftmax(cls, 21).nbytes + NearBoxes(box).nbytes + 8),
        (8 * 118_287, ObjCells(yolo).nbytes + 8),
        (118_287, ObjCells(yolo).nbytes + 8),
    ):
        assert f'{views * each / 1e9:.{1 if each < 1e5 else 0}f} GB' in page
    voc, near = SparseSoftmax(cls, 21).nbytes, NearBoxes(box).nbytes
    for number in (
        voc,
        near,
        voc + near + 8,
        SparseSoftmax(coco, 81).nbytes,
        Softmax(cls, 21).nbytes,
        Dense(cls).nbytes + Dense(box).nbytes,
        Dense([(255, size, size) for size in (80, 40, 20)]).nbytes,
        ObjCells(yolo).nbytes,
        ObjCells(yolo).nbytes + 8,
    ):
        assert f'{number:,}' in page, number


@pytest.fixture(scope='module')
def voc():
    return scene(classes=20)


@pytest.mark.parametrize(('kind', 'temperature'), [(SparseSoftmax, 1.0), (Softmax, 2.0)])
def test_the_soft_term_is_within_one_percent(voc, kind, temperature):
    teacher = levels(voc.logits)
    codec = kind(shapes(teacher), 21, temperature)
    kept = codec.decode(codec.encode(teacher))
    g = torch.Generator().manual_seed(1)
    loss = WeightedSoftCls(temperature=temperature)
    noise = torch.randn(voc.logits.shape, generator=g)
    students = {
        'untrained': 0.1 * noise,
        'knows the odds': voc.logits.mean((0, 1)) + noise,
        'half way': 0.7 * voc.logits + 0.3 * noise,
        'nearly there': voc.logits + 0.5 * noise,
    }
    for name, rows in students.items():
        live, cached = (float(loss(levels(rows), m, voc.targets)) for m in (teacher, kept))
        assert cached == pytest.approx(live, rel=0.01), name


def test_the_bounded_term_is_the_same_but_for_rounding(voc):
    teacher, student = levels(voc.boxes), levels(voc.boxes.roll(1, 0))
    codec = NearBoxes(shapes(teacher))
    kept = codec.decode(codec.encode(teacher, (voc.generator, voc.ground_truths)))
    loss = TeacherBoundedReg()
    live, active = loss(student, teacher, voc.targets), loss.logs['active']
    assert 0.3 < active < 0.99
    torch.testing.assert_close(loss(student, kept, voc.targets), live, rtol=2e-3, atol=0)
    nothing_kept = [torch.zeros_like(level) for level in teacher]
    assert loss(student, nothing_kept, voc.targets) != live


def test_a_view_without_objects_is_kept():
    maps = levels(torch.ones(1, 8732, 4))
    codec = NearBoxes(shapes(maps))
    generator = scene(classes=20).generator
    kept = codec.decode(codec.encode(maps, (generator, [torch.zeros(0, 4)])))
    assert sum(level.sum() for level in kept) == 4 * codec.rows


@pytest.mark.parametrize('kind', [Softmax, SparseSoftmax])
def test_any_logits_come_back_finite_and_in_order(kind):
    logits = torch.tensor([[0.0, 0.0, 0.0], [1e4, -1e4, 0.0], [-3.0, 2.0, 9.0], [0.0, 1.0, -50.0]])
    maps = [logits.reshape(1, 1, 4, 3).permute(0, 3, 1, 2)]
    codec = kind(shapes(maps), 3)
    [kept] = codec.decode(codec.encode(maps))
    rows = kept.permute(0, 2, 3, 1).reshape(4, 3)
    torch.testing.assert_close(rows.softmax(-1), logits.softmax(-1), rtol=0.05, atol=1e-6)


def test_dense_is_exact_in_its_own_precision():
    maps = [torch.randn(2, 3, 4, 5), torch.tensor([[1e6], [-1e6]])]
    exact = Dense(shapes(maps), 'float32')
    for kept, own in zip(exact.decode(exact.encode(maps)), maps, strict=True):
        assert torch.equal(kept, own)
    half = Dense(shapes(maps))
    assert half.nbytes == 2 * 61
    kept = half.decode(half.encode(maps))
    torch.testing.assert_close(kept[0], maps[0], rtol=1e-3, atol=1e-3)
    assert kept[1].tolist() == [[65504.0], [-65504.0]]  # not infinite


def test_shapes_that_are_no_priors_are_refused():
    with pytest.raises(ValueError, match=r"at most 65536 priors.*'dense16'"):
        Softmax([(10, 4, 4)], 3)
