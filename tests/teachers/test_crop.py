"""The teacher's maps where its padding makes them larger than the student's."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmkd.teachers.crop import crop_records
from tests.tiny import raw_batch, tiny_pair, tiny_ssd, tiny_ssd_with_adapters

pytestmark = pytest.mark.usefixtures('mmdet_scope')
STRIDES = (4, 8, 16, 32, 64)
sides = st.integers(64, 700)


def recorders(*records):
    named = {str(i): SimpleNamespace(data_buffer=[record]) for i, record in enumerate(records)}
    return SimpleNamespace(recorders=named)


def pyramid(height, width, round_up):
    """Each cell holds its row and column."""
    levels = []
    for stride in STRIDES:
        h, w = (-(-side // stride) if round_up else side // stride for side in (height, width))
        rows, columns = torch.arange(h)[:, None].expand(h, w), torch.arange(w).expand(h, w)
        levels.append(torch.stack([rows, columns])[None])
    return levels


@given(sides, sides, st.sampled_from([64, 128]), st.booleans())
def test_each_level_is_cropped_to_the_students_and_keeps_its_cells(height, width, divisor, up):
    padded = [side + -side % divisor for side in (height, width)]
    student, teacher = pyramid(height, width, up), pyramid(*padded, True)
    of_teacher = recorders(teacher, (teacher[0], [teacher[1]]))
    crop_records(of_teacher, recorders(tuple(student)), (height, width), divisor)
    [whole], [nested] = (r.data_buffer for r in of_teacher.recorders.values())
    for level, map_S in zip(whole, student, strict=True):
        assert torch.equal(level, map_S)
    assert torch.equal(nested[0], whole[0]) and torch.equal(nested[1][0], whole[1])


def test_without_padding_or_a_counterpart_nothing_is_cropped():
    maps = [torch.zeros(1, 2, 10, 10), torch.zeros(1, 100, 2), None]
    same = recorders(maps)
    crop_records(same, recorders([torch.zeros(1, 2, 9, 9)]), (320, 320), 32)
    assert same.recorders['0'].data_buffer[0] == maps
    # 10 x 10 at stride 32 would be 9 x 9, which the student does not have
    crop_records(same, recorders([torch.zeros(1, 2, 7, 7)]), (288, 290), 320)
    assert [getattr(m, 'shape', m) for m in same.recorders['0'].data_buffer[0]] == [
        getattr(m, 'shape', m) for m in maps
    ]


@pytest.mark.parametrize('pair', [tiny_pair, tiny_ssd_with_adapters])
def test_a_teacher_that_pads_teaches_at_any_size(pair, monkeypatch):
    """72 pixels: maps of 9, 5, 3 and 2 cells, behind the teacher's padding to 96 of 12, 6, 3, 2."""
    torch.manual_seed(0)
    teacher = tiny_ssd(width=16, std=1.0)
    teacher['data_preprocessor']['pad_size_divisor'] = 32
    config = pair()
    config['teacher'] = teacher
    model = MODELS.build(config).train()
    for size in (64, 72, 96, 100):
        data = model.data_preprocessor(raw_batch(size=size), True)
        losses = model(**data, mode='loss')
        assert all(
            torch.isfinite(torch.as_tensor(v)).all() for k, v in losses.items() if 'distill' in k
        )
    monkeypatch.setattr('mmkd.algorithms.detection_distill.crop_records', lambda *_: None)
    data = model.data_preprocessor(raw_batch(size=72), True)
    with pytest.raises((ValueError, RuntimeError)):
        model(**data, mode='loss')
