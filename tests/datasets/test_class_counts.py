"""num_classes anywhere in a model against the classes of the data."""

import importlib.util

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from mmkd.datasets.class_counts import check_class_counts, class_counts
from mmkd.datasets.data_checks import check_data
from tests.tiny import tiny_pair, tiny_ssd, tiny_yolov5, write_coco

CLASSES = ('ant', 'bee', 'cat')


def run_of(model: dict, scope: str = 'mmdet') -> Config:
    return Config(dict(default_scope=scope, model=model))


def zoo(name: str) -> dict:
    return get_config(f'mmdet::{name}.py').model.to_dict()


def set_counts(node, count: int):
    """The model with each ``num_classes`` that is written in it changed."""
    if isinstance(node, dict):
        return {
            key: count if key == 'num_classes' else set_counts(value, count)
            for key, value in node.items()
        }
    return [set_counts(item, count) for item in node] if isinstance(node, list) else node


# name: how many parts have a number
ZOO = {
    'ssd/ssd300_coco': 1,
    'retinanet/retinanet_r50_fpn_1x_coco': 1,
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco': 1,
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco': 2,
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco': 4,
    'htc/htc_r50_fpn_1x_coco': 6,
    'ms_rcnn/ms-rcnn_r50-caffe_fpn_1x_coco': 3,
    'yolox/yolox_s_8xb8-300e_coco': 1,
    'detr/detr_r50_8xb2-150e_coco': 1,
    'dino/dino-4scale_r50_8xb2-12e_coco': 1,
    'rtmdet/rtmdet_tiny_8xb32-300e_coco': 1,
    'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco': 6,
}


@pytest.mark.parametrize('name', ZOO)
def test_models_of_the_zoo(name):
    model = zoo(name)
    counts = class_counts(model, 'mmdet', 'model')
    assert [count for _, count in counts] == [80] * ZOO[name]
    with pytest.raises(ValueError, match=r'must be the number of classes of the data, 3 \(ant, be'):
        check_class_counts(run_of(model), CLASSES)
    assert check_class_counts(run_of(set_counts(model, 3)), CLASSES) == []


def test_the_key_is_named():
    model = set_counts(zoo('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco'), 3)
    model['roi_head']['bbox_head'][1]['num_classes'] = 4
    with pytest.raises(ValueError, match=r'^model\.roi_head\.bbox_head\[1\]\.num_classes must be'):
        check_class_counts(run_of(model), CLASSES)


def test_what_is_not_written_is_the_types_default():
    model = set_counts(zoo('mask_rcnn/mask-rcnn_r50_fpn_1x_coco'), 3)
    del model['roi_head']['mask_head']['num_classes']
    with pytest.raises(ValueError, match=r'mask_head\.num_classes must be .* but is 80\.'):
        check_class_counts(run_of(model), CLASSES)
    model['roi_head']['mask_head']['class_agnostic'] = True  # one mask for all
    assert check_class_counts(run_of(model), CLASSES) == []


@pytest.mark.skipif(not importlib.util.find_spec('mmyolo'), reason='needs the extra [yolo]')
def test_models_of_mmyolo():
    assert check_class_counts(run_of(tiny_yolov5(), 'mmyolo'), CLASSES) == []
    with pytest.raises(ValueError, match=r'bbox_head\.head_module\.num_classes must be'):
        check_class_counts(run_of(tiny_yolov5(classes=80), 'mmyolo'), CLASSES)
    model = get_config('mmyolo::yolov8/yolov8_s_syncbn_fast_8xb16-500e_coco.py').model.to_dict()
    counts = class_counts(model, 'mmyolo', 'model')
    assert {key for key, _ in counts} == {
        'model.bbox_head.head_module.num_classes',
        'model.train_cfg.assigner.num_classes',
    }


def test_detectors_of_free_text_have_no_fixed_classes():
    model = dict(type='GroundingDINO', language_model=dict(), bbox_head=dict(num_classes=256))
    assert check_class_counts(run_of(model), CLASSES) == []


def test_pairs(tmp_path):
    assert check_class_counts(run_of(tiny_pair()), CLASSES) == []
    with pytest.raises(ValueError, match=r'^model\.architecture\.bbox_head\.num_classes must be'):
        check_class_counts(run_of(tiny_pair(architecture=tiny_ssd(4))), CLASSES)
    file = tmp_path / 'student.py'
    Config(dict(model=tiny_ssd(5))).dump(file)
    with pytest.raises(ValueError, match=r'^model\.architecture\.bbox_head\.num_classes .* is 5'):
        check_class_counts(run_of(tiny_pair(architecture=str(file))), CLASSES)
    pair = tiny_pair()
    pair['distiller']['distill_losses']['loss_soft']['num_classes'] = 20
    with pytest.raises(ValueError, match=r'distill_losses\.loss_soft\.num_classes must be'):
        check_class_counts(run_of(pair), CLASSES)


def test_a_teacher_of_other_classes_is_said():
    """Its features may be distilled all the same."""
    [note] = check_class_counts(run_of(tiny_pair(teacher=tiny_ssd(80))), CLASSES)
    assert 'model.teacher.bbox_head.num_classes=80' in note


def test_before_each_run(tmp_path):
    """check_data, which all tools call, asks for it."""
    write_coco(tmp_path, 'train', 1, CLASSES)
    dataset = dict(
        type='CocoDataset',
        data_root=f'{tmp_path}/',
        ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=CLASSES),
    )
    cfg = run_of(tiny_ssd(3))
    cfg.train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=dataset))
    check_data(cfg, ('train',))
    cfg.model.bbox_head.num_classes = 2
    with pytest.raises(ValueError, match=r'model\.bbox_head\.num_classes must be .* but is 2'):
        check_data(cfg, ('train',))
