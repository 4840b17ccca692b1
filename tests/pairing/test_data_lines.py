"""Own data in place of what a config inherits, whatever is around its data sets."""

import json
import re
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

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
    assert found.classes == ('b', 'a'), 'as the file has them'


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
            {'train.json': '{"images": [{"file_name": "x.jpg"}]}', 'val.json': '{"images": []}'},
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


def numbered(root, split, folder, images=3, size=(32, 24), shade=0, classes=('a', 'b'), name=None):
    """A part whose images are numbered from 0, in a folder of their own."""
    (root / 'annotations').mkdir(parents=True, exist_ok=True)
    records, boxes = [], []
    for i in range(images):
        file = root / folder / f'{i:04d}.jpg'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size, (shade, i, 0)).save(file)
        records.append(dict(id=i, file_name=file.name, width=size[0], height=size[1]))
        box = [1 + shade % 7, 2, 9, 8]
        boxes.append(dict(id=i, image_id=i, category_id=1, bbox=box, area=72, iscrowd=0))
    kinds = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
    file = root / f'annotations/{name or split}.json'
    file.write_text(json.dumps(dict(images=records, annotations=boxes, categories=kinds)))
    return file


def folders_of(root) -> dict[str, str]:
    return {split: part.images for split, part in find_own_data(root, None).parts.items()}


@pytest.mark.parametrize(
    ('train', 'val'),
    [
        ('train/images', 'val/images'),
        ('train2017/img', 'val2017/img'),
        ('images/train', 'images/val'),
        ('images/train2017/cam0', 'images/val2017/cam0'),
        ('a/b/c/training/d', 'a/b/c/validation/d'),
        ('.', 'val'),
        ('mytrain', 'myval'),
        ('a', 'b/valid'),
    ],
)
@pytest.mark.parametrize('size', [(32, 24), (40, 24)])
def test_each_part_gets_the_images_of_its_own_folder(train, val, size, tmp_path):
    """Both number their images from 0."""
    numbered(tmp_path, 'train', train, shade=10)
    numbered(tmp_path, 'val', val, size=size, shade=200)
    want = {'train': '' if train == '.' else f'{train}/', 'val': f'{val}/'}
    assert folders_of(tmp_path) == want


def test_folders_that_no_word_tells_apart_are_told_by_the_sizes_of_their_images(tmp_path):
    numbered(tmp_path, 'train', 'one')
    numbered(tmp_path, 'val', 'two', size=(40, 24))
    assert folders_of(tmp_path) == {'train': 'one/', 'val': 'two/'}


def test_folders_that_nothing_tells_apart_are_not_guessed(tmp_path):
    numbered(tmp_path, 'train', 'one', shade=10)
    numbered(tmp_path, 'val', 'two', shade=200)
    with pytest.raises(ValueError, match=r'the word "train", but .*one.*two.* hold different'):
        find_own_data(tmp_path, None)


def test_images_of_another_part_are_not_taken_for_those_that_are_missing(tmp_path):
    numbered(tmp_path, 'train', 'train/images')
    numbered(tmp_path, 'val', 'val/images', size=(40, 24))
    shutil.rmtree(tmp_path / 'val')
    with pytest.raises(FileNotFoundError, match=r'images of .*val\.json .* of the sizes that it'):
        find_own_data(tmp_path, None)


def test_numbers_that_clash_in_one_folder_are_told(tmp_path):
    numbered(tmp_path, 'train', 'images', shade=10)
    numbered(tmp_path, 'val', 'pictures', shade=200)
    with pytest.raises(ValueError, match=r'train\.json and val\.json both name 0000\.jpg.*boxes'):
        find_own_data(tmp_path, None)
    shutil.rmtree(tmp_path / 'pictures')  # all may be meant: no error
    assert re.search('0000.jpg.*in another folder', find_own_data(tmp_path, None).notes[0])
    numbered(tmp_path, 'val', 'lost', size=(24, 32))
    shutil.rmtree(tmp_path / 'lost')
    with pytest.raises(ValueError, match=r'both name 0000\.jpg.*with other sizes'):
        find_own_data(tmp_path, None)


def test_folders_beside_the_images_do_no_harm(tmp_path):
    """Masks, depths and copies of the same names; one folder, one file for both parts."""
    numbered(tmp_path, 'train', 'images')
    shutil.copy(tmp_path / 'annotations/train.json', tmp_path / 'annotations/val.json')
    shutil.copytree(tmp_path / 'images', tmp_path / 'backup')
    for folder, shade in (('masks', 3), ('depth', 5)):
        numbered(tmp_path, 'train', folder, shade=shade, name='other')
    (tmp_path / 'annotations/other.json').unlink()
    (tmp_path / 'images/again').symlink_to(tmp_path)  # leads back
    data = find_own_data(tmp_path, None)
    assert {part.images for part in data.parts.values()} == {'images/'} and not data.notes


def test_parts_may_share_the_folder_of_one_of_them(tmp_path):
    """As ``mmkd data split`` leaves them."""
    whole = numbered(tmp_path, 'train', 'images/train', images=6)
    content = json.loads(whole.read_text())
    for split, some in (('train', slice(0, 4)), ('val', slice(4, 6))):
        part = dict(content, images=content['images'][some])
        whole.with_name(f'{split}.json').write_text(json.dumps(part))
    assert folders_of(tmp_path) == dict.fromkeys(('train', 'val'), 'images/train/')


@pytest.mark.parametrize('boxes', ['none', 'one', 'two'])
def test_files_that_may_be_for_testing_do_not_stop_a_pair(boxes, tmp_path):
    """Those of COCO's server have no boxes; testing is optional."""
    for split in ('train', 'val'):
        numbered(tmp_path, split, f'{split}2017', name=f'instances_{split}2017')
    for name in ('image_info_test2017', 'image_info_test-dev2017'):
        (tmp_path / f'annotations/{name}.json').write_text('{"images": [], "categories": []}')
    for i in range(['none', 'one', 'two'].index(boxes)):
        numbered(tmp_path, 'test', 'test2017', name=f'my_test_{i}')
    data = find_own_data(tmp_path, None)
    assert data.parts['val'].ann_file == 'annotations/instances_val2017.json'
    assert ('test' in data.parts) == (boxes == 'one')
    told = {'none': 'no boxes to test by', 'one': '', 'two': 'more than one'}[boxes]
    assert bool(data.notes) == bool(told) and told in ''.join(data.notes)


def test_a_file_of_images_for_testing_is_not_that_of_validation(tmp_path):
    numbered(tmp_path, 'train', 'train')
    numbered(tmp_path, 'val', 'val', name='my_val')
    (tmp_path / 'annotations/image_info_test-dev2017.json').write_text('{"images": []}')
    assert find_own_data(tmp_path, None).parts['val'].ann_file == 'annotations/my_val.json'
