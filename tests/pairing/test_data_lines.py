"""Own data in place of what a config inherits, whatever is around its data sets."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmkd.config.pair_config import set_classes, stated_classes
from mmkd.config.read_config import read_config
from mmkd.datasets.data_checks import _leaf_datasets
from mmkd.pairing.data_lines import data_lines
from mmkd.pairing.own_data import OwnData, Part, find_own_data
from tests.tiny import write_coco

SOURCES = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'mmdet::yolox/yolox_s_8xb8-300e_coco.py',  # MultiImageMixDataset
    'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'mmdet::ssd/ssd300_coco.py',  # RepeatDataset
    'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py',  # RepeatDataset of ConcatDataset
    'mmdet::pascal_voc/ssd300_voc0712.py',
    'mmdet::lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1.py',  # ClassBalancedDataset
    'mmdet::htc/htc_r50_fpn_1x_coco.py',  # segments beside the boxes
    'mmdet::cityscapes/faster-rcnn_r50_fpn_1x_cityscapes.py',
    'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',  # three heads in a list
    'mmdet::detr/detr_r50_8xb2-150e_coco.py',
    'mmyolo::yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py',
    'mmyolo::yolov5/voc/yolov5_s-v61_fast_1xb64-50e_voc.py',
]
DATA = OwnData(
    Path('data/mine'),
    ('ant', 'bee', 'cat'),
    {'train': Part('annotations/train.json', 'pictures/'), 'val': Part('annotations/val.json', '')},
)


@pytest.mark.parametrize('source', SOURCES)
def test_all_data_sets_are_ones_own_and_pipelines_stay(source, tmp_path):
    if source.startswith('mmyolo'):
        pytest.importorskip('mmyolo')
    before = read_config(source)
    path = tmp_path / 'own.py'
    lines = [f'_base_ = {source!r}', 'from mmkd.config import set_classes', '']
    lines += [*data_lines(before, DATA), 'set_classes(_base_.model, len(classes))']
    path.write_text('\n'.join(lines))
    after = Config.fromfile(path)
    for phase in ('train', 'val', 'test'):
        [dataset] = _leaf_datasets(after[f'{phase}_dataloader'].dataset)
        split = 'train' if phase == 'train' else 'val'
        assert 'Coco' in dataset.type and dataset.data_root == 'data/mine/'
        assert dataset.ann_file == f'annotations/{split}.json'
        assert dataset.data_prefix == dict(img=DATA.parts[split].images)
        assert tuple(dataset.metainfo.classes) == DATA.classes
        first = next(iter(_leaf_datasets(before[f'{phase}_dataloader'].dataset)))
        assert dataset.pipeline == first.pipeline
        if phase != 'train':
            metric = after[f'{phase}_evaluator']
            assert metric.type.endswith('CocoMetric')
            assert metric.ann_file == 'data/mine/annotations/val.json'
            assert ('segm' in metric.metric) == ('segm' in str(before[f'{phase}_evaluator']))
    assert stated_classes(after.model) == 3
    assert after.model.get('rpn_head', {}).get('num_classes', 1) == 1


def test_other_counts_of_classes_stay():
    model = read_config('mmdet::htc/htc_r50_fpn_1x_coco.py').model
    set_classes(model, 3)
    heads = [*model.roi_head.bbox_head, *model.roi_head.mask_head]
    assert {head.num_classes for head in heads} == {3}
    assert model.roi_head.semantic_head.num_classes == 183


def test_the_parts_of_coco_itself_are_found(tmp_path):
    """Files and folders as COCO names them, with captions beside the boxes."""
    for split in ('train', 'val'):
        file = write_coco(tmp_path, split, 1, ('b', 'a'), seed=1)
        (tmp_path / f'{split}2017').mkdir()
        image = tmp_path / f'JPEGImages/{split}000.jpg'
        image.rename(tmp_path / f'{split}2017' / image.name)
        file.rename(file.with_name(f'instances_{split}2017.json'))
        file.with_name(f'captions_{split}2017.json').write_text('{}')
    found = find_own_data(tmp_path, None)
    assert found.parts == {
        split: Part(f'annotations/instances_{split}2017.json', f'{split}2017/')
        for split in ('train', 'val')
    }
    assert found.classes == ('b', 'a'), 'by their ids'


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({}, 'must have annotations/train.json'),
        ({'all.json': '{}'}, r'needs a JSON file for train.*mmkd data split'),
        ({'train.json': '{}', 'test.json': '{}'}, 'JSON file for val'),
        ({'a_train.json': '{}', 'b_train.json': '{}'}, r'one JSON file for train.*a_train\.json'),
        ({'train.json': '[', 'val.json': '{}'}, r'train\.json must be JSON'),
        ({'train.json': '{}', 'val.json': '{}'}, 'must be in COCO form'),
        (
            {'train.json': '{"images": [{"file_name": "x.jpg"}]}', 'val.json': '{}'},
            r'images of .*train\.json must lie in.*x\.jpg',
        ),
    ],
)
def test_what_is_no_data_set_is_told(files, message, tmp_path):
    (tmp_path / 'annotations').mkdir()
    for name, text in files.items():
        (tmp_path / 'annotations' / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        find_own_data(tmp_path, None)
    assert re.search(message, str(error.value), re.S), error.value
