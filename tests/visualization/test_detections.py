"""Detections on an image: drawn where they are, whatever the image is."""

import numpy as np
import pytest

from mmkd.visualization.detections import draw_detections, for_the_eye

PIXELS = np.full((80, 100, 3), 90, np.uint8)
FOUND = (
    np.array([[20, 30, 60, 70.0]], np.float32),
    np.array([0.9], np.float32),
    np.array([1]),
    ('ant', 'Käfer'),
)


@pytest.mark.parametrize('masked', [False, True])
def test_drawn_where_they_are(masked):
    mask = np.zeros((1, 80, 100), bool)
    mask[0, 40:60, 30:50] = True
    drawn = draw_detections(PIXELS, *FOUND, *([mask] if masked else []))
    changed = (drawn != PIXELS).any(-1)
    assert drawn.shape == PIXELS.shape and drawn.dtype == np.uint8
    assert changed[30:71, 19:22].any(1).all() and changed[69:72, 20:61].any(0).all()
    assert changed[45:55, 35:45].all() == masked and not changed[75:].any()
    assert (PIXELS == 90).all()


@pytest.mark.filterwarnings('error::UserWarning')
@pytest.mark.parametrize('box', [[0, 0, 100, 80], [-9, 50, 40, 99], [70, -5, 130, 20]])
def test_a_box_at_a_border_is_no_fault(box):
    masks = np.ones((1, 80, 100), bool)
    drawn = draw_detections(PIXELS, np.array([box], np.float32), *FOUND[1:], masks)
    assert (drawn != PIXELS).any()


def test_nothing_found_is_the_image():
    nothing = [values[:0] for values in FOUND[:3]]
    np.testing.assert_array_equal(draw_detections(PIXELS, *nothing, ('ant',)), PIXELS)


@pytest.mark.parametrize(
    'image, expected',
    [
        (np.full((2, 3), 7, np.uint8), 7),
        (np.full((2, 3, 1), 7, np.uint8), 7),
        (np.full((2, 3, 4), 7, np.uint8), 7),
        (np.full((2, 3, 5), 7, np.uint8), 7),
        (np.full((2, 3), 65535, np.uint16), 255),
        (np.full((2, 3, 3), 6.6, np.float32), 7),
        (np.zeros((2, 3), np.uint16), 0),
    ],
)
def test_any_image_is_brought_to_8_bits_and_3_channels(image, expected):
    shown = for_the_eye(image)
    assert shown.shape == (2, 3, 3) and shown.dtype == np.uint8 and (shown == expected).all()
