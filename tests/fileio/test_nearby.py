"""What is there instead of a missing file is named."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd.datasets.data_checks import check_data
from mmkd.fileio.nearby import absent, nearby
from tests.datasets.test_annotations import coco, loader, voc

COMPOSED = unicodedata.normalize('NFC', 'é')
APART = unicodedata.normalize('NFD', 'é')
MEANT = {  # what the annotations name, what there is in JPEGImages
    'case': ('a.jpg', 'a.JPG', '"a.JPG" for "a.jpg"'),
    'composed': (f'{COMPOSED}.jpg', f'{APART}.jpg', 'in another Unicode form'),
    'decomposed': (f'{APART}.jpg', f'{COMPOSED}.jpg', 'in another Unicode form'),
    'backslash': ('sub\\a.jpg', 'sub/a.jpg', '"sub/a.jpg" for'),
    'quoted': ('a%20b.jpg', 'a b.jpg', '"a b.jpg" for "a%20b.jpg"'),
    'suffix': ('a.jpg', 'a.png', '"a.png" for "a.jpg"'),
    'no suffix': ('a', 'a.jpg', '"a.jpg" for "a"'),
    'one folder too many': ('train/a.jpg', 'a.jpg', '"a.jpg" for "train/a.jpg"'),
    'one folder too few': ('a.jpg', 'train/a.jpg', '"train/a.jpg" for "a.jpg"'),
    'another folder': ('a.jpg', '../images/a.jpg', '"../images/a.jpg" for "a.jpg"'),
    'of another machine': ('C:\\data\\a.jpg', 'a.jpg', '"a.jpg" for'),
    'blank at the end': ('a .jpg', 'a.jpg', '"a.jpg" for "a .jpg"'),
}


@pytest.mark.parametrize('case', MEANT)
def test_what_is_meant_is_named(tmp_path, case):
    name, there, match = MEANT[case]
    coco(tmp_path, lambda c: c['images'][1].update(file_name=name))
    path = tmp_path / 'JPEGImages' / there
    path.parent.mkdir(exist_ok=True)
    (tmp_path / 'JPEGImages/train001.jpg').rename(path)
    config = loader('CocoDataset', tmp_path)
    with pytest.raises(FileNotFoundError, match=rf'1 do not: .*there is .*{re.escape(match)}'):
        check_data(config, ('train',))
    content = json.loads((tmp_path / 'annotations/train.json').read_text())
    content['images'][1]['file_name'] = there
    (tmp_path / 'annotations/train.json').write_text(json.dumps(content))
    check_data(config, ('train',))


@pytest.mark.parametrize('name, there', [('a', 'A.xml'), (COMPOSED, f'{APART}.xml')])
def test_xml_files_that_are_meant_are_named(tmp_path, name, there):
    voc(tmp_path)
    (tmp_path / 'ImageSets/Main/train.txt').write_text(f'train000\n{name}\n')
    (tmp_path / 'Annotations/train001.xml').rename(tmp_path / 'Annotations' / there)
    with pytest.raises(FileNotFoundError, match=f'there is "{there}" for "{name}.xml"'):
        check_data(loader('VOCDataset', tmp_path), ('train',))


def test_folders_and_annotation_files_that_are_meant_are_named(tmp_path):
    coco(tmp_path)
    for changes, match in (
        (dict(ann_file='Annotations/Train.json'), r'train\.json" for "Train\.json"'),
        (dict(ann_file='annotations/train.jsn'), '"train.json" for'),
        (dict(data_prefix=dict(img='jpegimages/')), '"JPEGImages" for "jpegimages"'),
    ):
        config = loader('CocoDataset', tmp_path, **changes)
        with pytest.raises(FileNotFoundError, match=f'must exist.*there is .*{match}'):
            check_data(config, ('train',))


def test_nothing_is_named_where_nothing_is_near(tmp_path):
    folder = tmp_path / 'far/away'  # from the folders of other tests
    folder.mkdir(parents=True)
    (folder / 'b.jpg').touch()
    for name in ('a.jpg', 'b1.jpg', 'x/y/z.jpg', '', '/', '%'):
        assert nearby(str(folder), name) is None
        assert nearby(str(folder / 'images'), name) is None


def test_of_two_variants_the_very_name_comes_first(tmp_path):
    for folder in ('Images', 'images'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f'{folder}.jpg').touch()
    (tmp_path / 'Images/a.JPG').touch()
    (tmp_path / 'images/a.JPG').touch()
    assert nearby(str(tmp_path / 'images'), 'a.jpg') == str(tmp_path / 'images/a.JPG')


@given(st.text(st.characters(blacklist_characters='\0', blacklist_categories=['Cs']), max_size=20))
def test_any_name_is_looked_for(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / 'a/b'
    folder.mkdir(parents=True, exist_ok=True)
    found = nearby(str(folder), name)
    assert found is None or Path(found).exists()
    assert absent(str(folder), [name]) in ([], [name])
