"""A detector that knows the ground truth scores 1 on any data, or the run is refused at its start.

What only pixels show is refused as the image is loaded: tests/datasets/test_image_file.py.
"""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import PACK, coco_config, mean_ap, measure, voc_config
from tests.tiny import write_coco, write_voc

CLASSES = ('ant', 'bee', 'cat')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """COCO and VOC data, three images of 160 x 120 pixels with two objects each."""
    root = tmp_path_factory.mktemp('data')
    write_coco(root / 'coco', 'test', 3, CLASSES)
    write_voc(root / 'voc', 'test', 3, CLASSES)
    return root


@pytest.fixture
def coco(made, tmp_path):
    return shutil.copytree(made / 'coco', tmp_path / 'coco')


@pytest.fixture
def voc(made, tmp_path):
    return shutil.copytree(made / 'voc', tmp_path / 'voc')


def edit_coco(root, edit, name='test'):
    content = json.loads(Path(root, 'annotations/test.json').read_text())
    edit(content)
    path = Path(root, f'annotations/{name}.json')
    path.write_text(json.dumps(content))
    return path


def renumber(content, images=None, categories=None):
    """Give images and categories, and the annotations' references, other ids."""
    for key, ids in (('image', images), ('category', categories)):
        if ids:
            plural = dict(image='images', category='categories')[key]
            new = {item['id']: ids[i] for i, item in enumerate(content[plural])}
            for item in content[plural]:
                item['id'] = new[item['id']]
            for annotation in content['annotations']:
                annotation[f'{key}_id'] = new[annotation[f'{key}_id']]


def add(content, **changes):
    """One more annotation, like the first."""
    content['annotations'].append({**content['annotations'][0], 'id': 99, **changes})


def each(content, **values):
    for annotation in content['annotations']:
        annotation.update(values)


def without_iscrowd(content):
    for annotation in content['annotations']:
        del annotation['iscrowd']


SOUND = {
    'as it is': lambda c: None,
    'annotation ids from 0': lambda c: [a.update(id=a['id'] - 1) for a in c['annotations']],
    'annotation ids of text': lambda c: [a.update(id=f'a{a["id"]}') for a in c['annotations']],
    'annotation ids of two types': lambda c: c['annotations'][0].update(id='x'),
    'huge annotation ids': lambda c: [a.update(id=10**400 + a['id']) for a in c['annotations']],
    'iscrowd missing': without_iscrowd,
    'iscrowd null': lambda c: each(c, iscrowd=None),
    'iscrowd "0"': lambda c: each(c, iscrowd='0'),
    'iscrowd false': lambda c: each(c, iscrowd=False),
    'one iscrowd "1"': lambda c: c['annotations'][0].update(iscrowd='1'),
    'one is a crowd': lambda c: c['annotations'][0].update(iscrowd=1),
    'one to be ignored': lambda c: c['annotations'][0].update(ignore=1),
    'ignore "0"': lambda c: each(c, ignore='0'),
    'category ids that fall': lambda c: renumber(c, categories=(90, 7, 1)),
    'categories from 0': lambda c: renumber(c, categories=(0, 1, 2)),
    'large ids': lambda c: renumber(c, (2**62 + 3, 2**53 + 1, 5), (2**61, 2**60 + 1, 7)),
    'ids of text': lambda c: renumber(c, ('image b', 'a', '7'), ('zz', 'x', 'yy')),
    'ids as floats': lambda c: renumber(c, (1.0, 2.0, 3.0), (3.0, 1.0, 2.0)),
    'images in another order': lambda c: c['images'].reverse(),
    'annotations in another order': lambda c: c['annotations'].reverse(),
    'another category': lambda c: (
        c['categories'].insert(0, dict(id=50, name='dog')),
        add(c, category_id=50),
    ),
    'an image without boxes': lambda c: c.update(
        annotations=[a for a in c['annotations'] if a['image_id'] != 2]
    ),
    'a box partly outside': lambda c: c['annotations'][0].update(bbox=[-20.5, -9, 60, 50]),
    'a box outside': lambda c: add(c, bbox=[170, 10, 20, 20]),
    'a box of no width': lambda c: add(c, bbox=[10, 10, 0, 20]),
    'a box of less than a pixel': lambda c: add(c, bbox=[10.0000001, 10, 0.99999999, 20]),
    'area 0': lambda c: add(c, bbox=[3, 3, 30, 30], area=0),
    'an area without sense': lambda c: each(c, area=1e12),
    'a box twice': add,
    'a box of two classes': lambda c: add(
        c, category_id=c['annotations'][0]['category_id'] % 3 + 1
    ),
    'overlapping boxes': lambda c: add(c, bbox=[4 + x for x in c['annotations'][0]['bbox']]),
}


@pytest.mark.parametrize('case', SOUND)
def test_sound_coco_scores_1(coco, tmp_path, case):
    edit_coco(coco, SOUND[case])
    cfg = coco_config(coco)
    cfg.test_evaluator.classwise = True
    figures = measure(cfg, tmp_path, crowds='crowd' in case)
    assert mean_ap(figures) == 1
    named = {key: value for key, value in figures.items() if 'precision' in key}
    assert len(named) == 3 and set(map(str, named.values())) <= {'1.0', 'nan'}


def test_figures_by_class_have_the_right_name(coco, tmp_path):
    """pycocotools sorts by category id; the labels follow the file."""
    edit_coco(
        coco,
        lambda c: (
            renumber(c, categories=(9, 5, 2)),
            [a.update(category_id=(9, 5)[i % 2]) for i, a in enumerate(c['annotations'])],
        ),
    )
    cfg = coco_config(coco)
    cfg.test_evaluator.classwise = True
    figures = measure(cfg, tmp_path)
    assert [figures[f'coco/{name}_precision'] for name in ('ant', 'bee')] == [1, 1]
    assert figures['coco/cat_precision'] != figures['coco/cat_precision'], 'cat has no object'


def test_more_than_100_objects_in_an_image(coco, tmp_path):
    """mAP looks at 100 detections of a class in an image: recall ends at 101 of 151."""
    edit_coco(
        coco,
        lambda c: c.update(
            annotations=[
                dict(
                    id=i,
                    image_id=1 if i < 150 else 2,
                    category_id=1,
                    bbox=[10 * (i % 15), 10 * (i // 15) % 110, 9, 9],
                    area=81,
                    iscrowd=0,
                )
                for i in range(151)
            ]
        ),
    )
    recalls = sum(point / 100 <= 101 / 151 for point in range(101))
    assert mean_ap(measure(coco_config(coco), tmp_path)) == pytest.approx(recalls / 101, abs=1e-3)
    cfg = coco_config(coco)
    cfg.test_evaluator.proposal_nums = (10, 200, 300)
    assert mean_ap(measure(cfg, tmp_path)) == 1


EVALUATORS = {
    'no file': dict(ann_file=None),
    'a list of metrics': dict(metric=['bbox']),
    'proposals': dict(metric=['bbox', 'proposal', 'proposal_fast']),
    'classwise': dict(classwise=True),
    'few proposals': dict(proposal_nums=(100, 1, 10)),
    'one threshold': dict(iou_thrs=0.5),
    'two thresholds': dict(iou_thrs=[0.5, 0.75]),
    'items': dict(metric_items=['mAP', 'mAP_50']),
}


@pytest.mark.parametrize('case', EVALUATORS)
def test_settings_of_cocometric(coco, tmp_path, case):
    edit_coco(coco, lambda c: c['images'].reverse())
    cfg = coco_config(coco)
    cfg.test_evaluator.update(EVALUATORS[case])
    figures = measure(cfg, tmp_path)
    assert mean_ap(figures) == 1
    assert [value for key, value in figures.items() if 'AR@100' in key] in ([], [1, 1])


def wrapped(kind):
    def wrap(dataset):
        more = dict(datasets=[dataset]) if kind == 'ConcatDataset' else dict(dataset=dataset)
        if kind == 'RepeatDataset':
            more['times'] = 2
        if kind == 'ClassBalancedDataset':
            more['oversample_thr'] = 0.9
        return dict(type=kind, **more)

    return wrap


LOADERS = {
    'RepeatDataset': wrapped('RepeatDataset'),
    'ConcatDataset': wrapped('ConcatDataset'),
    'ClassBalancedDataset': wrapped('ClassBalancedDataset'),
    'boxes before Resize': lambda d: d['pipeline'].insert(1, d['pipeline'].pop(2)),
    'without LoadAnnotations': lambda d: d['pipeline'].__delitem__(2),
    'padded and flipped': lambda d: d.update(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(100, 60), keep_ratio=True),
            dict(type='RandomFlip', prob=1.0),
            dict(type='Pad', size=(128, 128)),
            dict(PACK, meta_keys=(*PACK['meta_keys'], 'flip', 'flip_direction')),
        ]
    ),
    'no test_mode': lambda d: d.pop('test_mode'),
    'the first two images': lambda d: d.update(indices=2),
    'empty images filtered': lambda d: d.update(
        test_mode=False, filter_cfg=dict(filter_empty_gt=True)
    ),
    'MMYOLO': lambda d: d.update(type=f'mmyolo.YOLOv5{d["type"]}', batch_shapes_cfg=None),
}  # fmt: skip


@pytest.mark.parametrize('form', ['coco', 'voc'])
@pytest.mark.parametrize('case', LOADERS)
def test_loaders(request, tmp_path, form, case):
    if case == 'MMYOLO' and not importlib.util.find_spec('mmyolo'):
        pytest.skip('needs the extra [yolo]')
    root = request.getfixturevalue(form)
    if form == 'coco':
        edit_coco(root, lambda c: c['annotations'].pop(0))
    cfg = dict(coco=coco_config, voc=voc_config)[form](root)
    dataset = cfg.test_dataloader.dataset.to_dict()
    dataset['pipeline'] = [dict(step) for step in dataset['pipeline']]
    new = LOADERS[case](dataset)
    cfg.test_dataloader.dataset = new if isinstance(new, dict) else dataset
    assert mean_ap(measure(cfg, tmp_path)) == 1


def test_image_ids_that_two_files_share(coco, tmp_path):
    """The predictions for one would count for the other."""
    edit_coco(coco, lambda c: [i.update(file_name='test000.jpg') for i in c['images']], 'other')
    cfg = coco_config(coco)
    first = cfg.test_dataloader.dataset.to_dict()
    both = dict(
        type='ConcatDataset', datasets=[first, dict(first, ann_file='annotations/other.json')]
    )
    cfg.test_dataloader.dataset = both
    with pytest.raises(ValueError, match='two images of test_dataloader have the id 2'):
        measure(cfg, tmp_path)
    cfg.test_evaluator.ann_file = None
    with pytest.raises(ValueError, match='two images of test_dataloader have the id 2'):
        measure(cfg, tmp_path)


def shift(content):
    content['annotations'][3]['bbox'][0] += 3


def move(content, index, by):
    content['annotations'][index]['bbox'][0] += by


#: What the evaluator's own file holds; the end of the refusal, if it is one.
OTHER_FILES = {
    'the same': (lambda c: None, None),
    'rounded': (lambda c: move(c, 0, 0.004), None),
    'more images': (
        lambda c: (c['images'].append(dict(c['images'][0], id=9)), add(c, image_id=9)),
        None,
    ),
    'other category ids': (lambda c: renumber(c, categories=(30, 20, 10)), None),
    'categories in another order': (lambda c: c['categories'].reverse(), None),
    'more categories': (lambda c: c['categories'].insert(1, dict(id=7, name='dog')), None),
    'another split': (lambda c: renumber(c, (7, 8, 9)), 'lacks image 1'),
    'ids of another split': (lambda c: renumber(c, (2, 3, 1)), 'for image 1 '),
    'other names': (lambda c: c['categories'][0].update(name='aunt'), 'has the categories aunt,'),
    'a name twice': (lambda c: c['categories'][0].update(name='bee'), 'categories bee, bee, cat'),
    'a moved box': (lambda c: move(c, 3, 3), 'for image 2'),
    'a box less': (lambda c: c['annotations'].pop(), 'for image 3'),
    'a crowd more': (lambda c: c['annotations'][0].update(iscrowd=1), 'for image 1 '),
    'image ids as text': (lambda c: renumber(c, ('1', '2', '3')), 'lacks image 1'),
    'nothing': (lambda c: c['annotations'].clear(), 'none is'),
}


@pytest.mark.parametrize('case', OTHER_FILES)
def test_the_evaluators_ground_truth_is_the_loaders(coco, tmp_path, case):
    edit, refused = OTHER_FILES[case]
    cfg = coco_config(coco)
    cfg.test_evaluator.ann_file = str(edit_coco(coco, edit, 'other'))
    if refused is None:
        assert mean_ap(measure(cfg, tmp_path)) == 1
        return
    with pytest.raises(ValueError, match=rf'(?s)test_evaluator.* must be.* but .*{refused}'):
        measure(cfg, tmp_path)
    assert not (tmp_path / 'runs').exists(), 'before anything is written'


def test_an_evaluator_without_its_file(coco, tmp_path):
    cfg = coco_config(coco)
    cfg.test_evaluator.ann_file = 'annotations/test.json'
    with pytest.raises(FileNotFoundError, match=r'test_evaluator.* must exist, but'):
        measure(cfg, tmp_path)


def test_too_few_proposal_nums(coco, tmp_path):
    cfg = coco_config(coco)
    cfg.test_evaluator.proposal_nums = (1, 100)
    with pytest.raises(ValueError, match='proposal_nums must be three numbers'):
        measure(cfg, tmp_path)


def test_other_metrics_and_lists_are_left_alone(coco, tmp_path):
    cfg = coco_config(coco)
    dump = dict(type='mmdet.DumpDetResults', out_file_path=str(tmp_path / 'a.pkl'))
    cfg.test_evaluator = [cfg.test_evaluator, dict(type='VOCMetric', prefix='voc'), dump]
    figures = measure(cfg, tmp_path)
    assert figures['coco/bbox_mAP'] == figures['voc/mAP'] == 1


def test_images_for_a_server_need_no_boxes(coco, tmp_path):
    """As COCO's test-dev: predictions are written, nothing is measured."""
    edit_coco(coco, lambda c: c.pop('annotations'))
    cfg = coco_config(coco)
    cfg.test_evaluator.update(format_only=True, outfile_prefix=str(tmp_path / 'out'))
    measure(cfg, tmp_path)
    assert json.loads((tmp_path / 'out.bbox.json').read_text()) == []


def test_what_is_written_for_a_server_has_the_files_ids(coco, tmp_path):
    edit_coco(coco, lambda c: renumber(c, (40, 20, 30), (9, 5, 7)))
    cfg = coco_config(coco)
    cfg.test_evaluator.update(format_only=True, outfile_prefix=str(tmp_path / 'out'))
    measure(cfg, tmp_path)
    written = json.loads((tmp_path / 'out.bbox.json').read_text())
    ground_truth = json.loads((coco / 'annotations/test.json').read_text())['annotations']
    key = lambda a: (a['image_id'], a['category_id'], a['bbox'])  # noqa: E731
    assert sorted(map(key, written)) == sorted(map(key, ground_truth))


def test_voc_ground_truth_is_that_of_the_file(voc, tmp_path):
    """Difficult objects, an object twice, one outside: each scores 1."""
    path = voc / 'Annotations/test001.xml'
    text = path.read_text()
    first = text[text.index('<object>') : text.index('</object>') + len('</object>')]
    difficult = first.replace('<difficult>0', '<difficult>1')
    outside = first.replace('<xmin>', '<xmin>9')
    path.write_text(text.replace(first, first + difficult + first + outside))
    assert mean_ap(measure(voc_config(voc), tmp_path, crowds=True)) == 1


def test_an_image_whose_boxes_are_in_two_files(coco, tmp_path):
    """One file for each class, say: the metric would count those of the last one alone."""
    path = coco / 'annotations/test.json'
    for name, part in (('a', slice(0, None, 2)), ('b', slice(1, None, 2))):
        content = json.loads(path.read_text())
        content['annotations'] = content['annotations'][part]
        (coco / f'annotations/{name}.json').write_text(json.dumps(content))
    cfg = coco_config(coco)
    data = cfg.test_dataloader.dataset
    parts = [dict(data, ann_file=f'annotations/{name}.json') for name in ('a', 'b')]
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    cfg.test_evaluator.ann_file = None
    with pytest.raises(ValueError, match=r'loads image 1 .* twice, with other boxes\. Join'):
        measure(cfg, tmp_path)


def test_a_voc_loader_with_cocometric(voc, coco, tmp_path):
    cfg = voc_config(voc)
    cfg.test_evaluator = dict(type='CocoMetric')
    assert mean_ap(measure(cfg, tmp_path)) == 1
    cfg.test_evaluator.ann_file = str(coco / 'annotations/test.json')
    with pytest.raises(ValueError, match="lacks image 'test000'"):
        measure(cfg, tmp_path)


# Any data

SIZES = ((60, 50), (40, 64), (33, 31))
IDS = st.sampled_from(
    [(1, 2, 3), (30, 20, 10), (0, 1, 2), (2**62, 2**53 + 1, 4), ('bb', 'a', '1'), (1.0, 5, 3)]
)
coordinate = st.one_of(st.integers(-10, 50), st.floats(-10, 50, width=16))
side = st.one_of(st.integers(2, 60), st.floats(-1, 60, width=16))
#: What makes content unsound, or only strange: key of an annotation, or of all images.
FAULTS = st.sampled_from(
    [
        *[('annotations', 'bbox', v) for v in ([1, 2, 3], [1, 2, '3', 4], None, [1, 2, 1e400, 4])],
        *[('annotations', 'area', v) for v in (None, -1, 1e12, float('nan'))],
        *[('annotations', 'iscrowd', v) for v in (2, 'yes', [0], -1)],
        *[('annotations', 'ignore', v) for v in (2, 'no', {})],
        *[('annotations', 'image_id', v) for v in (True, '2', 1.5, None, 77)],
        *[('annotations', 'category_id', v) for v in (True, '2', 1.5, None, 77)],
        *[('annotations', 'id', v) for v in (None, [1], 1.5, True)],
        *[('images', 'id', v) for v in (True, None, '7', 2**64, 0.5, 1)],
        *[('images', 'width', v) for v in (0, None, '60', 1e9)],
        *[('categories', 'id', v) for v in (True, None, '7', 2**64, [1], 1)],
        *[('categories', 'name', v) for v in (None, 1, 'bee', 'ants')],
    ]
)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    import cv2
    import numpy as np

    root = tmp_path_factory.mktemp('images')
    (root / 'annotations').mkdir()
    (root / 'JPEGImages').mkdir()
    for index, (width, height) in enumerate(SIZES):
        cv2.imwrite(
            str(root / f'JPEGImages/{index}.png'), np.full((height, width, 3), 99, np.uint8)
        )
    return root


@st.composite
def contents(draw):
    """COCO content, now and then with a fault."""
    image_ids, category_ids = draw(IDS), draw(IDS)
    number = draw(st.sampled_from([lambda i: i, lambda i: f'a{i}', lambda i: 10**30 - i]))
    annotations = []
    for index in range(draw(st.sampled_from([0, 3, 4, 5, 6]))):
        annotation = dict(
            id=number(index),
            image_id=draw(st.sampled_from(image_ids)),
            category_id=draw(st.sampled_from(category_ids)),
            bbox=[draw(coordinate), draw(coordinate), draw(side), draw(side)],
            area=draw(st.sampled_from([100, 100.5, 1, 1e11])),
            iscrowd=draw(st.sampled_from([0, 0, 0, 1, None, '0', '1', False, True, 'missing'])),
            ignore=draw(st.sampled_from([0, 'missing', 1, '0', None])),
        )
        annotations.append({k: v for k, v in annotation.items() if v != 'missing'})
    shape = [dict(file_name=f'{i}.png', width=w, height=h) for i, (w, h) in enumerate(SIZES)]
    content = dict(
        images=[dict(shape[i], id=image_ids[i]) for i in draw(st.permutations(range(3)))],
        categories=[dict(id=category_ids[i], name=name) for i, name in enumerate(CLASSES)],
        annotations=annotations,
    )
    if draw(st.integers(0, 3)) == 0:
        part, key, value = draw(FAULTS)
        for item in content[part][:1]:
            item[key] = value
    return content


@settings(max_examples=60)
@given(content=contents(), file=st.sampled_from(['same', 'copy', 'none', 'other']), more=st.data())
def test_any_coco_data_scores_1_or_is_refused(images, file, content, more):
    path = images / 'annotations/test.json'
    path.write_text(json.dumps(content))
    shutil.rmtree(images / 'runs', ignore_errors=True)
    cfg = coco_config(images)
    cfg.test_dataloader.dataset.metainfo = dict(
        classes=more.draw(st.sampled_from([*[CLASSES] * 5, ('ant', 'cat'), ('cat', 'ant')]))
    )
    if file != 'same':
        other = images / 'annotations/evaluator.json'
        other.write_text(json.dumps(more.draw(contents()) if file == 'other' else content))
        cfg.test_evaluator.ann_file = None if file == 'none' else str(other)
    scores_1_or_is_refused(cfg, images)


def scores_1_or_is_refused(cfg, folder) -> None:
    try:
        figures = measure(cfg, folder)
    except (ValueError, TypeError, FileNotFoundError) as error:
        rule, received = str(error).split(', but ', 1)
        assert 'must' in rule and received.count('. ') >= 1, f'rule, received, remedy: {error}'
        assert not (folder / 'runs').exists(), 'refused before anything is written'
    else:
        assert mean_ap(figures) == 1


@settings(max_examples=25)
@given(data=st.data())
def test_any_voc_data_scores_1_or_is_refused(images, data):
    number = st.one_of(st.integers(-9, 70).map(str), st.sampled_from(['3.7', 'nan', '']))
    for part in ('Annotations', 'ImageSets/Main'):
        (images / part).mkdir(parents=True, exist_ok=True)
    for index, (width, height) in enumerate(SIZES):
        shutil.copy(images / f'JPEGImages/{index}.png', images / f'JPEGImages/v{index}.jpg')
        objects = ''
        for _ in range(data.draw(st.integers(0, 3))):
            x, y = (data.draw(st.integers(-5, 40)) for _ in range(2))
            box = [x, y, *(start + data.draw(st.integers(-1, 30)) for start in (x, y))]
            corners = dict(zip(('xmin', 'ymin', 'xmax', 'ymax'), map(str, box), strict=True))
            if data.draw(st.integers(0, 9)) == 0:
                corners['xmin'] = data.draw(number)
            name = data.draw(st.sampled_from([*CLASSES, 'dog']))
            difficult = data.draw(st.sampled_from(['0', '0', '1']))
            objects += f'<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>'
            objects += ''.join(f'<{key}>{value}</{key}>' for key, value in corners.items())
            objects += '</bndbox></object>'
        (images / f'Annotations/v{index}.xml').write_text(
            f'<annotation><size><width>{width}</width><height>{height}</height></size>{objects}'
            '</annotation>'
        )
    (images / 'ImageSets/Main/test.txt').write_text('v2\nv0\nv1\n')
    shutil.rmtree(images / 'runs', ignore_errors=True)
    cfg = voc_config(images)
    if data.draw(st.booleans()):
        cfg.test_dataloader.dataset.pipeline.insert(1, cfg.test_dataloader.dataset.pipeline.pop(2))
    scores_1_or_is_refused(cfg, images)
