"""The size that annotations give is that of the decoded image, and boxes lie on the objects."""

import json
import mmap

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.registry import DATASETS, TRANSFORMS
from PIL import Image
from torch.utils.data import DataLoader

from mmkd.datasets import image_file
from mmkd.datasets.image_file import check_declared_size
from mmkd.errors import ImageError
from tests.tiny import write_voc

pytestmark = pytest.mark.usefixtures('mmdet_scope')
OBJECT = (10, 5, 25, 15)  # x1, y1, x2, y2 in the image as it is stored, of 60 x 40 pixels
TURNS = {  # EXIF orientation -> the image as viewers show it
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.fixture(autouse=True)
def notes(monkeypatch) -> list[str]:
    """What is said of images whose size does not tell; nothing was before."""
    found: list[str] = []
    monkeypatch.setattr(image_file, '_TOLD', mmap.mmap(-1, 2))

    def keep(text, *_, **__):
        if 'EXIF' in text:
            found.append(text)

    monkeypatch.setattr('mmengine.logging.print_log', keep)
    return found


def stored(size=(60, 40)) -> np.ndarray:
    image = np.zeros((*size[::-1], 3), np.uint8)
    x1, y1, x2, y2 = OBJECT
    image[y1:y2, x1:x2] = 255
    return image


def box_of(image) -> tuple[int, ...]:
    rows, columns = np.where(image[..., 0] > 128)
    return tuple(map(int, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)))


def data_set(root, orientation=1, turned=False, form='JPEG', size=(60, 40), kind='Coco', **loader):
    """A data set of one image, annotated as it is stored or as viewers turn it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = TURNS[orientation](stored(size)) if turned else stored(size)
    height, width = seen.shape[:2]
    x1, y1, x2, y2 = box_of(seen)
    for folder in ('JPEGImages', 'Annotations'):
        (root / folder).mkdir(exist_ok=True)
    Image.fromarray(stored(size)).save(root / 'JPEGImages/a.jpg', form, quality=95, exif=exif)
    box = dict(id=1, image_id=1, category_id=1, bbox=[x1, y1, x2 - x1, y2 - y1], area=9, iscrowd=0)
    image = dict(id=1, file_name='a.jpg', width=width, height=height)
    content = dict(images=[image], annotations=[box], categories=[dict(id=1, name='a')])
    (root / 'a.json').write_text(json.dumps(content))
    (root / 'a.txt').write_text('a\n')
    corners = zip(('xmin', 'ymin', 'xmax', 'ymax'), (x1, y1, x2, y2), strict=True)
    corners = ''.join(f'<{key}>{value + 1}</{key}>' for key, value in corners)
    (root / 'Annotations/a.xml').write_text(
        f'<annotation><size><width>{width}</width><height>{height}</height></size>'
        f'<object><name>a</name><bndbox>{corners}</bndbox></object></annotation>'
    )
    options = dict(
        Coco=dict(type='CocoDataset', ann_file='a.json', data_prefix=dict(img='JPEGImages/')),
        VOC=dict(type='VOCDataset', ann_file='a.txt', data_prefix=dict(sub_data_root='')),
    )
    load = dict(type='LoadImageFromFile', **loader)
    options = dict(data_root=f'{root}/', metainfo=dict(classes=('a',)), **options[kind])
    return dict(**options, pipeline=[load], serialize_data=False)  # mmengine's collects garbage


def share_inside(data) -> float:
    """How much of the object lies in its box."""
    [[x1, y1, x2, y2]] = [map(int, instance['bbox']) for instance in data['instances']]
    bright = data['img'][..., 0] > 128
    return bright[y1:y2, x1:x2].sum() / bright.sum()


@pytest.mark.parametrize('turned', [False, True])
@pytest.mark.parametrize('color_type', ['color', 'color_ignore_orientation'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('form, kind', [('JPEG', 'Coco'), ('JPEG', 'VOC'), ('PNG', 'Coco')])
def test_boxes_lie_on_the_objects_or_the_image_is_refused(
    tmp_path, notes, form, kind, backend, color_type, turned
):
    loader = dict(color_type=color_type, imdecode_backend=backend)
    other = {'color': 'color_ignore_orientation', 'color_ignore_orientation': 'color'}[color_type]
    for orientation in TURNS:
        image_file._TOLD[0] = 0
        config = data_set(tmp_path, orientation, turned, form, kind=kind, **loader)
        dataset = DATASETS.build(config)
        sound = turned == (color_type == 'color') or orientation == 1
        if orientation > 4 and not sound:
            sizes = r'give 40 x 60 and it is 60 x 40' if turned else 'give 60 x 40 and it is 40 x 6'
            match = rf"a\.jpg\" they {sizes}.*orientation {orientation}.*set color_type='{other}' "
            with pytest.raises(ImageError, match=match):
                dataset[0]
            config['pipeline'][0]['color_type'] = other
            dataset = DATASETS.build(config)
            sound = True
        notes.clear()
        share = share_inside(dataset[0])
        assert share == pytest.approx(1, abs=0.05) if sound else share < 0.5
        # A mirrored image, or one turned upside down, has the size of the other reading.
        assert [f'orientation {orientation}' in note for note in notes] == (
            [True] if orientation in (2, 3, 4) else []
        )
        assert all(f"set color_type='{other}'" in note for note in notes)


@pytest.mark.parametrize('size', [(40, 40), (60, 40)])
def test_what_no_size_can_tell_is_said_once(tmp_path, notes, size):
    config = data_set(tmp_path, 6, True, size=size)
    for _ in range(2):
        DATASETS.build(config)[0]
    assert len(notes) == (size == (40, 40))


def test_an_xml_without_size_tells_nothing_of_the_orientation(tmp_path, notes):
    config = data_set(tmp_path, 6, True, kind='VOC')
    path = tmp_path / 'Annotations/a.xml'
    path.write_text(path.read_text().replace('size>', 'no_size>'))
    assert share_inside(DATASETS.build(config)[0]) == pytest.approx(1, abs=0.05)
    assert len(notes) == 1
    config['pipeline'][0]['color_type'] = 'color_ignore_orientation'
    with pytest.raises(
        ImageError, match=r'Write the size that its boxes belong to into ".*a\.xml"'
    ):
        DATASETS.build(config)[0]


def test_the_workers_know_what_another_has_said(tmp_path):
    dataset = DATASETS.build(data_set(tmp_path, 3))
    next(iter(DataLoader(dataset, num_workers=1, collate_fn=list, multiprocessing_context='fork')))
    assert image_file._TOLD[0] == 1


@pytest.mark.parametrize(
    'backend, form, match',
    [
        ('cv2', 'WEBP', "color_type='color', imdecode_backend='pillow' in"),  # it reads no EXIF
        ('pillow', 'TIFF', 'Save the image anew as its boxes lie'),  # they turn it in any case
    ],
)
def test_where_the_flag_changes_nothing_something_else_is_advised(tmp_path, backend, form, match):
    config = data_set(tmp_path, 8, form == 'WEBP', form, imdecode_backend=backend)
    with pytest.raises(ImageError, match=match):
        DATASETS.build(config)[0]


@pytest.mark.parametrize('kind', ['Coco', 'VOC'])
@pytest.mark.parametrize(
    'size, match',
    [((120, 80), 'put the original image back, or scale its boxes'), ((40, 60), 'else turn the')],
)
def test_an_image_that_was_changed_is_refused(tmp_path, kind, size, match):
    config = data_set(tmp_path, kind=kind)
    cv2.imwrite(str(tmp_path / 'JPEGImages/a.jpg'), cv2.resize(stored(), size))
    dataset = DATASETS.build(config)
    with pytest.raises(
        ImageError,
        match=rf'^the annotations must give the size of the decoded image, but for ".*a\.jpg" they '
        rf'give 60 x 40 and it is {size[0]} x {size[1]}\. .*{match}',
    ):
        dataset[0]


side = st.integers(1, 500)


@given(side, side, side, side)
def test_any_other_size_is_refused(width, height, given_width, given_height):
    results = dict(img_path='a.jpg', width=given_width, height=given_height)
    results['ori_shape'] = (height, width)
    if (width, height) == (given_width, given_height):
        check_declared_size(results, 'color', 'cv2')
    else:
        with pytest.raises(ImageError, match=f'{given_width} x {given_height} and it is {width} x'):
            check_declared_size(results, 'color', 'cv2')


VALID = {
    'no size is given, as in inference': (dict(), {}),
    'a whole number as a float': (dict(width=60.0, height=40.0), {}),
    'an image that lies in no file': (dict(width=60, height=40, img_path=None), {}),
    'floats, one channel': (dict(width=60, height=40), dict(to_float32=True, color_type=0)),
}


@pytest.mark.parametrize('case', VALID)
def test_what_is_right_is_loaded(tmp_path, case):
    data_set(tmp_path)
    results, options = VALID[case]
    results = {'img_path': str(tmp_path / 'JPEGImages/a.jpg'), **results}
    if results['img_path'] is None:
        load = TRANSFORMS.build(dict(type='LoadImageFromNDArray'))
        results['img'] = stored()
    else:
        load = LoadImageFromFile(**options)
    assert load(results)['ori_shape'] == (40, 60)


class Loader(BaseTransform):
    """A loader of the user's own, of half the size; it says so, or it does not."""

    def __init__(self, ori_shape):
        self.ori_shape = ori_shape

    def transform(self, results):
        return {**results, 'img': np.zeros((20, 30, 3)), 'ori_shape': self.ori_shape}


def test_loaders_of_the_users_own():
    results = dict(img_path='a', width=60, height=40)
    assert Loader((40, 60, 3))(dict(results))['img'].shape == (20, 30, 3)
    with pytest.raises(ImageError, match='give 60 x 40 and it is 30 x 20'):
        Loader((20, 30))(dict(results))


def test_broken_exif_is_no_exif(tmp_path):
    data_set(tmp_path, 6)
    path = tmp_path / 'JPEGImages/a.jpg'
    content = path.read_bytes()
    start = content.index(b'Exif')
    for length in range(0, 30, 3):
        path.write_bytes(content[: start + 6] + b'\xff' * length + content[start + 6 + length :])
        image_file._orientation(str(path))


def test_voc_images_of_the_right_size_are_loaded(tmp_path):
    write_voc(tmp_path, 'train', 2, ('a',))
    options = dict(ann_file='ImageSets/Main/train.txt', data_prefix=dict(sub_data_root=''))
    load = dict(type='LoadImageFromFile')
    dataset = dict(type='VOCDataset', data_root=f'{tmp_path}/', metainfo=dict(classes=('a',)))
    assert len(list(DATASETS.build({**dataset, **options, 'pipeline': [load]}))) == 2
