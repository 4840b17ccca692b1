import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.geometry.anchor_grid import AnchorGrid, grid_masks, imitation_masks


def brute_force(gt_bboxes, anchor_sizes, strides, featmap_sizes, iou_factor, scope):
    """The definition, cell by cell, in Python's float64."""

    def iou(box, anchor):
        width = min(box[2], anchor[2]) - max(box[0], anchor[0])
        height = min(box[3], anchor[3]) - max(box[1], anchor[1])
        inter = max(width, 0.0) * max(height, 0.0)
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, anchor)]
        return inter / (sum(areas) - inter)

    levels = list(zip(anchor_sizes, strides, featmap_sizes, strict=True))
    masks = [torch.zeros(len(gt_bboxes), 1, *size) for size in featmap_sizes]
    for image, boxes in enumerate(gt_bboxes):
        for box in boxes.double().tolist():
            ious = []  # per level (y, x, iou of the best anchor)
            for sizes, stride, (height, width) in levels:
                found = []
                for y in range(height):
                    for x in range(width):
                        cx, cy = (x + 0.5) * stride, (y + 0.5) * stride
                        anchors = [
                            (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2) for w, h in sizes
                        ]
                        found.append((y, x, max(iou(box, anchor) for anchor in anchors)))
                ious.append(found)
            tops = [max(top for _, _, top in found) for found in ious]
            if scope == 'all_levels':
                tops = [max(tops)] * len(tops)
            for mask, found, top in zip(masks, ious, tops, strict=True):
                for y, x, value in found:
                    if value > iou_factor * top:
                        mask[image, 0, y, x] = 1
    return masks


numbers = st.sampled_from([0, 4, 8, 12, 16, 24, 32, 64])
extents = numbers.filter(bool)
sides = st.floats(1, 90, width=32)
corners = st.floats(-30, 120, width=32)


def box_lists(corner, side, max_size):
    box = st.tuples(corner, corner, side, side).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    )
    return st.lists(st.lists(box, max_size=max_size), min_size=1, max_size=3)


@st.composite
def problems(draw, corner, side, max_boxes):
    num_levels = draw(st.integers(1, 2))
    grid = st.tuples(st.integers(1, 9), st.integers(1, 9))
    anchors = st.lists(st.tuples(side, side), min_size=1, max_size=9)
    boxes = draw(box_lists(corner, side, max_boxes))
    return {
        'gt_bboxes': [torch.tensor(b, dtype=torch.float64).reshape(-1, 4) for b in boxes],
        'anchor_sizes': draw(st.lists(anchors, min_size=num_levels, max_size=num_levels)),
        'strides': draw(
            st.lists(st.sampled_from([4, 8, 16]), min_size=num_levels, max_size=num_levels)
        ),
        'featmap_sizes': draw(st.lists(grid, min_size=num_levels, max_size=num_levels)),
        'iou_factor': draw(st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.75, 1.0])),
        'scope': draw(st.sampled_from(['per_level', 'all_levels'])),
    }


def assert_equals_brute_force(problem):
    for mask, expected in zip(imitation_masks(**problem), brute_force(**problem), strict=True):
        assert mask.dtype == torch.float32
        assert torch.equal(mask, expected)


@given(problems(numbers, extents, max_boxes=4))
@settings(max_examples=60, deadline=None)
def test_equals_brute_force_where_ties_abound(problem):
    # Sizes and corners are multiples of 4: many IoUs are exactly half of the best.
    assert_equals_brute_force(problem)


@given(problems(corners, sides, max_boxes=4))
@settings(max_examples=40, deadline=None)
def test_equals_brute_force_on_any_numbers(problem):
    assert_equals_brute_force(problem)


@pytest.mark.parametrize('scope', ['per_level', 'all_levels'])
@pytest.mark.parametrize('num_boxes', [0, 1, 100])
def test_equals_brute_force_with_many_boxes(scope, num_boxes):
    generator = torch.Generator().manual_seed(num_boxes)
    corner = 60 * torch.rand(num_boxes, 2, generator=generator)
    extent = 40 * torch.rand(num_boxes, 2, generator=generator)
    assert_equals_brute_force(
        {
            'gt_bboxes': [torch.cat([corner, corner + extent], 1), torch.zeros(0, 4)],
            'anchor_sizes': [[(10, 13), (16, 30), (33, 23)], [(30, 61)]],
            'strides': [8, 16],
            'featmap_sizes': [(6, 9), (3, 5)],
            'iou_factor': 0.5,
            'scope': scope,
        }
    )


def test_row_is_y_and_column_is_x():
    # Stride 1: an object centred at x = 16.5, y = 4.5 is centred on column 16, row 4. With an
    # anchor of its own size and a factor of 1 - eps, only the cell of IoU 1 is lit.
    box = torch.tensor([[14.5, 2.5, 18.5, 6.5]])
    (mask,) = imitation_masks([box], [[(4, 4)]], [1], [(8, 32)], iou_factor=0.9)
    assert mask[0, 0].nonzero().tolist() == [[4, 16]]


def test_by_hand():
    # Stride 8, anchor 16 x 16, box (0, 0, 16, 16); cell centres at 4, 12, 20, ... The anchor at
    # x = 4 spans -4..12 and overlaps 12, at 12: 4..20 overlaps 12, at 20: 12..28 overlaps 4.
    # Best IoU: 12 * 12 / (512 - 144) = 0.3913; threshold 0.1957. (12, 4): 48 / 464 = 0.1034 is
    # below it, so exactly the 2 x 2 cells at the corner are lit.
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    (mask,) = imitation_masks([box], [[(16, 16)]], [8], [(3, 4)])
    assert mask[0, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]


def test_a_tie_is_not_lit():
    # One row, stride 8, anchor 8 x 8, box (0, 0, 24, 8): the cells' IoU is 64 / 192 each. With
    # a second object (8, 0, 16, 8) of IoU 1 at cell 1 nothing changes for the first. With
    # iou_factor 1 an IoU equal to the best is not above it.
    boxes = [torch.tensor([[0.0, 0.0, 24.0, 8.0]])]
    grid = ([[(8, 8)]], [8], [(1, 3)])
    assert imitation_masks(boxes, *grid)[0].flatten().tolist() == [1, 1, 1]
    assert imitation_masks(boxes, *grid, iou_factor=1.0)[0].flatten().tolist() == [0, 0, 0]


def test_scope():
    # A 64 x 64 object fits the second level's anchor (IoU 1); the first level's best is 1/16.
    box = [torch.tensor([[0.0, 0.0, 64.0, 64.0]])]
    grids = ([[(16, 16)], [(64, 64)]], [16, 64], [(4, 4), (1, 1)])
    assert [m.mean().item() for m in imitation_masks(box, *grids)] == [1, 1]
    assert [m.mean().item() for m in imitation_masks(box, *grids, scope='all_levels')] == [0, 1]


def test_images_do_not_mix():
    boxes = [torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.zeros(0, 4), torch.zeros(0, 4)]
    (mask,) = imitation_masks(boxes, [[(8, 8)]], [8], [(2, 2)])
    assert mask.shape == (3, 1, 2, 2)
    assert mask.sum((1, 2, 3)).tolist() == [1, 0, 0]


@pytest.mark.parametrize('box', [(9.0, 9.0, 9.0, 20.0), (500.0, 0.0, 600.0, 8.0), (8, 8, 4, 4)])
def test_a_box_without_overlap_lights_nothing(box):
    (mask,) = imitation_masks([torch.tensor([box])], [[(8, 8)]], [8], [(4, 4)], iou_factor=0.0)
    assert not mask.any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64, torch.int64])
def test_any_dtype(dtype):
    box = torch.tensor([[0, 0, 16, 16]], dtype=dtype)
    (mask,) = imitation_masks([box], [[(16, 16)]], [8], [(3, 4)])
    assert mask.dtype == torch.float32 and mask.sum() == 4


def test_any_centres_and_strides():
    # An anchor of 8 x 8 at the corner of its cell, stride (8, 4): that of cell (1, 2) spans
    # x 16 - 4 .. 16 + 4 and y 4 - 4 .. 4 + 4.
    grid = AnchorGrid(torch.tensor([[8.0, 8.0]]), torch.zeros(1, 2), (8, 4), (3, 4))
    box = torch.tensor([[12.0, 0.0, 20.0, 8.0]])
    (mask,) = grid_masks(box, torch.zeros(1), 1, [grid], iou_factor=0.9)
    assert mask[0, 0].nonzero().tolist() == [[1, 2]]


BOX = [torch.zeros(1, 4)]


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ((BOX, [[(8, 8)]], [8, 16], [(2, 2)]), 'one entry per level, got 1, 2 and 1'),
        ((BOX, [], [], []), 'one entry per level'),
        (([], [[(8, 8)]], [8], [(2, 2)]), 'for each image'),
        (([torch.zeros(4)], [[(8, 8)]], [8], [(2, 2)]), r'got \[\(4,\)\]'),
        ((BOX, [[]], [8], [(2, 2)]), 'at least one anchor'),
        ((BOX, [[(8, 0)]], [8], [(2, 2)]), 'positive width and height'),
        ((BOX, [[(8, 8)]], [8], [(2, 2)], 1.5), 'iou_factor must be between 0 and 1, got 1.5'),
        ((BOX, [[(8, 8)]], [8], [(2, 2)], 0.5, 'image'), "scope must be .* got 'image'"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        imitation_masks(*arguments)
