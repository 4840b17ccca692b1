"""What a data set is like: which way is up, what is read, the light."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import tests.tiny  # noqa: F401  (imports mmkd first)
from mmkd.scaffold.labelled_images import Annotated, LabelledImage
from mmkd.scaffold.survey import survey
from mmkd.scaffold.views import choose_views


@pytest.fixture(scope='module')
def files(tmp_path_factory) -> list[Path]:
    """Images of varying light."""
    folder = tmp_path_factory.mktemp('light')
    for i in range(24):
        cv2.imwrite(str(folder / f'{i:02d}.png'), np.full((60, 80, 3), 60 + 6 * i, np.uint8))
    return sorted(folder.iterdir())


def seen(files, names, boxes):
    each = len(boxes) // len(files)
    images = [
        LabelledImage(path, (80, 60), [
            Annotated(names[k % len(names)], box)
            for k, box in enumerate(boxes[i * each : (i + 1) * each], i)
        ])
        for i, path in enumerate(files)
    ]  # fmt: skip
    return survey(images, tuple(dict.fromkeys(names)))


def anyhow(rng, count=240):
    """Boxes that lie and stand everywhere."""
    size = rng.uniform(6, 18, (count, 2))
    at = rng.uniform(0, 1, (count, 2)) * (np.array([80, 60]) - size)
    return np.concatenate([at, at + size], 1).tolist()


def upright(rng, count=240):
    """Boxes on the ground: tall, in a band, larger the lower they stand."""
    foot = rng.uniform(25, 55, count)
    tall, left = foot / 2, rng.uniform(5, 60, count)
    return np.stack([left, foot - tall, left + tall / 2, foot], 1).tolist()


def test_only_what_lies_anyhow_is_turned_upside_down(files):
    rng = np.random.default_rng(0)
    above = choose_views(seen(files, ['cell'], anyhow(rng)), 'small')
    assert above.flips == ('horizontal', 'vertical', 'diagonal')
    assert choose_views(seen(files, ['man'], upright(rng)), 'small').flips == ('horizontal',)
    few = choose_views(seen(files, ['cell'], anyhow(rng, 48)), 'small')
    assert few.flips == ('horizontal',), 'so few objects show nothing'


@pytest.mark.parametrize('classes', [1, 24])
@pytest.mark.parametrize('turned', [False, True])
def test_what_looks_upright_is_not_turned(turned, classes, tmp_path):
    """Signs of boxes that lie anyhow, light or dark: upright, or turned and mirrored at random.

    One class of triangles; many classes of few objects, each another sign.
    """
    rng = np.random.default_rng(0)
    boxes, files = anyhow(rng), []
    triangle = np.zeros((16, 16), np.uint8)
    cv2.fillPoly(triangle, [np.array([[0, 15], [15, 15], [8, 0]])], 1)
    signs = [triangle]
    if classes > 1:
        signs = [cv2.resize(rng.random((4, 4)), (16, 16)) > 0.5 for _ in range(classes)]
    for i in range(24):
        image = rng.normal(120, 10, (60, 80)).clip(0, 255).astype(np.uint8)
        for k, box in enumerate(boxes[10 * i : 10 * i + 10], i):
            x1, y1, x2, y2 = np.round(box).astype(int)
            height, width = image[y1:y2, x1:x2].shape
            drawn = signs[k % classes]
            if turned:
                drawn = np.rot90(drawn[:: rng.choice([1, -1])], rng.integers(4)).copy()
            inside = cv2.resize(drawn.astype(float), (width, height)) > 0.5
            image[y1:y2, x1:x2][inside] = rng.choice([20, 230])
        files.append(tmp_path / f'{i:02d}.png')
        cv2.imwrite(str(files[-1]), image)
    flips = choose_views(seen(files, [f'sign {i}' for i in range(classes)], boxes), 'small').flips
    assert flips == (('horizontal', 'vertical', 'diagonal') if turned else ('horizontal',))


@pytest.mark.parametrize(
    ('names', 'flips', 'colours'),
    [
        (['seven', 'B'], (), True),
        (['left hand', 'right hand'], (), True),
        (['ripe_apple', 'green-apple'], ('horizontal',), False),
        (['man', *['dog'] * 8, 'orange'], ('horizontal',), True),
        (['bred', 'copyright'], ('horizontal',), True),
        (['license plate', 'dog'], (), True),
        (['plate', 'cup'], ('horizontal',), True),
    ],
)
def test_names_that_are_read_or_coloured(files, names, flips, colours):
    views = choose_views(seen(files, names, upright(np.random.default_rng(0))), 'small')
    assert (views.flips, views.colours) == (flips, colours)


def test_one_light_is_left_alone(files):
    boxes = upright(np.random.default_rng(0))
    assert seen(files, ['man'], boxes).light > 30
    same = seen([files[3]] * 24, ['man'], boxes)
    assert same.one_instrument and not choose_views(same, 'small').colours
    assert not seen([files[3]] * 10, ['man'], boxes).one_instrument, 'too few to say'


@pytest.mark.parametrize(('width', 'height'), [(2400, 160), (160, 2400), (640, 480), (90, 90)])
def test_an_input_has_the_aspect_of_its_images(files, width, height):
    images = [
        LabelledImage(path, (width, height), [Annotated('man', (0, 0, width / 2, height / 2))])
        for path in files
    ]
    views = choose_views(survey(images, ('man',)), 'small')
    assert min(views.scale) >= 64 and all(side % 32 == 0 for side in views.scale)
    assert not views.keep_ratio
    assert abs(np.log(views.scale[0] / views.scale[1] * height / width)) < np.log(1.26)
