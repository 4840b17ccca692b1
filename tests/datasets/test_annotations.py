"""The rules of docs/data.md, row by row, for COCO JSON, VOC XML and the data sets of MMYOLO."""

import importlib.util
import json
import re
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS

from mmkd.compat.datasets import read_coco_files_of_any_encoding
from mmkd.datasets.annotations import check_coco
from mmkd.datasets.data_checks import check_data
from mmkd.datasets.kept_boxes import inside
from mmkd.datasets.split_coco import write_parts
from tests.tiny import ROOT, write_coco, write_voc

CLASSES = ('a', 'b', 'c')
YOLO = pytest.param(
    'mmyolo.YOLOv5',
    marks=pytest.mark.skipif(
        not importlib.util.find_spec('mmyolo'), reason='needs the extra [yolo]'
    ),
)


def loader(kind: str, root, **changes) -> Config:
    parts = dict(
        Coco=dict(ann_file='annotations/train.json', data_prefix=dict(img='JPEGImages/')),
        VOC=dict(ann_file='ImageSets/Main/train.txt', data_prefix=dict(sub_data_root='')),
    )
    [part] = [part for name, part in parts.items() if name in kind]
    dataset = dict(type=kind, data_root=f'{root}/', metainfo=dict(classes=CLASSES), **part)
    dataset.update(changes)
    return Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=dataset)))


def coco(root, edit=lambda content: None) -> None:
    path = write_coco(root, 'train', 3, CLASSES)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def voc(root, edit=lambda root: None) -> None:
    write_voc(root, 'train', 3, CLASSES)
    path = root / 'Annotations/train001.xml'
    tree = ET.parse(path)
    edit(tree.getroot())
    tree.write(path)


def set_all(items, **values):
    for item in items:
        item.update(values)


def set_box(root, **values):
    for key, value in values.items():
        root.find('object').find('bndbox').find(key).text = str(value)


FAULTS = {
    'image id twice': (
        lambda c: c['images'][1].update(id=1),
        'image ids must differ.* 1 does not: 1',
    ),
    'annotation id twice': (
        lambda c: set_all(c['annotations'][1:3], id=1),
        'annotation ids must differ.*: 1',
    ),
    'category id twice': (lambda c: c['categories'][1].update(id=1), 'category ids must differ'),
    'unknown category': (
        lambda c: set_all(c['annotations'][:4], category_id=9),
        r'category_id must be one of.*4 do not: 9 \(annotation 1\), 9 .*2\), 9 .*3\), \.\.\.',
    ),
    'unknown image': (
        lambda c: c['annotations'][0].update(image_id=77),
        r'image_id.*77 \(annotation 1\)',
    ),
    'NaN': (
        lambda c: c['annotations'][2].update(bbox=[1, 2, float('nan'), 4]),
        'four numbers.*: 3',
    ),
    'endless': (lambda c: c['annotations'][2].update(bbox=[1, 2, float('inf'), 4]), 'four numbers'),
    'null': (lambda c: c['annotations'][0].update(bbox=[1, 2, None, 4]), 'four numbers'),
    'three numbers': (lambda c: c['annotations'][0].update(bbox=[1, 2, 3]), 'four numbers'),
    'text': (lambda c: c['annotations'][0].update(bbox='1234'), 'four numbers'),
    'no area': (lambda c: c['annotations'][0].pop('area'), 'must have id, image_id, .*area'),
    'no bbox': (lambda c: c['annotations'][0].pop('bbox'), 'must have id, image_id, .*area'),
    'no image': (lambda c: c['images'].clear(), 'a split must have images'),
    'no box': (lambda c: c['annotations'].clear(), 'some box must be left'),
    'only broken boxes': (lambda c: set_all(c['annotations'], bbox=[1, 2, 0, 9]), 'must be left'),
    'image without size': (lambda c: c['images'][0].pop('width'), 'a width and height above 0'),
    'image of size 0': (lambda c: c['images'][0].update(height=0), 'a width and height above 0'),
    'class that is not there': (lambda c: c['categories'].pop(), 'metainfo.classes must name'),
    'other order': (lambda c: c['categories'].reverse(), 'in the order of the file'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faults_of_coco(tmp_path, fault):
    edit, match = FAULTS[fault]
    coco(tmp_path, edit)
    with pytest.raises(ValueError, match=f'train_dataloader: .*{match}') as error:
        check_data(loader('CocoDataset', tmp_path), ('train',))
    assert 'annotations/train.json' in str(error.value) or 'classes' in str(error.value)


VOC_FAULTS = {
    'NaN': (lambda root: set_box(root, xmin='nan'), r'train001\.xml \(cannot convert float NaN'),
    'no corner': (lambda r: r.find('object').remove(r.find('object/bndbox')), 'no xmin'),
    'no name': (lambda r: r.find('object').remove(r.find('object/name')), 'no name'),
    'size 0': (lambda r: setattr(r.find('size/width'), 'text', '0'), 'size 0 x 120'),
}


@pytest.mark.parametrize('fault', VOC_FAULTS)
def test_faults_of_voc(tmp_path, fault):
    edit, match = VOC_FAULTS[fault]
    voc(tmp_path, edit)
    with pytest.raises(ValueError, match=rf'each XML file must.*1 does not: .*{match}'):
        check_data(loader('VOCDataset', tmp_path), ('train',))


def test_xml_that_breaks_off(tmp_path):
    voc(tmp_path)
    path = tmp_path / 'Annotations/train002.xml'
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=r'train002\.xml'):
        check_data(loader('VOCDataset', tmp_path), ('train',))


def test_lists_of_voc(tmp_path):
    voc(tmp_path)
    listed = tmp_path / 'ImageSets/Main/train.txt'
    listed.write_text('train000\ntrain000\ntrain001\n')
    with pytest.raises(ValueError, match=r'each image must be listed once.*: train000'):
        check_data(loader('VOCDataset', tmp_path), ('train',))
    listed.write_text('')
    with pytest.raises(FileNotFoundError, match='it is empty'):
        check_data(loader('VOCDataset', tmp_path), ('train',))
    with pytest.raises(ValueError, match='some box must be left'):
        listed.write_text('train000\n')
        check_data(loader('VOCDataset', tmp_path, metainfo=dict(classes=('z',))), ('train',))


@pytest.mark.parametrize('kind', ['CocoDataset', 'VOCDataset'])
def test_missing_image(tmp_path, kind):
    (coco if kind == 'CocoDataset' else voc)(tmp_path)
    (tmp_path / 'JPEGImages/train001.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'must exist, but of 3 .* 1 do not: train001\.jpg'):
        check_data(loader(kind, tmp_path), ('train',))


BOXES = {  # (x1, y1, x2, y2) in an image of 160 x 120 pixels -> what mmdet gets
    'zero width': ((10, 10, 10, 30), None),
    'negative height': ((10, 30, 30, 10), None),
    'outside': ((161, 10, 190, 30), None),
    'outside, above': ((10, -30, 30, -1), None),
    'partly outside': ((150, 110, 190, 130), [150, 110, 160, 120]),
    'whole': ((10, 10, 30, 30), [10, 10, 30, 30]),
}


@pytest.mark.parametrize('family', ['mmdet.', YOLO])
@pytest.mark.parametrize('kind', ['CocoDataset', 'VOCDataset'])
@pytest.mark.parametrize('case', BOXES)
def test_boxes_that_training_gets(tmp_path, family, kind, case):
    """The first box of image 1 is the case's; the count in the log is what the data set lacks."""
    (x1, y1, x2, y2), expected = BOXES[case]
    if kind == 'CocoDataset':
        box = [x1, y1, x2 - x1, y2 - y1]
        coco(tmp_path, lambda c: c['annotations'][2].update(bbox=box, area=box[2] * box[3]))
    else:
        box = dict(xmin=x1 + 1, ymin=y1 + 1, xmax=x2 + 1, ymax=y2 + 1)
        voc(tmp_path, lambda root: set_box(root, **box))
    config = loader(kind, tmp_path)
    notes = check_data(config, ('train',))
    dataset = DATASETS.build(
        dict(config.train_dataloader.dataset, type=family + kind, _scope_='mmdet', pipeline=[])
    )
    boxes = [list(instance['bbox']) for instance in dataset.get_data_info(1)['instances']]
    assert len(boxes) == (2 if expected else 1)
    if expected:
        assert boxes[0] == expected
    logs = {'partly outside': ['1 boxes clipped to the image'], 'whole': []}
    logs = logs.get(case, ['1 boxes without a pixel in the image left out'])
    assert [log in note for log, note in zip(logs, notes, strict=True)] == [True] * len(logs)


IGNORED = {
    'iscrowd': (
        'CocoDataset',
        lambda root: coco(root, lambda c: set_all(c['annotations'], iscrowd=1)),
    ),
    'ignore': (
        'CocoDataset',
        lambda root: coco(root, lambda c: set_all(c['annotations'], ignore=1)),
    ),
    'difficult': ('VOCDataset', lambda root: difficult(root)),
}


def difficult(root):
    voc(root)
    for path in (root / 'Annotations').glob('*.xml'):
        path.write_text(path.read_text().replace('<difficult>0', '<difficult>1'))


@pytest.mark.parametrize('case', IGNORED)
def test_boxes_that_are_all_ignored(tmp_path, case):
    """A loss would get none of them, a metric would find nothing."""
    kind, write = IGNORED[case]
    write(tmp_path)
    config = loader(kind, tmp_path)
    with pytest.raises(ValueError, match='some box must be left to learn from'):
        check_data(config, ('train',))
    config.test_dataloader = config.train_dataloader
    config.test_evaluator = dict(type='VOCMetric')
    with pytest.raises(ValueError, match='some box must be left to find'):
        check_data(config, ('test',))
    config.test_evaluator = dict(type='DumpResults', out_file_path='a.pkl')
    check_data(config, ('test',))


@pytest.mark.parametrize('kind', ['CocoDataset', 'VOCDataset'])
def test_boxes_of_images_that_are_filtered(tmp_path, kind):
    (coco if kind == 'CocoDataset' else voc)(tmp_path)
    check_data(loader(kind, tmp_path, filter_cfg=dict(min_size=120)), ('train',))
    with pytest.raises(ValueError, match='some box must be left to learn from'):
        check_data(loader(kind, tmp_path, filter_cfg=dict(min_size=121)), ('train',))


def without_objects(root, name='none', images=(1, 2, 3)):
    """A list of annotations, of COCO and of VOC form, that lacks the objects of some images."""
    if (root / 'annotations').is_dir():
        content = json.loads((root / 'annotations/train.json').read_text())
        found = content['annotations']
        content['annotations'] = [a for a in found if a['image_id'] not in images]
        (root / f'annotations/{name}.json').write_text(json.dumps(content))
        return f'annotations/{name}.json'
    for image in images:
        path = root / f'Annotations/train{image - 1:03d}.xml'
        path.write_text(re.sub('<object>.*</object>', '', path.read_text()))
    return 'ImageSets/Main/train.txt'


@pytest.mark.parametrize('kind', ['CocoDataset', 'VOCDataset'])
def test_a_part_of_the_data_may_be_images_without_objects(tmp_path, kind):
    """As photographs of the background are added, by ConcatDataset."""
    write = coco if kind == 'CocoDataset' else voc
    write(tmp_path / 'a')
    write(tmp_path / 'b')
    other = without_objects(tmp_path / 'b')
    parts = [
        loader(kind, tmp_path / 'a').train_dataloader.dataset,
        loader(kind, tmp_path / 'b', ann_file=other).train_dataloader.dataset,
    ]
    both = Config(dict(default_scope='mmdet'))
    for phase in ('train', 'val'):
        both[f'{phase}_dataloader'] = dict(dataset=dict(type='ConcatDataset', datasets=parts))
    both.val_evaluator = dict(type='VOCMetric')
    assert check_data(both, ('train', 'val')) == []
    both.train_dataloader.dataset.datasets = both.val_dataloader.dataset.datasets = parts[1:] * 2
    for phase, use in (('train', 'learn from'), ('val', 'find')):
        with pytest.raises(ValueError, match=f'{phase}_.* some box must be left to {use}, but in '):
            check_data(both, (phase,))


def test_a_part_of_the_data_may_lack_annotations(tmp_path):
    coco(tmp_path)
    path = write_coco(tmp_path, 'server', 1, CLASSES)
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != 'annotations'})
    )
    config = loader('CocoDataset', tmp_path)
    data = config.train_dataloader.dataset
    other = dict(data, ann_file='annotations/server.json')
    config.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[data, other])
    assert check_data(config, ('train',)) == []
    config.train_dataloader.dataset = other
    with pytest.raises(ValueError, match='some box must be left to learn from'):
        check_data(config, ('train',))


@pytest.mark.parametrize('kind', ['CocoDataset', 'VOCDataset'])
def test_what_indices_leave_out_does_not_count(tmp_path, kind):
    (coco if kind == 'CocoDataset' else voc)(tmp_path)
    ann_file = without_objects(tmp_path, images=(1,))
    (tmp_path / 'JPEGImages/train002.jpg').unlink()
    for indices in (1, [0], []):
        config = loader(kind, tmp_path, ann_file=ann_file, indices=indices)
        with pytest.raises(ValueError, match='some box must be left to learn from'):
            check_data(config, ('train',))
        config.test_dataloader = config.train_dataloader
        config.test_evaluator = dict(type='VOCMetric')
        with pytest.raises(ValueError, match='some box must be left to find'):
            check_data(config, ('test',))
    check_data(loader(kind, tmp_path, ann_file=ann_file, indices=2), ('train',))
    with pytest.raises(FileNotFoundError, match=r'of 1 .* 1 do not: train002\.jpg'):
        check_data(loader(kind, tmp_path, ann_file=ann_file, indices=[2]), ('train',))


def test_an_object_that_is_there_twice_is_counted(tmp_path):
    voc(tmp_path, lambda root: root.extend(root.findall('object')))
    [note] = check_data(loader('VOCDataset', tmp_path), ('train',))
    assert '2 objects that are there twice left out' in note


def test_an_xml_is_read_once(tmp_path, monkeypatch):
    voc(tmp_path)
    read, parse = [], ET.parse
    monkeypatch.setattr(ET, 'parse', lambda path: [read.append(path), parse(path)][1])
    check_data(loader('VOCDataset', tmp_path), ('train',))
    assert len(read) == 3


def test_small_boxes_that_a_filter_ignores(tmp_path):
    voc(tmp_path)
    check_data(loader('VOCDataset', tmp_path, filter_cfg=dict(bbox_min_size=20)), ('train',))
    with pytest.raises(ValueError, match='some box must be left to learn from'):
        check_data(loader('VOCDataset', tmp_path, filter_cfg=dict(bbox_min_size=99)), ('train',))


@pytest.mark.parametrize('kind', ['CocoDataset', 'VOCDataset'])
def test_why_no_box_is_left(tmp_path, kind):
    (coco if kind == 'CocoDataset' else voc)(tmp_path)
    if kind == 'CocoDataset':
        path = tmp_path / 'annotations/train.json'
        content = json.loads(path.read_text())
        set_all(content['annotations'], ignore=1)
        path.write_text(json.dumps(content))
        config, why = loader(kind, tmp_path), r'none is \(6 annotations to be ignored left out\)'
    else:
        config = loader(kind, tmp_path, metainfo=dict(classes=('ant',)))
        why = r'none is \(6 objects with names that metainfo\.classes does not have left out\)'
    with pytest.raises(ValueError, match=why):
        check_data(config, ('train',))


def test_panoptic_data_are_left_alone(tmp_path):
    """Their annotations are lists of segments, without an id."""

    def segments(content):
        of_image = {image['id']: [] for image in content['images']}
        for annotation in content['annotations']:
            of_image[annotation.pop('image_id')].append(annotation)
        content['annotations'] = [
            dict(image_id=key, file_name=f'{key}.png', segments_info=found)
            for key, found in of_image.items()
        ]

    coco(tmp_path, segments)
    classes = dict(classes=CLASSES, thing_classes=CLASSES, stuff_classes=())
    config = loader('CocoDataset', tmp_path, type='CocoPanopticDataset', metainfo=classes)
    assert check_data(config, ('train',)) == []


def test_a_data_set_of_ones_own_is_checked(tmp_path):
    """Whatever its name: it reads as the class does from which it is derived."""
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS as OF_MMDET

    kind = type('Insects', (CocoDataset,), dict(METAINFO=dict(classes=CLASSES)))
    OF_MMDET.register_module(module=kind, force=True)
    coco(tmp_path, lambda c: c['annotations'].clear())
    with pytest.raises(ValueError, match='some box must be left to learn from'):
        check_data(loader('CocoDataset', tmp_path, type='Insects', metainfo=None), ('train',))


def test_other_categories_are_counted(tmp_path):
    coco(
        tmp_path,
        lambda c: (
            set_all(c['annotations'], category_id=1),
            c['annotations'][0].update(category_id=2),
        ),
    )
    [note] = check_data(loader('CocoDataset', tmp_path, metainfo=dict(classes=('a',))), ('train',))
    assert '1 annotations of categories that metainfo.classes does not name left out' in note


def test_a_name_of_two_categories(tmp_path):
    """mmdet would give the second one a label of its own."""

    def rename(content):
        content['categories'][0]['name'] = 'b'
        content['annotations'] = [a for a in content['annotations'] if a['category_id'] != 1]

    coco(tmp_path, rename)
    with pytest.raises(ValueError, match=r'names of categories must differ, but .*: b\. .*take'):
        check_data(loader('CocoDataset', tmp_path, metainfo=dict(classes=('b', 'c'))), ('train',))
    check_data(loader('CocoDataset', tmp_path, metainfo=dict(classes=('c',))), ('train',))


def test_classes_of_the_type_are_those_of_the_data(tmp_path):
    """Without metainfo, CocoDataset means COCO's 80 classes."""
    coco(tmp_path)
    config = loader('CocoDataset', tmp_path, metainfo=None)
    with pytest.raises(ValueError, match=r'must name categories.*but got person, bicycle'):
        check_data(config, ('train',))


def test_images_without_objects_may_be_tested(tmp_path):
    coco(tmp_path, lambda c: c['annotations'].clear())
    config = loader('CocoDataset', tmp_path)
    check_data(
        Config(dict(test_dataloader=config.train_dataloader, default_scope='mmdet')), ('test',)
    )


coordinate = st.floats(-50, 250, allow_nan=False)


@given(coordinate, coordinate, coordinate, coordinate)
def test_what_is_left_lies_inside(x1, y1, x2, y2):
    part = inside((x1, y1, x2, y2), 160, 120)
    pixels = np.clip([x1, x2], 0, 160), np.clip([y1, y2], 0, 120)
    sides = [after - before for before, after in pixels]
    if part is None:
        assert min(sides) < 1
    else:
        assert list(part) == [pixels[0][0], pixels[1][0], pixels[0][1], pixels[1][1]]
        assert min(sides) >= 1


def test_a_hundred_thousand_annotations_take_seconds(tmp_path):
    """COCO has nine times as many."""
    images = [dict(id=i, file_name=f'{i}.jpg', width=640, height=480) for i in range(10_000)]
    annotations = [
        dict(id=i, image_id=i % 10_000, category_id=1, bbox=[1.5, 2, 30, 40], area=1200.0)
        for i in range(100_000)
    ]
    path = tmp_path / 'a.json'
    categories = [dict(id=1, name='a')]
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    start = time.process_time()
    check_coco('train_dataloader', str(path), ('a',))
    assert time.process_time() - start < 3


def test_the_page_has_each_rule():
    """Each rule of docs/data.md is the wording of a message, and the other way round."""
    page = (ROOT / 'docs/data.md').read_text()
    sources = [path.read_text() for path in (ROOT / 'mmkd').rglob('*.py')]
    code = re.sub(r"'\n *f?'", '', ' '.join(sources))
    rules = re.findall(r'^\| `([^`]+)` \|', page, re.M)
    assert len(rules) >= 14
    assert [rule for rule in rules if rule not in code] == []
    own = [path.read_text() for path in (ROOT / 'mmkd/datasets').rglob('*.py')]
    code = re.sub(r"'\n *f?'", '', ' '.join(own))
    messages = re.findall(r"refuse\(\s*f?'([^']+?)(?: \(\{[^']*)?',", code)
    assert len(messages) >= 9 and set(messages) <= set(rules)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
@pytest.mark.parametrize(
    'kind', ['CocoDataset', pytest.param('mmyolo.YOLOv5CocoDataset', marks=YOLO.marks)]
)
def test_a_coco_file_says_its_encoding(tmp_path, kind, encoding):
    """In the checks, in training, in the metric and where it is split."""
    coco(tmp_path, lambda content: content['categories'][0].update(name='ä'))
    path = tmp_path / 'annotations/train.json'
    path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False), encoding=encoding)
    cfg = loader('CocoDataset', tmp_path, metainfo=dict(classes=('ä', 'b', 'c')))
    cfg.val_dataloader = cfg.train_dataloader
    cfg.val_evaluator = dict(type='CocoMetric', ann_file=str(path))
    check_data(cfg, ('train', 'val'))
    assert len(DATASETS.build({**cfg.train_dataloader.dataset, '_scope_': 'mmdet'})) == 3
    assert METRICS.build({**cfg.val_evaluator, '_scope_': 'mmdet'})._coco_api.cats[1]['name'] == 'ä'
    assert sum(write_parts(path, [('a', 0.5), ('b', 0.5)]).values()) == 3


def test_pycocotools_alone_refuses_a_byte_order_mark(tmp_path, monkeypatch):
    from pycocotools import coco as module

    path = tmp_path / 'a.json'
    path.write_text('{}', encoding='utf-8-sig')
    monkeypatch.delattr(module, 'open')
    with pytest.raises(ValueError, match='UTF-8 BOM'):
        module.COCO(str(path))
    read_coco_files_of_any_encoding()
    assert module.COCO(str(path)).dataset == {}
