"""Masks that a run loads, learns from and measures are there before it starts."""

import importlib.util
import json

import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS

from mmkd.datasets import data_checks
from mmkd.datasets.data_checks import check_data
from mmkd.datasets.mask_checks import check_mask_fit, learns_masks
from tests import zoo
from tests.tiny import write_coco, write_voc

CLASSES = ('a', 'b', 'c')
MASKS = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
YOLO = pytest.mark.skipif(not importlib.util.find_spec('mmyolo'), reason='needs the extra [yolo]')


class BoxesAsMasks(LoadAnnotations):
    """One of the user's own that needs no masks."""

    def transform(self, results):
        results['gt_ignore_flags'] = [False] * len(results['instances'])
        return results


class MasksOfBoxes(CocoDataset):
    """One of the user's own that gives each object its box as mask."""

    def parse_data_info(self, raw_data_info):
        info = super().parse_data_info(raw_data_info)
        for item in info['instances']:
            x1, y1, x2, y2 = item['bbox']
            item['mask'] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
        return info


@pytest.fixture
def own():
    """Both registered, as custom_imports does."""
    TRANSFORMS.register_module(module=BoxesAsMasks)
    DATASETS.register_module(module=MasksOfBoxes)
    yield
    TRANSFORMS._module_dict.pop('BoxesAsMasks')
    DATASETS._module_dict.pop('MasksOfBoxes')


def polygon(annotation) -> None:
    x, y, w, h = annotation['bbox']
    annotation['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]


def runs(annotation) -> None:
    annotation['segmentation'] = dict(size=[120, 160], counts=[0, 400, 120 * 160 - 400])


def write(root, split='train', bare=(), mask=polygon, edit=lambda content: None):
    path = write_coco(root, split, 3, CLASSES)
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        if annotation['id'] not in bare:
            mask(annotation)
    edit(content)
    path.write_text(json.dumps(content))


def dataset(root, split='train', load=MASKS, kind='CocoDataset', **changes):
    pipeline = [dict(type='LoadImageFromFile'), load, dict(type='PackDetInputs')]
    return dict(
        type=kind, data_root=f'{root}/', ann_file=f'annotations/{split}.json',
        data_prefix=dict(img='JPEGImages/'), metainfo=dict(classes=CLASSES), pipeline=pipeline,
        **changes)  # fmt: skip


def run(data, phase='train', scope='mmdet', model=None, metric='bbox', **evaluator):
    loaded = {f'{phase}_dataloader': dict(dataset=data)}
    if phase != 'train':
        loaded[f'{phase}_evaluator'] = dict(type='CocoMetric', metric=metric, **evaluator)
    model = {} if model is None else dict(model=model)
    return check_data(Config(dict(default_scope=scope, **loaded, **model)), [phase])


ALL = range(1, 7)


@pytest.mark.parametrize('phase', ['train', 'val', 'test'])
def test_masks_that_are_loaded_must_be_there(tmp_path, phase):
    write(tmp_path)
    assert run(dataset(tmp_path), phase) == []
    write(tmp_path, bare=[3])
    message = (
        rf'{phase}_dataloader: each object must have a mask.*train\.json" 1 of 6 have none.*001'
    )
    with pytest.raises(ValueError, match=message):
        run(dataset(tmp_path), phase)
    plain = dict(MASKS, with_mask=False)
    assert run(dataset(tmp_path, load=plain), phase) == [], 'nor are they loaded'


def test_the_remedy_is_that_of_the_student(tmp_path):
    write(tmp_path, bare=ALL)
    for name, remedy in (
        ('mask_rcnn', 'Faster R-CNN is for Mask'),
        ('fcos', 'set with_mask=False'),
    ):
        with pytest.raises(ValueError, match=remedy):
            run(dataset(tmp_path), model=zoo.small(name))
    write_voc(tmp_path / 'voc', 'train', 2, CLASSES)
    voc = dataset(tmp_path / 'voc', kind='VOCDataset') | dict(
        ann_file='ImageSets/Main/train.txt', data_prefix=dict(sub_data_root='')
    )
    with pytest.raises(ValueError, match=r'train\.txt" \d of \d have none'):
        run(voc)


def test_data_sets_within_others_are_looked_at(tmp_path):
    write(tmp_path)
    write(tmp_path / 'more', bare=[1])
    mosaic = dict(type='Mosaic', img_scale=(64, 64))
    for first in (dataset(tmp_path), dataset(tmp_path / 'more')):
        both = dict(type='ConcatDataset', datasets=[dataset(tmp_path), first])
        mixed = dict(type='MultiImageMixDataset', dataset=both, pipeline=[mosaic])
        if 'more' in first['data_root']:
            with pytest.raises(ValueError, match=r'more/annotations/train\.json" 1 of 6'):
                run(mixed)
        else:
            assert run(mixed) == []


def test_masks_that_are_not_loaded_may_be_missing(tmp_path, own):
    def shrink(content):
        content['images'][0].update(width=20, height=20)
        for annotation in content['annotations'][:2]:
            annotation['bbox'] = [1, 1, 10, 10]

    write(tmp_path, bare=[1, 2], edit=shrink)
    small = dataset(tmp_path, filter_cfg=dict(min_size=32))
    assert not [note for note in run(small) if 'polygon' in note]
    write(tmp_path, bare=[1, 2])
    part = dataset(tmp_path, indices=[1, 2])
    assert not [note for note in run(part) if 'polygon' in note]
    write(tmp_path, bare=ALL)
    assert run(dataset(tmp_path, load=dict(type='BoxesAsMasks', with_mask=True))) == []
    assert run(dataset(tmp_path, kind='MasksOfBoxes')) == []
    nested = dict(type='RandomApply', transforms=[MASKS], prob=0.5)
    with pytest.raises(ValueError, match='6 of 6 have none'):
        run(dataset(tmp_path, load=nested))


def test_run_lengths_are_masks_to_mmdet(tmp_path):
    write(tmp_path, mask=runs)
    assert run(dataset(tmp_path)) == []
    with pytest.raises(ValueError, match='must have a mask of polygons'):
        run(dataset(tmp_path, load=dict(MASKS, poly2mask=False)))


@YOLO
def test_mmyolo_leaves_out_what_has_no_mask(tmp_path):
    """Silently: without any mask it would learn from no object."""
    load = dict(MASKS, type='mmyolo.LoadAnnotations')
    data = dataset(tmp_path, load=load, kind='mmyolo.YOLOv5CocoDataset')
    write(tmp_path, bare=[2, 3])
    [note] = run(data, scope='mmyolo')
    assert '2 objects without a polygon left out' in note
    assert run(data, 'val', 'mmyolo') == []
    for options in (dict(bare=ALL), dict(mask=runs)):
        write(tmp_path, **options)
        with pytest.raises(ValueError, match=r'6 of 6 have none.*with_mask=False'):
            run(data, scope='mmyolo', model=dict(type='mmdet.FCOS', bbox_head=dict(num_classes=3)))


def test_a_metric_of_masks_needs_them(tmp_path):
    write(tmp_path, 'val', bare=[3])
    plain = dict(MASKS, with_mask=False)
    data, file = dataset(tmp_path, 'val', load=plain), f'{tmp_path}/annotations/val.json'
    for options in (dict(), dict(ann_file=file)):
        assert run(data, 'val', **options) == []
        message = r'val_evaluator: each object must have a mask.*1 has none: annotation 3\. Add'
        with pytest.raises(ValueError, match=message):
            run(data, 'val', metric=['bbox', 'segm'], **options)
    assert run(data, 'val', metric='segm', format_only=True, outfile_prefix='x') == []
    write(tmp_path, 'val')
    assert run(data, 'val', metric='segm', ann_file=file, model=zoo.small('mask_rcnn')) == []
    with pytest.raises(ValueError, match=r'the student \(FCOS\) detects boxes alone.*bbox'):
        run(data, 'val', metric='segm', ann_file=file, model=zoo.small('fcos'))


def test_a_student_of_masks_needs_a_pipeline_that_loads_them(tmp_path, own):
    write(tmp_path)
    plain, model = dict(MASKS, with_mask=False), zoo.small('mask_rcnn')
    assert run(dataset(tmp_path), model=model) == []
    with pytest.raises(ValueError, match=r'must load masks.*\(MaskRCNN\) learns.*Set it;'):
        run(dataset(tmp_path, load=plain), model=model)
    assert run(dataset(tmp_path, load=plain), model=zoo.small('faster_rcnn')) == []
    pasted = dataset(tmp_path, load=plain)
    pasted['pipeline'].append(dict(type='CopyPaste'))
    assert run(pasted, model=model) == [], 'made of boxes'
    assert run(dataset(tmp_path, load=dict(type='BoxesAsMasks')), model=model) == [], (
        'may make them'
    )


def test_panoptic_segments_are_those_of_a_panoptic_data_set(tmp_path, monkeypatch):
    """Of other data their loader gives boxes, which do for a student of boxes."""
    monkeypatch.setattr(data_checks, 'check_installed', lambda *_: None)  # panopticapi
    write(tmp_path, bare=ALL)
    load = dict(type='LoadPanopticAnnotations', with_bbox=True, with_mask=True, with_seg=True)
    data = dataset(tmp_path, load=load)
    with pytest.raises(ValueError, match='LoadPanopticAnnotations needs a panoptic data set'):
        run(data, model=zoo.small('mask_rcnn'))
    assert run(data, model=zoo.small('fcos')) == []
    cfg = Config(dict(train_dataloader=dict(dataset=data), model=zoo.small('mask_rcnn')))
    cfg.train_dataloader.dataset.type = 'CocoPanopticDataset'
    check_mask_fit(cfg, ['train'], [])


def test_a_semantic_head_needs_maps(tmp_path):
    write(tmp_path)
    model = zoo.small('mask_rcnn')
    model['roi_head']['semantic_head'] = dict(type='FusedSemanticHead', num_classes=5)
    seg = dict(MASKS, with_seg=True)
    with pytest.raises(ValueError, match=r'semantic_head of the student \(MaskRCNN\).*Give both'):
        run(dataset(tmp_path, load=seg), model=model)
    (tmp_path / 'maps').mkdir()
    maps = dataset(tmp_path, load=seg) | dict(data_prefix=dict(img='JPEGImages/', seg='maps/'))
    assert run(maps, model=model) == []


@pytest.mark.parametrize(
    ('model', 'learns'),
    [
        (dict(type='SOLO', mask_head=dict(type='SOLOHead')), True),
        (dict(type='RTMDet', bbox_head=dict(type='RTMDetInsSepBNHead')), True),
        (dict(type='RTMDet', bbox_head=dict(type='RTMDetSepBNHead')), False),
        (dict(type='BoxInst', data_preprocessor=dict(type='BoxInstDataPreprocessor'),
              mask_head=dict(type='BoxInstMaskHead')), False),
        (dict(type='FasterRCNN', roi_head=dict(type='StandardRoIHead')), False),
        (dict(type='MaskFormer', panoptic_head=dict(type='MaskFormerHead')), True),
        (dict(type='RPN', rpn_head=dict(type='RPNHead')), None),
        (dict(type='Unknown', bbox_head=dict()), None),
        ('fcos.py', None),
    ],
)  # fmt: skip
def test_whether_a_detector_learns_masks(model, learns):
    assert learns_masks(model, 'mmdet') is learns


@YOLO
@pytest.mark.parametrize('head', ['RTMDetInsSepBNHead', 'YOLOv5InsHead', 'YOLOv8Head'])
def test_mmyolos_detectors_learn_masks_by_their_heads(head):
    model = dict(type='YOLODetector', bbox_head=dict(type=head))
    assert learns_masks(model, 'mmyolo') is ('Ins' in head)
