"""Images in every form go through the rules of the pipeline's loader."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from PIL import Image

from mmkd import load
from mmkd.errors import ImageError
from tests.predict.conftest import pair_config
from tests.predict.test_load import same


@pytest.fixture(scope='module')
def detect(place):
    return load(place.student__pth, device='cpu')


def opened(place, **loader):
    """The student with another loader."""
    return load(place.student__pth, Config(pair_config(place.folder, **loader)), device='cpu')


def array(kind: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)
    image[20:60, 30:80] = (250, 10, 90)
    return {
        'bgr': image,
        'grey': image[..., 0],
        'grey with channel': image[..., :1],
        'alpha': np.dstack([image, image[..., 0]]),
        '16 bits': image.astype(np.uint16) * 257,
        '16 bits grey': image[..., 1].astype(np.uint16) * 257,
        'float': image.astype(np.float32),
        'float64 grey': image[..., 1].astype(np.float64),
        'mask': image[..., 0] > 100,
    }[kind]


@pytest.mark.parametrize(
    'kind', ['bgr', 'grey', 'grey with channel', 'alpha', '16 bits', '16 bits grey']
)
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_an_array_is_what_its_file_is(place, tmp_path, kind, backend):
    detect = opened(place, imdecode_backend=backend)
    path = str(tmp_path / 'image.png')
    cv2.imwrite(path, array(kind))
    outcomes = []
    for image in (path, array(kind)):
        try:
            outcomes.append(detect.prepare(image))
        except ImageError as error:  # 16 bits, which Pillow cuts off: of a file it is told
            assert backend == 'pillow' and '16 bits' in str(error)
    if len(outcomes) == 2:
        np.testing.assert_array_equal(outcomes[0].pixels, outcomes[1].pixels)
        assert torch.equal(outcomes[0].data['inputs'], outcomes[1].data['inputs'])


def test_what_is_no_file_is_read_alike(detect):
    np.testing.assert_array_equal(detect.prepare(array('float')).pixels, array('bgr'))
    assert len(detect(array('float')))
    same(detect(array('float64 grey')), detect(array('16 bits grey')))
    assert detect.prepare(array('mask')).pixels.max() == 255
    assert len(detect(np.zeros((8, 8, 3), np.float32))) <= 20


@pytest.mark.parametrize(
    'image, told',
    [
        (np.zeros((4, 4, 2), np.uint8), 'must be an array .* but got uint8 of shape'),
        (np.zeros((4,), np.uint8), 'must be an array'),
        (np.zeros((0, 4, 3), np.uint8), 'must be an array'),
        (np.zeros((4, 4, 3), np.int64), 'but got int64'),
        (np.full((4, 4, 3), 0.5), 'values from 0 to 255, but got 0.5 to 0.5'),
        (np.full((4, 4, 3), np.nan), 'values from 0 to 255'),
        (np.full((4, 4, 3), -1.0), 'values from 0 to 255'),
        ('no/such.jpg', r'"no/such.jpg" is not \(.*No such file'),
    ],
)
def test_what_is_no_image_is_told(detect, image, told):
    with pytest.raises(ImageError, match=told):
        detect(image)


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_an_image_of_which_nothing_is_left_is_told(place, backend):
    """Of one pixel in a thousand, as a ruler or a spectrum has them."""
    config = pair_config(place.folder)
    config['test_dataloader']['dataset']['pipeline'][1]['backend'] = backend
    detect = load(place.student__pth, Config(config), device='cpu')
    with pytest.raises(ImageError, match=r'that Resize can prepare, but .* 3 x 9000 pixels is not'):
        detect(np.zeros((3, 9000, 3), np.uint8))


def test_an_image_of_pillow_is_ambiguous(detect):
    with pytest.raises(TypeError, match=r'but got Image\. Of an image of Pillow give'):
        detect(Image.new('RGB', (8, 8)))


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_exif_turns_an_image_as_in_a_test(place, tmp_path, orientation):
    """By the loader's color_type, and boxes lie in the image as it is loaded."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array('bgr')).save(tmp_path / 'a.jpg', exif=exif, quality=95)
    turned, stored = (
        opened(place, color_type=kind) for kind in ('color', 'color_ignore_orientation')
    )
    shapes = [one.prepare(str(tmp_path / 'a.jpg')).pixels.shape for one in (turned, stored)]
    assert shapes == [(120, 90, 3) if orientation == 6 else (90, 120, 3), (90, 120, 3)]
    pixels = turned.prepare(str(tmp_path / 'a.jpg')).pixels
    np.testing.assert_array_equal(pixels, cv2.imread(str(tmp_path / 'a.jpg')))
    same(turned(str(tmp_path / 'a.jpg')), turned(pixels))


@given(
    sizes=st.lists(st.sampled_from([(90, 120), (120, 90), (64, 64)]), min_size=1, max_size=5),
    batch=st.integers(1, 4),
)
@settings(max_examples=8)
def test_what_is_found_does_not_depend_on_the_images_beside_it(detect, sizes, batch):
    """A batch of mmdet pads its images to one size, which changes what is found near the edges."""
    images = [cv2.resize(array('bgr', seed), size[::-1]) for seed, size in enumerate(sizes)]
    for image, found in zip(images, detect(images, batch=batch), strict=True):
        alone = detect(image)
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=1e-3)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)


def test_a_pipeline_that_loads_no_image_is_told(place):
    config = pair_config(place.folder)
    config['test_dataloader']['dataset']['pipeline'] = [dict(type='LoadAnnotations')]
    with pytest.raises(ValueError, match=r'must load an image .* but got LoadAnnotations'):
        load(place.student__pth, Config(config), device='cpu')(place.images[0])
    del config['test_dataloader']['dataset']['pipeline']
    with pytest.raises(ValueError, match='must have a data set with a pipeline'):
        load(place.student__pth, Config(config), device='cpu')
