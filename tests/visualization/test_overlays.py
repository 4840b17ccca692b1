"""The imitation mask and the teacher's weight over an image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS, MODELS

from mmkd.connectors import ImitationMaskConnector
from mmkd.heads import Predictions
from mmkd.visualization.overlays import (
    imitation_mask,
    mask_offset,
    over_image,
    overlays,
    teacher_view,
)
from mmkd.visualization.row_heat import row_heat
from tests.tiny import method, raw_batch, tiny_pair, tiny_ssd, write_coco

pytestmark = pytest.mark.usefixtures('mmdet_scope')


@pytest.fixture
def pair():
    torch.manual_seed(0)
    distiller = method('ssd_imitation').to_dict()['distiller']
    channels = dict(in_channels=[16, 32, 64, 32], out_channels=[32, 64, 128, 32])
    distiller['connectors']['adapter'].update(channels)
    priors = tiny_ssd()['bbox_head']['anchor_generator']
    distiller['connectors']['mask'].update(prior_generator=priors)
    for side in ('student_recorders', 'teacher_recorders'):
        distiller[side]['feature'].update(source='neck')
    return MODELS.build(tiny_pair(distiller=distiller)).eval()


def test_the_mask_covers_objects_of_its_own_image_only(pair):
    raw = raw_batch(2, boxes=1)
    raw['data_samples'][1].gt_instances = raw['data_samples'][1].gt_instances[:0]
    batch = pair.data_preprocessor(raw)
    mask = imitation_mask(pair, **batch)
    assert mask.shape == (2, 64, 64) and set(mask.unique().tolist()) == {0.0, 1.0}
    x1, y1, x2, y2 = raw['data_samples'][0].gt_instances.bboxes[0].tolist()
    assert mask[0, int(y1 + y2) // 2, int(x1 + x2) // 2] == 1
    assert not mask[1].any()
    plain = MODELS.build(tiny_pair()).eval()
    assert imitation_mask(plain, **batch) is None


def test_the_view_is_the_highest_class_probability(pair):
    batch = pair.data_preprocessor(raw_batch(1))
    head = pair.teacher.bbox_head
    maps = head(pair.teacher.extract_feat(pair.teacher_source.translation(batch['inputs'])))[0]
    expected = torch.zeros(1, 64, 64)
    for level in maps:
        _, channels, h, w = level.shape
        rows = level.permute(0, 2, 3, 1).reshape(1, h, w, channels // 4, 4).softmax(-1)
        best = rows[..., :3].amax((-1, -2))
        best = best.repeat_interleave(64 // h, 1).repeat_interleave(64 // w, 2)
        expected = torch.maximum(expected, best)
    torch.testing.assert_close(teacher_view(pair, **batch), expected)


def test_a_cell_is_drawn_around_its_prior():
    level = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
    middle = over_image([level], torch.Size([8, 8]), 0.5)[0]
    corner = over_image([level], torch.Size([8, 8]), 0.0)[0]
    assert middle[:4, 4:].all() and middle.sum() == 16
    assert corner[:2, 2:].all() and corner.sum() == 12  # two pixels up and to the left
    both = over_image([level, torch.full((1, 2, 1, 1), 0.5)], torch.Size([8, 8]), 0.5)[0]
    assert both[0, 0] == 0.5 and both[0, 7] == 1
    anchors = dict(type='AnchorGenerator', strides=[8], ratios=[1.0], scales=[1.0], base_sizes=[9])
    assert mask_offset(ImitationMaskConnector(anchors)) == 0.0
    assert mask_offset(torch.nn.Identity()) == mask_offset(None) == 0.5


@given(
    offset=st.sampled_from([0.0, 0.5]),
    anchors=st.integers(1, 3),
    size=st.tuples(st.integers(9, 40), st.integers(9, 40)),
    boxes=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_rows_colour_their_cells_or_their_boxes(offset, anchors, size, boxes):
    """Pixel by pixel, of two levels, with rows that do not count."""
    cells = [
        (stride * (x + offset), stride * (y + offset), stride, stride)
        for stride in (4, 8)
        for y in range(-(-size[0] // stride))
        for x in range(-(-size[1] // stride))
        for _ in range(anchors)
    ]
    priors = torch.tensor(cells)
    score, valid = torch.rand(1, len(cells), 2), torch.rand(1, len(cells)) < 0.7
    corners = torch.rand(1, len(cells), 2, 2) * 50 - 5
    drawn = torch.cat([corners.amin(2), corners.amax(2)], -1)
    rows = Predictions(score.log(), drawn, None if boxes else priors, valid=valid)
    heat = row_heat(rows, size)[0]
    best = score[0].amax(-1) * valid[0]
    y, x = (torch.arange(n) + 0.5 for n in size)
    if boxes:
        low, high = drawn[0].floor()[:, :2], drawn[0].ceil()[:, 2:]
    else:
        low, high = priors[:, :2] - priors[:, 2:] / 2, priors[:, :2] + priors[:, 2:] / 2
        for step in (4, 8):  # the last cells reach up to the border
            level = priors[:, 2] == step
            for axis in (0, 1):
                last = level & (high[:, axis] == high[level][:, axis].max())
                high[last, axis] = 100.0
    inside = (
        (x >= low[:, None, :1])
        & (x < high[:, None, :1])
        & (y[:, None] >= low[:, 1:, None])
        & (y[:, None] < high[:, 1:, None])
    )
    expected = (inside * best[:, None, None]).amax(0)
    torch.testing.assert_close(heat, expected)


def test_the_ground_truth_is_brought_to_the_size_that_the_network_sees(pair, tmp_path):
    write_coco(tmp_path, 'val', 1, ('ant', 'bee', 'cat'), boxes=1)
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=f'{tmp_path}/',
            ann_file='annotations/val.json',
            data_prefix=dict(img='JPEGImages/'),
            metainfo=dict(classes=('ant', 'bee', 'cat')),
            test_mode=True,
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='Resize', scale=(64, 64), keep_ratio=True),  # 120 x 160 -> 48 x 64
                dict(type='Pad', size=(64, 64)),
                dict(
                    type='PackDetInputs',
                    meta_keys=('img_path', 'ori_shape', 'img_shape', 'scale_factor'),
                ),
            ],
        )
    )
    found = overlays(pair, dataset, 0)
    assert {title: tuple(m.shape) for title, m in found.items()} == {
        'Imitation mask': (48, 64),
        "Teacher's weight": (48, 64),
    }
    x1, y1, x2, y2 = (0.4 * n for n in dataset.get_data_info(0)['instances'][0]['bbox'])
    assert found['Imitation mask'][int(y1 + y2) // 2, int(x1 + x2) // 2] == 1
