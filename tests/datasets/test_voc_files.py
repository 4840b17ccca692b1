"""VOC's lists, images and XML files are read as mmdet reads them, or refused by name."""

import json
import random
import re
import shutil

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmdet.datasets import VOCDataset
from mmengine.registry import DATASETS

from mmkd.datasets.data_checks import check_data
from mmkd.datasets.voc_annotations import check_voc
from mmkd.datasets.voc_files import VocImages, listed_images
from mmkd.datasets.voc_to_coco import write_coco
from mmkd_cli.main import main
from tests.datasets.test_annotations import loader, voc
from tests.tiny import write_voc

CLASSES = ('a', 'b', 'c')


def load(root, **changes):
    config = loader('VOCDataset', root, serialize_data=False, **changes)
    pipeline = [dict(type='LoadImageFromFile')]
    return DATASETS.build(dict(config.train_dataloader.dataset, pipeline=pipeline, _scope_='mmdet'))


def renamed(root, name, suffix='.jpg'):
    """A data set of two images, one of them called ``name``."""
    write_voc(root, 'train', 2, CLASSES)
    (root / 'Annotations/train001.xml').rename(root / f'Annotations/{name}.xml')
    image = cv2.imread(str(root / 'JPEGImages/train001.jpg'))
    (root / 'JPEGImages/train001.jpg').unlink()
    cv2.imwrite(str(root / f'JPEGImages/{name}{suffix}'), image)
    return root / 'ImageSets/Main/train.txt'


@pytest.mark.parametrize('name', ['ali (1)', '000005 -1', 'é ü', 'a.b', 'IMG 2 of 3'])
@pytest.mark.parametrize(
    'text',
    ['{}\ntrain000\n', '\ufeff{}\ntrain000\n', '{}\r\n\r\ntrain000\r\n', '\n{}\n \ntrain000'],
)
def test_names_with_blanks_marks_and_empty_lines(tmp_path, name, text):
    renamed(tmp_path, name).write_bytes(text.format(name).encode())
    check_data(loader('VOCDataset', tmp_path), ('train',))
    dataset = load(tmp_path)
    assert [data['img_id'] for data in dataset] == [name, 'train000']


line = st.text(st.characters(blacklist_categories=['Cs', 'Cc', 'Zl', 'Zp']), max_size=8)


@given(st.lists(line, max_size=5), st.sampled_from(['\n', '\r\n', '\r']), st.booleans())
def test_the_check_and_mmdet_read_the_same_names(tmp_path_factory, lines, end, mark):
    path = tmp_path_factory.getbasetemp() / 'list.txt'
    path.write_bytes((('\ufeff' if mark else '') + end.join(lines)).encode())
    names = listed_images(str(path))
    expected = [line for line in lines if line.strip()]
    if not mark and expected and lines[0].startswith('\ufeff'):
        expected[:1] = [name for name in [lines[0][1:]] if name.strip()]
    assert names == expected


@pytest.mark.parametrize(
    'content, match',
    [
        ('train000 -1\ntrain001  1\n', 'list of one class, .*: give the list of all images'),
        ('train000.jpg\ntrain001.jpg\n', '2 of its 2 names have none'),
        ('train000 \n', r'there is "train000\.xml" for "train000 \.xml"'),
        ('train000\ttrain001\n', '1 of its 1 names have none'),
        ('\n\n', 'it is empty'),
    ],
)
def test_lists_that_are_something_else(tmp_path, content, match):
    write_voc(tmp_path, 'train', 2, CLASSES)
    (tmp_path / 'ImageSets/Main/train.txt').write_text(content)
    with pytest.raises(FileNotFoundError, match=match):
        check_data(loader('VOCDataset', tmp_path), ('train',))


def test_a_list_in_utf_16(tmp_path):
    write_voc(tmp_path, 'train', 2, CLASSES)
    (tmp_path / 'ImageSets/Main/train.txt').write_bytes('train000\n'.encode('utf-16'))
    with pytest.raises(ValueError, match=r'a list of images in UTF-8, but ".*train\.txt" is not'):
        check_data(loader('VOCDataset', tmp_path), ('train',))


@pytest.mark.parametrize('suffix', ['.jpeg', '.png', '.bmp', '.tif', '.webp', '.JPG', '.PNG'])
def test_images_with_another_suffix(tmp_path, suffix):
    renamed(tmp_path, 'x (1)', suffix).write_text('x (1)\ntrain000\n')
    check_data(loader('VOCDataset', tmp_path), ('train',))
    dataset = load(tmp_path)
    assert [data['img'].shape for data in dataset] == [(120, 160, 3)] * 2
    (tmp_path / 'annotations').mkdir()
    write_coco(tmp_path, CLASSES, ['train'])
    content = json.loads((tmp_path / 'annotations/train.json').read_text())
    assert [i['file_name'] for i in content['images']] == [f'x (1){suffix}', 'train000.jpg']
    notes = check_data(loader('CocoDataset', tmp_path), ('train',))
    assert all('has no box of' in note for note in notes)


def test_an_image_in_a_subfolder_is_converted_under_its_path(tmp_path):
    write_voc(tmp_path, 'train', 1, CLASSES)
    for folder, name in (('JPEGImages', 'train000.jpg'), ('Annotations', 'train000.xml')):
        (tmp_path / folder / 'day').mkdir()
        shutil.move(tmp_path / folder / name, tmp_path / folder / 'day' / name)
    (tmp_path / 'ImageSets/Main/train.txt').write_text('day/train000\n')
    (tmp_path / 'annotations').mkdir()
    write_coco(tmp_path, CLASSES, ['train'])
    check_data(loader('CocoDataset', tmp_path), ('train',))


def test_two_images_of_one_name_are_refused(tmp_path):
    """Which of them was annotated nothing says; a .jpg is what mmdet takes."""
    list_ = renamed(tmp_path, 'x', '.png')
    list_.write_text('x\n')
    shutil.copy(tmp_path / 'JPEGImages/x.png', tmp_path / 'JPEGImages/x.bmp')
    with pytest.raises(FileNotFoundError, match=r'1 do not: x\.jpg.*there is "x\.bmp"'):
        check_data(loader('VOCDataset', tmp_path), ('train',))
    shutil.copy(tmp_path / 'JPEGImages/train000.jpg', tmp_path / 'JPEGImages/x.jpg')
    check_data(loader('VOCDataset', tmp_path), ('train',))
    assert VocImages().find('s3://bucket/JPEGImages', 'x.jpg') == 'x.jpg'


def test_nothing_is_converted_of_a_split_that_lacks_an_image(tmp_path):
    write_voc(tmp_path, 'train', 2, CLASSES)
    write_voc(tmp_path, 'val', 2, CLASSES)
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'JPEGImages/val001.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r'val: each image of the split.*val001\.jpg'):
        write_coco(tmp_path, CLASSES, ['train', 'val'])
    assert not list((tmp_path / 'annotations').iterdir())


@pytest.mark.parametrize(
    'text, match',
    [
        ('<difficult></difficult>', 'difficult is None'),
        ('<difficult/>', 'difficult is None'),
        ('<difficult>Unspecified</difficult>', "difficult is 'Unspecified'"),
        ('<difficult>0.0</difficult>', r"difficult is '0\.0'"),
        ('', None),
        ('<difficult> 1 </difficult>', None),
    ],
)
def test_difficult_that_is_no_number(tmp_path, text, match):
    voc(tmp_path)
    path = tmp_path / 'Annotations/train001.xml'
    path.write_text(path.read_text().replace('<difficult>0</difficult>', text))
    if match is None:
        check_data(loader('VOCDataset', tmp_path), ('train',))
        return
    with pytest.raises(ValueError, match=rf'a whole number as difficult.*train001\.xml \({match}'):
        check_data(loader('VOCDataset', tmp_path), ('train',))
    # Of an object that the classes do not name, mmdet reads nothing else.
    path.write_text(path.read_text().replace('<name>', '<name>not '))
    check_data(loader('VOCDataset', tmp_path), ('train',))


def test_difficult_objects_teach_nothing(tmp_path):
    voc(tmp_path)
    (tmp_path / 'ImageSets/Main/train.txt').write_text('train001\n')
    path = tmp_path / 'Annotations/train001.xml'
    path.write_text(path.read_text().replace('<difficult>0<', '<difficult>1<'))
    with pytest.raises(ValueError, match='some box must be left to learn from'):
        check_data(loader('VOCDataset', tmp_path), ('train',))
    check_data(
        dict(default_scope='mmdet', val_dataloader=loader('VOCDataset', tmp_path).train_dataloader),
        ('val',),
    )


def test_a_coordinate_without_end(tmp_path):
    voc(tmp_path, lambda root: setattr(root.find('object/bndbox/xmin'), 'text', 'inf'))
    with pytest.raises(ValueError, match=r'train001\.xml \(cannot convert float infinity'):
        check_data(loader('VOCDataset', tmp_path), ('train',))


def test_an_xml_that_passes_is_read_by_mmdet(tmp_path):
    """Bytes changed, cut or added: what the check lets through mmdet's data set takes."""
    write_voc(tmp_path, 'train', 1, CLASSES)
    path = tmp_path / 'Annotations/train000.xml'
    whole, chance, refused = path.read_bytes(), random.Random(0), 0
    options = dict(data_root=f'{tmp_path}/', data_prefix=dict(sub_data_root=''), pipeline=[])
    options.update(metainfo=dict(classes=CLASSES), serialize_data=False)
    for _ in range(600):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            values = [i for i, byte in enumerate(content) if chr(byte) in '0123456789ab']
            start = chance.choice(values)
            new = chance.choice([b'', b'9', b'-', b'<', b'e', b'.', b'\xff', b' ', b'inf'])
            content[start : start + chance.choice([0, 1, 1, 2, 9])] = new
        path.write_bytes(content)
        arguments = str(tmp_path / 'ImageSets/Main/train.txt'), str(tmp_path / 'Annotations')
        try:
            check_voc('here', *arguments, CLASSES)
        except ValueError as error:
            assert 'each XML file must' in str(error)
            refused += 1
        else:
            VOCDataset(ann_file='ImageSets/Main/train.txt', **options)
    assert 50 < refused < 570


@pytest.fixture
def voc_root(tmp_path):
    for split in ('train', 'val'):
        write_voc(tmp_path, split, 6, CLASSES, boxes=4)
    (tmp_path / 'annotations').mkdir()
    return tmp_path


@pytest.mark.parametrize(
    'classes, splits, match',
    [
        (('x', 'y'), ('train', 'val'), r'--classes must name objects .*\(a.*\), but got x, y, of'),
        (
            ('A', 'B', 'C'),
            ('train',),
            r'must name objects .* but got A, B, C, of which there is no',
        ),
        (('a', 'b', 'a'), ('train',), r'--classes must name each class once, but got a again'),
        (
            CLASSES,
            ('trian', 'val'),
            r'none for trian; there are: train, val\. Correct ROOT or --sp',
        ),
    ],
)
def test_wrong_names_leave_nothing_behind(voc_root, classes, splits, match):
    with pytest.raises(SystemExit, match=match):
        main(['data', 'voc2coco', str(voc_root), '--classes', *classes, '--splits', *splits])
    assert not list((voc_root / 'annotations').iterdir())


def test_a_wrong_root_is_told(tmp_path):
    with pytest.raises(SystemExit, match=r'list of images in ".*nope/.*none for train; .*: none'):
        main(
            ['data', 'voc2coco', str(tmp_path / 'nope'), '--classes', *CLASSES, '--splits', 'train']
        )


def test_classes_that_are_left_out_or_not_there_are_told(voc_root, capsys):
    """A data set may lack a class of a larger one; and one may want fewer classes."""
    command = ['data', 'voc2coco', str(voc_root), '--splits', 'train', 'val']
    main([*command, '--classes', 'a', 'other'])
    told = capsys.readouterr()
    assert 'warning: no object of other' in told.err
    assert re.search(r'warning: \d+ objects of b left out', told.err)
    content = json.loads((voc_root / 'annotations/train.json').read_text())
    assert [category['name'] for category in content['categories']] == ['a', 'other']
    assert {a['category_id'] for a in content['annotations']} == {1}


def test_images_without_any_object_are_converted(voc_root, capsys):
    for path in (voc_root / 'Annotations').iterdir():
        path.write_text(re.sub('<object>.*</object>', '', path.read_text(), flags=re.DOTALL))
    main(['data', 'voc2coco', str(voc_root), '--classes', *CLASSES, '--splits', 'train', 'val'])
    assert '6 images, 0 boxes' in capsys.readouterr().out
