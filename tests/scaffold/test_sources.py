"""The three forms of data, as people and exporters write them."""

import json
import re
import shutil
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask

import tests.tiny  # noqa: F401  (imports mmkd first)
from mmkd.errors import ImageError
from mmkd.scaffold.draw_parts import parts_of
from mmkd.scaffold.read_source import read_source
from mmkd.scaffold.readable import unreadable
from tests.scaffold.sets import images, write_coco, write_labels, write_voc

SIZES = [(64, 48)] * 4
NAMES = ('ant', 'bee')


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Four images in data/images, and what is in them."""
    monkeypatch.chdir(tmp_path)
    return images(Path('data/images'), SIZES)


def read_back(source, part='all'):
    """By the name of the image its objects, in whole pixels."""
    return {
        image.path.name: [(one.name, tuple(round(v) for v in one.box)) for one in image.objects]
        for image in source.parts[part]
    }


def wanted(paths, objects):
    return {path.name: found for path, found in zip(paths, objects, strict=True)}


def of_coco(paths, objects):
    write_coco(Path('data/annotations/all.json'), paths, objects)


def of_voc(paths, objects):
    write_voc(Path('data/Annotations'), paths, objects)


def of_xml_beside_images(paths, objects):
    write_voc(Path('data/images'), paths, objects)


def of_yolo(paths, objects):
    write_labels(Path('data/labels'), paths, objects, NAMES)
    Path('data/data.yaml').write_text('names: [ant, bee]\n')


def of_polygons(paths, objects):
    write_labels(Path('data/labels'), paths, objects, NAMES, polygons=True)
    Path('data/classes.txt').write_text('ant\nbee\n')


def of_labels_beside_images(paths, objects):
    write_labels(Path('data/images'), paths, objects, NAMES)
    Path('data/data.yaml').write_text('train: images\nnames:\n  0: ant\n  1: bee\n')


FORMS = [of_coco, of_voc, of_xml_beside_images, of_yolo, of_polygons, of_labels_beside_images]


@pytest.mark.parametrize('form', FORMS, ids=lambda form: form.__name__)
def test_each_form_says_the_same(made, form):
    form(*made)
    source = read_source(Path('data'))
    part = 'train' if 'train' in source.parts else 'all'
    assert read_back(source, part) == wanted(*made)
    assert source.classes == NAMES
    assert {image.size for image in source.parts[part]} == {(64, 48)}


@pytest.mark.parametrize('form', FORMS, ids=lambda form: form.__name__)
def test_each_text_may_have_a_byte_order_mark(made, form):
    form(*made)
    names = ('.json', '.xml', '.txt', '.yaml')
    texts = [path for path in Path('data').rglob('*') if path.suffix in names]
    for path in texts:
        path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    source = read_source(Path('data'))
    assert texts and read_back(source, next(iter(source.parts))) == wanted(*made)


@pytest.mark.parametrize('form', FORMS, ids=lambda form: form.__name__)
def test_each_folder_may_be_a_link(made, form):
    form(*made)
    for folder in [path for path in Path('data').iterdir() if path.is_dir()]:
        kept = Path('kept') / folder.name
        kept.parent.mkdir(exist_ok=True)
        folder.rename(kept)
        folder.symlink_to(kept.resolve())
    source = read_source(Path('data'))
    assert read_back(source, *source.parts) == wanted(*made)


def test_a_coco_file_alone_and_images_elsewhere(made):
    of_coco(*made)
    Path('data/images').rename('elsewhere')
    file = Path('data/annotations/all.json')
    with pytest.raises(FileNotFoundError, match=r'each image of .* 4 do not.*--images'):
        read_source(file)
    assert read_back(read_source(file, Path('elsewhere'))) == wanted(*made)
    with pytest.raises(FileNotFoundError, match=r'--images must be a folder'):
        read_source(file, Path('nowhere'))


def test_what_a_coco_file_may_lack_is_filled_in(made):
    of_coco(*made)
    file = Path('data/annotations/all.json')
    content = json.loads(file.read_text())
    for image in content['images']:
        del image['width'], image['height']
        image['file_name'] = f'C:\\upload\\{image["file_name"]}'
    for annotation in content['annotations']:
        x, y, w, h = annotation.pop('bbox')
        annotation['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        del annotation['area'], annotation['iscrowd'], annotation['id']
    content['categories'].insert(0, dict(id=0, name='ants'))
    file.write_text(json.dumps(content))
    source = read_source(Path('data'))
    assert read_back(source) == wanted(*made)
    assert source.classes == NAMES
    assert source.notes == ['categories without an object are left out: ants']


def test_crowds_stay_and_boxes_without_an_area_go(made):
    of_coco(*made)
    file = Path('data/annotations/all.json')
    content = json.loads(file.read_text())
    content['annotations'][0]['iscrowd'] = 1
    content['annotations'][1]['bbox'][2] = 0
    file.write_text(json.dumps(content))
    first, *_ = read_source(file).parts['all']
    assert [one.crowd for one in first.objects] == [True]


@pytest.mark.parametrize(
    ('fault', 'match'),
    [
        (lambda c: c['annotations'][0].update(image_id=99), 'image_id of each annotation'),
        (lambda c: c['annotations'][0].update(bbox=[0, 0, float('nan'), 2]), 'four numbers'),
        (lambda c: c['images'][0].update(width=640), r'640 x 48, but it is 64 x 48'),
    ],
)
def test_a_fault_of_a_coco_file_names_the_file(made, fault, match):
    of_coco(*made)
    file = Path('data/annotations/all.json')
    content = json.loads(file.read_text())
    fault(content)
    file.write_text(json.dumps(content))
    with pytest.raises((ValueError, ImageError), match=match):
        read_source(Path('data'))


def test_parts_by_the_names_of_files_or_folders(made):
    paths, objects = made
    for part, at in (('instances_train2017', 0), ('instances_val2017', 2)):
        write_coco(Path(f'data/annotations/{part}.json'), paths[at : at + 2], objects[at : at + 2])
    captions = dict(images=[], annotations=[], categories=[])
    Path('data/annotations/captions_train2017.json').write_text(json.dumps(captions))
    source = read_source(Path('data'))
    assert {part: len(found) for part, found in source.parts.items()} == dict(train=2, val=2)
    alone = read_source(Path('data/annotations/instances_train2017.json'))
    assert list(alone.parts) == ['all'] and 'name the folder' in alone.notes[0]
    shutil.copy('data/annotations/instances_train2017.json', 'data/instances_train.json')
    with pytest.raises(ValueError, match='must have one JSON file for train'):
        read_source(Path('data'))


def test_roboflows_folders(tmp_path):
    for seed, part in enumerate(('train', 'valid', 'test')):
        paths, objects = images(tmp_path / 'coco' / part, SIZES[:2], seed=seed)
        write_coco(tmp_path / 'coco' / part / '_annotations.coco.json', paths, objects)
        paths, objects = images(tmp_path / 'voc' / part, SIZES[:2], seed=seed)
        write_voc(tmp_path / 'voc' / part, paths, objects)
        paths, objects = images(tmp_path / f'yolo/{part}/images', SIZES[:2], seed=seed)
        write_labels(tmp_path / f'yolo/{part}/labels', paths, objects, NAMES)
    (tmp_path / 'yolo/data.yaml').write_text(
        'train: ../train/images\nval: ../valid/images\ntest: ../test/images\n'
        "nc: 2\nnames: ['ant', 'bee']\n"
    )
    read = {form: read_source(tmp_path / form) for form in ('coco', 'voc', 'yolo')}
    for form, source in read.items():
        assert source.form.lower() == form and source.classes == NAMES
        for part in ('train', 'val', 'test'):
            folder = 'valid' if part == 'val' else part
            assert all(folder in image.path.parts for image in source.parts[part])
            assert read_back(source, part) == read_back(read['coco'], part)


def test_lists_of_voc(made):
    of_voc(*made)
    folder = Path('data/ImageSets/Main')
    folder.mkdir(parents=True)
    (folder / 'train.txt').write_text('a000\na002\n')
    (folder / 'val.txt').write_text('a003\n')
    source = read_source(Path('data'))
    assert {part: [p.path.stem for p in found] for part, found in source.parts.items()} == dict(
        train=['a000', 'a002'], val=['a003']
    )
    assert read_source(Path('data/Annotations')).parts.keys() == {'train', 'val'}


def test_faults_of_voc(made):
    of_voc(*made)
    (made[0][1]).unlink()
    with pytest.raises(FileNotFoundError, match=r'must have an image .* 1 have none.*a001'):
        read_source(Path('data'))
    Path('data/Annotations/a001.xml').write_text('<annotation><object/></annotation>')
    with pytest.raises(ValueError, match=r'each XML file must give .*a001\.xml \(no name\)'):
        read_source(Path('data'))


@pytest.mark.parametrize(
    'text',
    [
        'train: images/train\nval: images/val\nnames: [ant, bee]',
        'path: ../datasets/mine\ntrain: images/train\nval: [images/val]\nnames: {0: ant, 1: bee}',
        'train: train.txt\nval: val.txt\nnames: {"1": bee, "0": ant}\ndownload: |\n  import os',
        'train: [images/train]\nvalid: images/val\nnc: 2\nnames:\n- ant\n- bee',
    ],
)
def test_ways_to_write_a_data_yaml(made, text):
    paths, objects = made
    for part, at in (('train', 0), ('val', 2)):
        Path(f'data/images/{part}').mkdir()
        for path in paths[at : at + 2]:
            path.rename(path.parent / part / path.name)
        moved = [path.parent / part / path.name for path in paths[at : at + 2]]
        write_labels(Path(f'data/labels/{part}'), moved, objects[at : at + 2], NAMES)
        lines = ''.join(f'./images/{part}/{path.name}\n' for path in moved)
        Path(f'data/{part}.txt').write_text(lines)
    Path('data/data.yaml').write_text(text)
    for data in (Path('data'), Path('data/data.yaml')):
        source = read_source(data)
        assert source.classes == NAMES
        assert read_back(source, 'train') | read_back(source, 'val') == wanted(*made)


def test_names_that_yaml_takes_for_something_else(made):
    of_yolo(*made)
    Path('data/data.yaml').write_text('names: [no, 1.0]\ntrain: images\nval:\ntest: nowhere\n')
    source = read_source(Path('data'))
    assert source.classes == ('no', '1.0') and list(source.parts) == ['train']


def test_names_without_a_label_are_left_out(made):
    of_yolo(*made)
    Path('data/data.yaml').write_text('names: [ant, bee, cow, dog]\ntrain: images\n')
    source = read_source(Path('data'))
    assert source.classes == NAMES and read_back(source, 'train') == wanted(*made)
    assert source.notes == ['classes without an object are left out: cow, dog']


def test_a_data_yaml_runs_no_code(made):
    of_yolo(*made)
    file = Path('data/data.yaml')
    file.write_text('names: !!python/object/apply:os.system ["touch ran"]\n')
    with pytest.raises(ValueError, match=r'must be one of the 1 classes \(touch ran\)'):
        read_source(Path('data'))
    assert not Path('ran').exists()


@pytest.mark.parametrize(
    ('line', 'match'),
    [
        ('2 0.5 0.5 0.1 0.1', r'one of the 2 classes \(ant, bee\).*class 2'),
        ('0 0.5 0.5 0.1', 'each line must be a class'),
        ('0 32 20 10 10', 'each line must be a class'),
        ('0 nan 0.5 0.1 0.1', 'each line must be a class'),
        ('ant 0.5 0.5 0.1 0.1', r'each line must be a class.*line 3: "ant'),
    ],
)
def test_faults_of_a_label_name_the_file(made, line, match):
    of_yolo(*made)
    with Path('data/labels/a001.txt').open('a') as file:
        file.write(line + '\n')
    with pytest.raises(ValueError, match=match) as raised:
        read_source(Path('data'))
    assert 'a001.txt' in str(raised.value)


def test_images_without_an_object(made):
    of_yolo(*made)
    Path('data/labels/a000.txt').unlink()
    Path('data/labels/a001.txt').write_text('\n')
    found = read_back(read_source(Path('data')))
    assert found['a000.jpg'] == found['a001.jpg'] == [] and len(found) == 4
    for name in ('a002', 'a003'):
        Path(f'data/labels/{name}.txt').unlink()
    with pytest.raises((ValueError, FileNotFoundError), match='must have a label'):
        read_source(Path('data'))


@pytest.mark.parametrize('declared', ['as stored', 'as seen', 'not at all'])
def test_photographs_that_exif_turns(tmp_path, declared):
    """Boxes count in the image as the annotations have its size."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / 'a.jpg', exif=exif)
    image = dict(id=1, file_name='a.jpg')
    if declared != 'not at all':
        width, height = (64, 48) if declared == 'as stored' else (48, 64)
        image.update(width=width, height=height)
    content = dict(
        images=[image],
        categories=[dict(id=1, name='ant')],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 9, 9])],
    )
    (tmp_path / 'all.json').write_text(json.dumps(content))
    source = read_source(tmp_path)
    [image] = source.parts['all']
    assert source.as_stored == (declared == 'as stored')
    flag = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if source.as_stored else 0)
    assert cv2.imread(str(image.path), flag).shape[1::-1] == image.size


def test_no_data(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(b'')
    for data in (tmp_path, tmp_path / 'a.jpg'):
        with pytest.raises(FileNotFoundError, match=re.escape('DATA must be a COCO JSON file')):
            read_source(data)
    with pytest.raises(FileNotFoundError, match='there is no'):
        read_source(tmp_path / 'nowhere')


@pytest.mark.parametrize(
    ('train', 'val'),
    [
        ('train/images', 'val/images'),
        ('train2017/img', 'val2017/img'),
        ('', 'val'),
        ('images/train/cam0', 'images/val/cam0'),
    ],
)
@pytest.mark.parametrize('named', [False, True])
def test_parts_that_number_their_images_from_0_get_their_own(tmp_path, train, val, named):
    for part, folder in (('train', train), ('val', val)):
        paths, objects = images(tmp_path / folder, SIZES, seed=len(part))
        write_coco(tmp_path / f'annotations/{part}.json', paths, objects)
    source = read_source(tmp_path, tmp_path if named else None)
    for part, folder in (('train', train), ('val', val)):
        assert {image.path.parent for image in source.parts[part]} == {tmp_path / folder}


def test_a_mask_in_runs_has_a_box(made):
    of_coco(*made)
    file = Path('data/annotations/all.json')
    content = json.loads(file.read_text())
    for i, annotation in enumerate(content['annotations']):
        x, y, w, h = annotation.pop('bbox')
        pixels = np.zeros((48, 64), np.uint8, order='F')
        pixels[y : y + h, x : x + w] = 1
        packed = mask.encode(pixels)
        edges = np.flatnonzero(np.diff(pixels.ravel('F'), prepend=0, append=0)).tolist()
        plain = np.diff([0, *edges, pixels.size]).tolist()
        counts = plain if i % 2 else packed['counts'].decode()
        annotation['segmentation'] = dict(size=[48, 64], counts=counts)
    file.write_text(json.dumps(content))
    assert read_back(read_source(Path('data'))) == wanted(*made)
    for broken in ({}, dict(size=[0, 64], counts=[1]), dict(size=[48, 64], counts=['a'])):
        content['annotations'][0]['segmentation'] = broken
        file.write_text(json.dumps(content))
        with pytest.raises(ValueError, match='a bbox of four numbers'):
            read_source(Path('data'))


@pytest.mark.parametrize('size', [(0, 0), ('64', '48'), (64.0, 48.0)])
def test_sizes_as_exporters_write_them(made, size):
    of_coco(*made)
    file = Path('data/annotations/all.json')
    content = json.loads(file.read_text())
    for image in content['images']:
        image['width'], image['height'] = size
    file.write_text(json.dumps(content))
    assert read_back(read_source(Path('data'))) == wanted(*made)


def test_trainval_of_voc_is_for_training(made):
    of_voc(*made)
    folder = Path('data/ImageSets/Main')
    folder.mkdir(parents=True)
    (folder / 'trainval.txt').write_text('a000\na001\na002\n')
    (folder / 'test.txt').write_text('a003\n')

    def parts():
        found = read_source(Path('data')).parts
        return {part: [image.path.stem for image in some] for part, some in found.items()}

    assert parts() == dict(train=['a000', 'a001', 'a002'], test=['a003'])
    (folder / 'val.txt').write_text('a002\n')
    assert parts() == dict(train=['a000', 'a001'], val=['a002'], test=['a003'])
    (folder / 'train.txt').write_text('a000\n')
    assert parts() == dict(train=['a000'], val=['a002'], test=['a003'])


@pytest.mark.parametrize('points', ['0.1 0.2 0.9 0.9', '0.1 0.2 2 0 0 0'])
def test_points_of_a_pose_are_no_outline(made, points):
    of_yolo(*made)
    for path in Path('data/labels').iterdir():
        lines = path.read_text().splitlines()
        path.write_text(''.join(f'{line} {points}\n' for line in lines))
    Path('data/data.yaml').write_text('names: [ant, bee]\nkpt_shape: [2, 2]\n')
    assert read_back(read_source(Path('data'))) == wanted(*made)


@pytest.mark.parametrize('yaml', ['', 'train: Images\n'])
def test_folders_in_capital_letters(made, yaml):
    of_yolo(*made)
    Path('data/data.yaml').unlink()
    if yaml:
        Path('data/data.yaml').write_text(f'{yaml}names: [ant, bee]\n')
    else:
        Path('data/classes.txt').write_text('ant\nbee\n')
    Path('data/images').rename('data/Images')
    Path('data/labels').rename('data/Labels')
    source = read_source(Path('data'))
    assert read_back(source, *source.parts) == wanted(*made)


@pytest.mark.parametrize('root', ['/home/me/sets/data/', 'C:\\sets\\data\\', 'data/'])
def test_a_list_of_another_machine(made, root):
    of_yolo(*made)
    split = '\\' if '\\' in root else '/'
    lines = [f'{root}images{split}{path.name}' for path in made[0]]
    Path('data/train.txt').write_text('\n'.join(lines))
    Path('data/data.yaml').write_text('names: [ant, bee]\ntrain: train.txt\n')
    assert read_back(read_source(Path('data')), 'train') == wanted(*made)
    Path('data/train.txt').write_text(f'{root}images{split}lost.jpg')
    with pytest.raises(FileNotFoundError, match=r'of 1 1 are not.*lost\.jpg'):
        read_source(Path('data'))


FAULTS = {
    'half written': lambda content: content[: len(content) // 2],
    'empty': lambda content: b'',
    'no image': lambda content: b'<html>404</html>',
}


@pytest.mark.parametrize('fault', FAULTS)
@pytest.mark.parametrize('form', FORMS, ids=lambda form: form.__name__)
def test_an_image_that_cannot_be_read_is_left_out_and_told(made, form, fault):
    form(*made)
    broken = made[0][1]
    broken.write_bytes(FAULTS[fault](broken.read_bytes()))
    source = read_source(Path('data'))
    left = {name: found for name, found in wanted(*made).items() if name != broken.name}
    assert read_back(source, next(iter(source.parts))) == left
    [note] = [note for note in source.notes if 'cannot be read' in note]
    assert note.startswith(f'1 of {len(made[0])} images cannot be read and is left out: ')
    assert broken.name in note


@pytest.mark.parametrize('form', FORMS, ids=lambda form: form.__name__)
def test_some_image_must_be_one_that_can_be_read(made, form):
    form(*made)
    for path in made[0]:
        path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(ValueError, match='some image must be one that can be read, but of'):
        read_source(Path('data'))


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'bmp', 'tif', 'webp'])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.5, 0.99, 1.0])
def test_what_the_loader_refuses_is_left_out(tmp_path, suffix, share):
    whole, path = tmp_path / f'a.{suffix}', tmp_path / f'b.{suffix}'
    cv2.imwrite(str(whole), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    try:
        loaded = mmcv.imfrombytes(path.read_bytes()) is not None
    except (ValueError, cv2.error):
        loaded = False
    assert (path not in unreadable([whole, path])) == loaded == (share == 1.0)


def test_what_a_coco_file_has_that_is_not_taken_as_it_is_is_told(made):
    of_coco(*made)
    file = Path('data/annotations/all.json')
    content = json.loads(file.read_text())
    content['annotations'][0]['bbox'][2] = 0.1
    content['annotations'][1]['bbox'][2] = 999
    file.write_text(json.dumps(content))
    told = '1 boxes without a pixel in the image left out, 1 boxes clipped to the image'
    assert any(told in note for note in read_source(Path('data')).notes)
    for annotation in content['annotations']:
        annotation['bbox'] = [value / 100 for value in (*annotation['bbox'][:2], 1, 1)]
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'of 4 0 have some .*8 boxes without a pixel'):
        parts_of(read_source(Path('data')))


def test_an_image_that_is_listed_twice_keeps_what_is_annotated(made):
    of_coco(*made)
    file = Path('data/annotations/all.json')
    content = json.loads(file.read_text())
    content['images'].append({**content['images'][0], 'id': 99})
    content['annotations'][0]['image_id'] = 99
    file.write_text(json.dumps(content))
    source = read_source(Path('data'))
    found = {name: sorted(objects) for name, objects in read_back(source).items()}
    assert found == {name: sorted(objects) for name, objects in wanted(*made).items()}
    assert any('lists 1 image again under another id' in note for note in source.notes)


@pytest.mark.parametrize(
    'change',
    [
        ('<width>64</width><height>48</height>', '<width>0</width><height>0</height>'),
        ('</name>', '</name><difficult></difficult>'),
        ('</name>', '</name><difficult/>'),
    ],
)
def test_what_an_xml_file_leaves_open(made, change):
    of_voc(*made)
    path = next(Path('data').rglob('a001.xml'))
    path.write_text(path.read_text().replace(*change))
    assert read_back(read_source(Path('data'))) == wanted(*made)


def test_names_of_a_data_yaml_as_text(made):
    of_yolo(*made)
    file = next(Path('data').glob('*.yaml'))
    file.write_text('train: images\nnames: ant, bee\n')
    with pytest.raises(ValueError, match=r'names must be a list .*got the text "ant, bee"'):
        read_source(Path('data'))
    file.write_text('train: images\nnames: my.names\n')
    Path('data/my.names').write_text('ant\nbee\n')
    assert read_source(Path('data')).classes == NAMES
