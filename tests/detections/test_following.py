"""Detections go where ground truth goes, through each transform; and change nothing of it."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch

import mmkd  # noqa: F401

# isort: split
from mmcv.transforms import BaseTransform
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.registry import DefaultScope

from mmkd.datasets.seeding import seeded
from mmkd.detections.carrying_boxes import CarryingBoxes
from mmkd.detections.feed import collate, give_detections, unload
from mmkd.detections.results_file import read_results
from tests.tiny import write_coco

CLASSES = ('a', 'b', 'c')
IMAGES = 6
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
ARRAYS = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', box_type=None)]
PACK = dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'img_shape', 'ori_shape'))


@TRANSFORMS.register_module(force=True)
class MirrorsTensors(BaseTransform):
    """A transform of a user's own, which makes new boxes, of arrays."""

    def transform(self, results):
        if np.random.rand() < 0.5:
            width = results['img'].shape[1]
            results['img'] = np.ascontiguousarray(results['img'][:, ::-1])
            boxes = results['gt_bboxes'].numpy().copy()
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            results['gt_bboxes'] = HorizontalBoxes(boxes)
        return results


@TRANSFORMS.register_module(force=True)
class CropsToBoxes(BaseTransform):
    """It cannot be followed: the crop is that of the boxes, which it makes anew."""

    def transform(self, results):
        boxes = results['gt_bboxes'].numpy()
        x, y = boxes[:, :2].min(0).astype(int)
        results['img'] = results['img'][y:, x:]
        results['img_shape'] = results['img'].shape[:2]
        results['gt_bboxes'] = HorizontalBoxes(boxes - [x, y, x, y])
        return results


def resize(side=96, keep=False):
    return dict(type='Resize', scale=(side, side), keep_ratio=keep)


SSD = [
    dict(
        type='Expand', mean=[1, 2, 3], to_rgb=True, ratio_range=(1, 4),
    ),
    dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3, 0.5, 0.7, 0.9), min_crop_size=0.3),
    resize(),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
]  # fmt: skip
PIPELINES = {
    'SSD': SSD,
    'MinIoURandomCrop alone': [SSD[1]],
    'flips': [
        dict(type='RandomFlip', prob=[0.3] * 3, direction=['horizontal', 'vertical', 'diagonal'])
    ],
    'resize': [resize(keep=True), dict(type='Pad', size_divisor=32)],
    'RandomChoiceResize': [
        dict(type='RandomChoiceResize', scales=[(64, 96), (200, 100)], keep_ratio=True)
    ],
    'RandomCrop': [
        dict(
            type='RandomCrop', crop_size=(0.4, 0.6), crop_type='relative', allow_negative_crop=True
        )
    ],
    'RandomCrop without empty ones, unclipped': [
        dict(
            type='RandomCrop', crop_size=(70, 80), bbox_clip_border=False, allow_negative_crop=True
        ),
        dict(type='RandomAffine', bbox_clip_border=False),
    ],
    'RandomCenterCropPad': [
        dict(type='PhotoMetricDistortion'),  # it makes floating-point numbers
        dict(
            type='RandomCenterCropPad',
            crop_size=(96, 96),
            ratios=(0.6, 1.0, 1.3),
            mean=[0, 0, 0],
            std=[1, 1, 1],
            to_rgb=True,
            test_pad_mode=None,
        ),
    ],
    'affine': [dict(type='RandomAffine', scaling_ratio_range=(0.3, 2.0), border=(-10, -5))],
    'YOLOv5 affine': [
        dict(
            type='mmyolo.YOLOv5RandomAffine',
            max_rotate_degree=20.0,
            max_shear_degree=5.0,
            scaling_ratio_range=(0.3, 2.0),
            border=(-20, -30),
            max_translate_ratio=0.4,
        )
    ],
    'geometry': [
        dict(
            type='RandomOrder',
            transforms=[
                dict(type=kind, prob=0.7)
                for kind in ('Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY')
            ],
        )
    ],
    'RandomErasing': [
        dict(type='RandomErasing', n_patches=(2, 5), ratio=(0.2, 0.5), bbox_erased_thr=0.3)
    ],
    'RandomShift': [dict(type='RandomShift', prob=1.0, max_shift_px=32)],
    'PPYOLOERandomCrop': [dict(type='mmyolo.PPYOLOERandomCrop')],
    'letterbox': [
        dict(type='mmyolo.YOLOv5KeepRatioResize', scale=(96, 96)),
        dict(type='mmyolo.LetterResize', scale=(96, 96), allow_scale_up=False),
        dict(type='mmyolo.YOLOv5HSVRandomAug'),
    ],
    'FilterAnnotations': [
        resize(40),
        dict(type='FilterAnnotations', min_gt_bbox_wh=(12, 15), keep_empty=False),
    ],
    "a user's own": [dict(type='MirrorsTensors'), dict(type='RandomFlip', prob=0.5)],
    'wrapped': [
        dict(type='RandomApply', transforms=[dict(type='RandomFlip', prob=1.0)], prob=0.5),
        dict(type='RandomChoice', transforms=[[resize(64)], [dict(type='MirrorsTensors')]]),
    ],
}


MOSAIC = [
    dict(type='mmyolo.Mosaic', img_scale=(96, 96), pad_val=114.0, pre_transform=LOAD),
    dict(
        type='mmyolo.YOLOv5RandomAffine',
        max_rotate_degree=0.0,
        max_shear_degree=0.0,
        scaling_ratio_range=(0.5, 1.5),
        border=(-48, -48),
        border_val=(114, 114, 114),
    ),
]
YOLOV5 = [
    *MOSAIC,
    dict(type='mmyolo.YOLOv5MixUp', prob=0.7, pre_transform=[*LOAD, *MOSAIC]),
    dict(type='RandomFlip', prob=0.5),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(4, 4), keep_empty=False),
]
YOLOX = [
    dict(type='Mosaic', img_scale=(96, 96), pad_val=114.0),
    dict(type='RandomAffine', scaling_ratio_range=(0.3, 2), border=(-48, -48)),
    dict(type='MixUp', img_scale=(96, 96), ratio_range=(0.8, 1.6), pad_val=114.0),
    dict(type='RandomFlip', prob=0.5),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images with objects, and with none; the ground truth as results is the teacher's file."""
    found = tmp_path_factory.mktemp('data')
    path = write_coco(found, 'train', IMAGES, CLASSES, boxes=3)
    content = json.loads(path.read_text())
    (found / 'bare.json').write_text(json.dumps({**content, 'annotations': []}))
    rows = [
        {**{key: a[key] for key in ('image_id', 'category_id', 'bbox')}, 'score': 0.5 + i / 100}
        for i, a in enumerate(content['annotations'])
    ]
    (found / 'teacher.json').write_text(json.dumps(rows))
    return found


def build(folder, pipeline, file='annotations/train.json', outer=None):
    data = dict(
        type='CocoDataset', data_root=f'{folder}/', ann_file=file,
        data_prefix=dict(img='JPEGImages'), metainfo=dict(classes=CLASSES), pipeline=pipeline,
    )  # fmt: skip
    if outer is not None:
        data = dict(type='MultiImageMixDataset', dataset=data, pipeline=outer)
    elif any('mmyolo' in str(t) for t in pipeline):
        data['type'] = 'mmyolo.YOLOv5CocoDataset'
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(data)


def with_detections(folder, dataset):
    give_detections(dataset, read_results(folder / 'teacher.json'))
    return dataset


def draw(dataset, index, view):
    with seeded(index, view):
        return dataset[index]


def same_truth(one, other):
    assert torch.equal(one['inputs'], other['inputs'])
    for name in ('gt_instances', 'ignored_instances'):
        own, given = one['data_samples'].get(name), other['data_samples'].get(name)
        assert type(own.bboxes) is type(given.bboxes)
        assert torch.equal(*(getattr(i.bboxes, 'tensor', i.bboxes) for i in (own, given)))
        assert torch.equal(own.labels, given.labels)


def check(dataset, taught, found_some=True):
    """Without and with detections: one view, and the detections are the ground truth."""
    count = 0
    for index in range(len(dataset)):
        for view in range(2):
            own, given = draw(dataset, index, view), draw(taught, index, view)
            boxes, scores = unload(given['data_samples'])
            same_truth(own, given)
            truth = own['data_samples'].gt_instances
            tensor = getattr(truth.bboxes, 'tensor', truth.bboxes)
            seen = ((tensor[:, 2:] - tensor[:, :2]) >= 1).all(1)
            rows = sorted(
                [*b, float(label)]
                for b, label in zip(tensor[seen].tolist(), truth.labels[seen].tolist(), strict=True)
            )
            found = sorted(
                [*b, float(s)]
                for b, s in zip(boxes.tolist(), scores.argmax(1).tolist(), strict=True)
            )
            torch.testing.assert_close(torch.tensor(found), torch.tensor(rows), rtol=0, atol=1e-4)
            count += len(found)
    assert bool(count) is found_some


@pytest.mark.parametrize('name', PIPELINES)
def test_detections_that_are_the_ground_truth_stay_so(folder, name):
    pipeline = [*LOAD, *PIPELINES[name], PACK]
    dataset = build(folder, pipeline)
    check(dataset, with_detections(folder, copy.deepcopy(dataset)))


def test_through_mosaic_and_mix_up_of_mmyolo(folder):
    dataset = build(folder, [*LOAD, *YOLOV5, PACK])
    check(dataset, with_detections(folder, copy.deepcopy(dataset)))


def test_annotations_that_are_loaded_again_bring_them_again(folder):
    """As ``pre_transform`` of a Mosaic does with the images that its cache keeps."""
    flip = dict(type='RandomFlip', prob=1.0)
    check(*build_again(folder, [flip, *LOAD]))
    mosaic = dict(
        type='mmyolo.Mosaic', img_scale=(96, 96), use_cached=True, max_cached_images=6,
        pre_transform=[flip, *LOAD],
    )  # fmt: skip
    pytest.importorskip('mmyolo')
    check(*build_again(folder, [mosaic]))


def build_again(folder, pipeline):
    dataset = build(folder, [*LOAD, *pipeline, PACK])
    return dataset, with_detections(folder, copy.deepcopy(dataset))


@pytest.mark.parametrize('name', ['SSD', 'affine', 'RandomCrop'])
def test_of_a_pipeline_with_arrays_the_ground_truth_stays_an_array(folder, name):
    dataset = build(folder, [*ARRAYS, *PIPELINES[name], PACK])
    assert type(dataset[0]['data_samples'].gt_instances.bboxes) is torch.Tensor
    check(dataset, with_detections(folder, copy.deepcopy(dataset)))


def test_through_mosaic_and_mix_up_of_mmdet(folder):
    dataset = build(folder, LOAD, outer=[*YOLOX, PACK])
    check(dataset, with_detections(folder, copy.deepcopy(dataset)))


@pytest.mark.parametrize('name', sorted(set(PIPELINES) - {'PPYOLOERandomCrop', 'RandomShift'}))
def test_in_images_without_ground_truth_they_are_where_the_objects_are(folder, name):
    """An oracle: a bright corner of the object is moved as a pixel, its box as a box."""
    pipeline = [*LOAD, *PIPELINES[name], PACK]
    full, bare = build(folder, pipeline), build(folder, pipeline, 'bare.json')
    with_detections(folder, full), with_detections(folder, bare)
    some = 0
    for index in range(3):
        for view in range(3):
            with_objects, without = draw(full, index, view), draw(bare, index, view)
            if with_objects is None or not torch.equal(with_objects['inputs'], without['inputs']):
                continue  # drawn by the boxes
            boxes, scores = unload(with_objects['data_samples'])
            alone, alone_scores = unload(without['data_samples'])
            assert torch.equal(boxes, alone) and torch.equal(scores, alone_scores)
            assert not len(without['data_samples'].gt_instances)
            some += len(alone)
    assert some


def test_a_crop_of_an_image_without_ground_truth_moves_them_by_its_corner(folder):
    crop = dict(type='MinIoURandomCrop', min_ious=(0.9,), min_crop_size=0.3)
    bare = with_detections(folder, build(folder, [*LOAD, crop, PACK], 'bare.json'))
    whole = build(folder, [*LOAD, PACK])
    cropped = 0
    for view in range(12):
        image = draw(whole, 0, view)['inputs']
        found = draw(bare, 0, view)
        height, width = found['inputs'].shape[1:]
        places = [
            (x, y)
            for y in range(image.shape[1] - height + 1)
            for x in range(image.shape[2] - width + 1)
            if torch.equal(image[:, y : y + height, x : x + width], found['inputs'])
        ]
        assert len(places) == 1
        (x, y), shift = places[0], torch.tensor([*places[0], *places[0]])
        truth = draw(whole, 0, view)['data_samples'].gt_instances.bboxes.tensor
        centres = (truth[:, :2] + truth[:, 2:]) / 2 - torch.tensor([x, y])
        inside = ((centres > 0) & (centres < torch.tensor([width, height]))).all(1)
        limit = torch.tensor([width, height, width, height])
        wanted = (truth - shift)[inside].clamp(min=0).minimum(limit)
        boxes, _ = unload(found['data_samples'])
        assert sorted(boxes.tolist()) == sorted(wanted.tolist())
        cropped += (x, y) != (0, 0)
    assert cropped


def test_a_transform_that_draws_by_boxes_it_makes_anew_is_refused(folder):
    dataset = with_detections(folder, build(folder, [*LOAD, dict(type='CropsToBoxes'), PACK]))
    other = json.loads((folder / 'teacher.json').read_text())[:1]
    other[0]['bbox'] = [1, 1, 5, 5]
    (folder / 'other.json').write_text(json.dumps(other))
    give_detections(dataset, read_results(folder / 'other.json'))
    with pytest.raises(ValueError, match='CropsToBoxes draws by the boxes themselves'):
        dataset[0]


def test_pasted_objects_are_refused(folder):
    paste = dict(type='mmyolo.YOLOv5CopyPaste')
    dataset = with_detections(folder, build(folder, [*LOAD, paste, PACK]))
    with pytest.raises(ValueError, match='YOLOv5CopyPaste pastes objects by their masks'):
        dataset[0]
    early = [LOAD[0], dict(type=type('InstaBoost', (CropsToBoxes,), {})), LOAD[1], PACK]
    with pytest.raises(ValueError, match='InstaBoost pastes objects'):
        with_detections(folder, build(folder, early))[0]


def test_annotations_may_be_loaded_first(folder):
    small = dict(type='FilterAnnotations', min_gt_bbox_wh=(30, 30), keep_empty=False)
    dataset = build(folder, [LOAD[1], small, LOAD[0], *PIPELINES['flips'], PACK])
    check(dataset, with_detections(folder, copy.deepcopy(dataset)))


def test_boxes_of_masks_are_followed(folder):
    """A crop that makes boxes of masks: the detections are cropped as boxes are."""
    content = json.loads((folder / 'annotations/train.json').read_text())
    for one in content['annotations']:
        x, y, w, h = one['bbox']
        one['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    (folder / 'masks.json').write_text(json.dumps(content))
    load = [LOAD[0], dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]
    crop = dict(
        type='RandomCrop', crop_size=(60, 80), recompute_bbox=True, allow_negative_crop=True
    )
    dataset = build(folder, [*load, crop, PACK], 'masks.json')
    boxes_alone = build(folder, [*LOAD, {**crop, 'recompute_bbox': False}, PACK])
    given = with_detections(folder, copy.deepcopy(dataset))
    for index in range(4):
        own, view = draw(dataset, index, 0), draw(given, index, 0)
        boxes, _ = unload(view['data_samples'])
        same_truth(own, view)
        wanted = draw(boxes_alone, index, 0)['data_samples'].gt_instances.bboxes.tensor
        kept = ((wanted[:, 2:] - wanted[:, :2]) >= 1).all(1)
        assert sorted(boxes.tolist()) == sorted(wanted[kept].tolist())


def test_a_data_set_of_another_kind_is_refused(folder):
    with pytest.raises(ValueError, match=r"data sets of mmengine's kind.*but got Other"):
        give_detections(type('Other', (), {})(), read_results(folder / 'teacher.json'))


def test_a_pipeline_that_loses_them_is_named(folder):
    dataset = build(folder, [*LOAD, PACK])  # none were given
    with pytest.raises(ValueError, match='they are lost at the end'):
        unload(dataset[0]['data_samples'])


def test_carrying_boxes_are_the_boxes(folder):
    dataset = with_detections(folder, build(folder, [*LOAD, PACK]))
    truth = dataset[0]['data_samples'].gt_instances.bboxes
    assert isinstance(truth, CarryingBoxes) and isinstance(truth, HorizontalBoxes)
    for made in (
        pickle.loads(pickle.dumps(truth)), copy.deepcopy(truth), truth.clone(), truth.to('cpu'),
        truth.cpu(), truth.detach(), truth[torch.ones(3, dtype=torch.bool)],
    ):  # fmt: skip
        assert torch.equal(made.tensor, truth.tensor)
        assert torch.equal(made.carried.boxes.tensor, truth.carried.boxes.tensor)
    made.translate_((1, 2))
    made.resize_((2, 2))
    made.rotate_((10, 10), 30)
    assert not torch.equal(made.carried.boxes.tensor, truth.carried.boxes.tensor)
    torch.testing.assert_close(made.carried.boxes.tensor, made.tensor)
    assert torch.equal(HorizontalBoxes.overlaps(truth, truth).diag(), torch.ones(3))
    assert type(truth.convert_to('hbox')) is HorizontalBoxes


def test_a_batch_brings_them_beside_itself(folder):
    dataset = with_detections(folder, build(folder, [*LOAD, PACK]))
    batch = collate(
        [dataset[0], dataset[1]],
        lambda items: dict(data_samples=[i['data_samples'] for i in items]),
    )
    assert [len(boxes) for boxes, _ in batch['teacher_detections']] == [3, 3]
    assert type(batch['data_samples'][0].gt_instances.bboxes) is HorizontalBoxes
