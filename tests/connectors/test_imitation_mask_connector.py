import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData
from mmrazor.registry import MODELS

from mmkd.connectors import ImitationMaskConnector
from mmkd.geometry.anchor_grid import imitation_masks
from mmkd.heads.level_anchors import build_task_util

BASE_SIZES = [[(10, 13), (16, 30)], [(30, 61), (62, 45)]]
YOLO = {'type': 'mmdet.YOLOAnchorGenerator', 'base_sizes': BASE_SIZES, 'strides': [8, 16]}
SIZES = [(6, 8), (3, 4)]
BOXES = [torch.tensor([[3.0, 5.0, 20.0, 33.0], [30.0, 1.0, 60.0, 47.0]]), torch.zeros(0, 4)]


def features(sizes=SIZES):
    return tuple(torch.zeros(2, 3, *size) for size in sizes)


def samples(box_type=None):
    made = []
    for boxes in BOXES:
        sample = DetDataSample()
        labels = torch.zeros(len(boxes), dtype=torch.long)
        sample.gt_instances = InstanceData(
            bboxes=box_type(boxes) if box_type else boxes, labels=labels
        )
        made.append(sample)
    return made


def fast_collate():
    boxes = torch.cat(BOXES)
    image_and_class = torch.tensor([[0.0, 2.0]]).expand(len(boxes), 2)
    return {'bboxes_labels': torch.cat([image_and_class, boxes], 1), 'img_metas': []}


@pytest.mark.parametrize('scope', ['per_level', 'all_levels'])
@pytest.mark.parametrize(
    'ground_truth',
    [samples(), samples(HorizontalBoxes), fast_collate()],
    ids=['tensors', 'box type', 'fast collate'],
)
def test_equals_the_pure_function(ground_truth, scope):
    connector = MODELS.build(
        {'type': 'mmrazor.ImitationMaskConnector', 'prior_generator': YOLO, 'scope': scope}
    )
    masks = connector([features(), ground_truth])
    expected = imitation_masks(BOXES, BASE_SIZES, [8, 16], SIZES, scope=scope)
    assert [m.shape for m in masks] == [(2, 1, *size) for size in SIZES]
    assert all(torch.equal(m, e) for m, e in zip(masks, expected, strict=True))
    assert masks[0].any() and not masks[0][1].any()


def iou_of_generator(generator, sizes, boxes):
    """IoU of each prior of the generator's own grid with each box, per level."""
    from mmdet.structures.bbox import bbox_overlaps

    grids = generator.grid_priors(sizes, dtype=torch.float64, device='cpu')
    return [bbox_overlaps(grid, boxes.double(), eps=1e-12) for grid in grids]


GENERATORS = {
    'anchors': {
        'type': 'AnchorGenerator',
        'strides': [8, 16],
        'ratios': [0.5, 1.0, 2.0],
        'scales': [2, 3],
    },
    'offset': {
        'type': 'AnchorGenerator',
        'strides': [8, 16],
        'ratios': [1.0],
        'scales': [3],
        'center_offset': 0.5,
    },
    'ssd': {
        'type': 'SSDAnchorGenerator',
        'scale_major': False,
        'strides': [8, 16],
        'ratios': [[2], [2, 3]],
        'min_sizes': [12, 28],
        'max_sizes': [28, 44],
    },
    'yolo': YOLO,
}


@pytest.mark.parametrize('config', GENERATORS.values(), ids=GENERATORS)
def test_honours_the_generators_own_grid(config):
    masks = ImitationMaskConnector(config, scope='all_levels')([features(), samples()])
    ious = iou_of_generator(build_task_util(config), SIZES, BOXES[0])
    best = torch.stack([iou.amax(0) for iou in ious]).amax(0)
    for mask, iou, (height, width) in zip(masks, ious, SIZES, strict=True):
        lit = (iou > 0.5 * best).any(1).view(height, width, -1).any(-1)
        assert torch.equal(mask[0, 0] > 0, lit)


def test_a_list_of_anchors_in_cells():
    # The 5 anchors of the YOLOv5 reference, on stride 8.
    cells = [(1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892), (9.47112, 4.84053)]
    cells.append((11.2364, 10.0071))
    (mask,) = ImitationMaskConnector(cells, strides=[8])([features([(6, 8)]), samples()])
    # float32 cells times 8 are exact
    sizes = [(8 * torch.tensor(cells)).tolist()]
    assert torch.equal(mask, imitation_masks(BOXES, sizes, [8], [(6, 8)])[0])


def test_levels_chooses_what_is_returned():
    connector = ImitationMaskConnector(YOLO, scope='all_levels', levels=[1])
    both = ImitationMaskConnector(YOLO, scope='all_levels')
    (mask,) = connector([features(), samples()])
    assert torch.equal(mask, both([features(), samples()])[1])


POINTS = {'type': 'mmdet.MlvlPointGenerator', 'strides': [8, 16]}


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'prior_generator': POINTS}, 'must make anchors.*got MlvlPointGenerator'),
        ({'prior_generator': [(1, 2)]}, 'needs the strides of the levels'),
        ({'prior_generator': YOLO, 'scope': 'image'}, "got 'image'"),
        ({'prior_generator': YOLO, 'iou_factor': 2}, 'between 0 and 1'),
        ({'prior_generator': YOLO, 'levels': [2]}, r'among the 2 levels.*got \[2\]'),
    ],
)
def test_bad_configs_are_refused_when_built(arguments, match):
    with pytest.raises(ValueError, match=match):
        ImitationMaskConnector(**arguments)


@pytest.mark.parametrize(
    ('record', 'match'),
    [
        (features(), 'must have the 2 levels'),
        ([features()], r'must be the inputs \(x, batch_data_samples\)'),
        ((*features(), samples()), 'must have the 2 levels'),
        ([features()[:1], samples()], 'must have the 2 levels'),
        ([features(), {'labels': []}], "must hold 'bboxes_labels'"),
        ([features(), [None, None]], 'must be a list of DetDataSample'),
    ],
)
def test_bad_records_are_refused(record, match):
    with pytest.raises(ValueError, match=match):
        ImitationMaskConnector(YOLO)(record)
