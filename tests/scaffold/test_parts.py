"""How a data set is split: each class in each part, and twins together."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.tiny  # noqa: F401  (imports mmkd first)
from mmkd.scaffold.draw_parts import draw, parts_of
from mmkd.scaffold.labelled_images import Annotated, LabelledImage, Source
from mmkd.scaffold.twins import thumbnails, twin_groups
from tests.scaffold.sets import images

COUNTS = st.lists(
    st.dictionaries(st.sampled_from('abc'), st.integers(1, 5)), min_size=2, max_size=40
)


@given(COUNTS, st.data())
def test_each_image_is_in_one_part_and_groups_stay_together(counts, data):
    labels = [Counter(count) for count in counts]
    borders = data.draw(st.sets(st.integers(1, len(labels) - 1)))
    edges = [0, *sorted(borders), len(labels)]
    groups = [list(range(a, b)) for a, b in pairwise(edges)]
    places = draw(groups, labels, dict(train=0.8, val=0.2), data.draw(st.integers(0, 9)))
    assert sorted(places['train'] + places['val']) == list(range(len(labels)))
    for group in groups:
        assert any(set(group) <= set(found) for found in places.values())
    if sum(any(labels[i] for i in group) for group in groups) > 1:
        assert all(any(labels[i] for i in found) for found in places.values())


@pytest.mark.parametrize('seed', range(3))
def test_classes_are_in_proportion(seed):
    labels = [Counter('a')] * 80 + [Counter('b')] * 20
    shares = dict(train=0.7, val=0.15, test=0.15)
    places = draw([[i] for i in range(100)], labels, shares, seed)
    for name, share in shares.items():
        found = sum((labels[i] for i in places[name]), Counter())
        assert abs(found['a'] - 80 * share) <= 1 and abs(found['b'] - 20 * share) <= 1


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('several', [1, 3])
def test_a_class_of_few_images_is_in_training_and_in_validation(seed, several):
    """Whatever its share; one of three images and more in the test, too."""
    kinds = ['a'] * 300 + ['b', 'b'] + ['c'] * 3 + ['d'] + ['e'] * 4
    labels = [Counter(kind) for kind in kinds for _ in range(several)]
    groups = [list(range(i * several, (i + 1) * several)) for i in range(len(kinds))]
    for shares in (dict(train=0.8, val=0.2), dict(train=0.7, val=0.15, test=0.15)):
        places = draw(groups, labels, shares, seed)
        found = [{name for i in part for name in labels[i]} for part in places.values()]
        assert found == [set('abcde'), set('abce'), set('ace')][: len(shares)]
        assert all(set(group) & set(part) in (set(), set(group))
                   for group in groups for part in places.values())  # fmt: skip
        for part, share in shares.items():
            assert abs(len(places[part]) / len(labels) - share) < 0.02


@given(st.lists(st.sets(st.sampled_from('abcd'), max_size=1), min_size=4, max_size=30), st.data())
def test_each_class_is_in_each_part_where_it_can(names, data):
    labels = [Counter(name) for name in names]
    counts = sum(labels, Counter())
    shares = data.draw(st.sampled_from([dict(train=0.8, val=0.2),
                                        dict(train=0.7, val=0.15, test=0.15)]))  # fmt: skip
    places = draw([[i] for i in range(len(names))], labels, shares, data.draw(st.integers(0, 9)))
    if counts.total() < 2 * len(counts) or counts.total() < 2 * len(shares):
        return  # parts without an object come first
    for place, found in enumerate(places.values()):
        there = {name for i in found for name in labels[i]}
        assert there == {name for name, count in counts.items() if count > place}


def copies(folder: Path) -> tuple[list[Path], list[set[int]]]:
    """Twenty images, of five a copy of each kind; which belong together."""
    paths, _ = images(folder, [(160, 120)] * 20, share=(0.1, 0.2))
    groups = [{i} for i in range(20)]
    changes = (
        lambda image: cv2.resize(image, (200, 150)),
        lambda image: np.clip(image * 0.8 + 20, 0, 255).astype(np.uint8),
        lambda image: image[:, ::-1],
        lambda image: image[::-1, ::-1],
        lambda image: image[3:-3, 4:-4],
    )
    for i, change in enumerate(changes):
        path = folder / f'copy{i}.jpg'
        cv2.imwrite(str(path), change(cv2.imread(str(paths[i]))), [cv2.IMWRITE_JPEG_QUALITY, 60])
        groups[i].add(len(paths))
        paths.append(path)
    return paths, groups


def test_copies_are_twins_and_others_are_not(tmp_path):
    paths, groups = copies(tmp_path)
    assert sorted(map(sorted, groups)) == sorted(twin_groups(thumbnails(paths)))


@given(st.integers(0, 999), st.integers(1, 4))
def test_groups_are_those_of_plain_loops(seed, scenes):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(scenes, 16, 16))
    thumbs = np.stack([
        base[rng.integers(scenes)][:: rng.choice([1, -1]), :: rng.choice([1, -1])]
        + rng.normal(size=(16, 16)) * rng.choice([0.1, 0.4])
        for _ in range(12)
    ]).astype(np.float32)  # fmt: skip
    thumbs /= np.linalg.norm(thumbs, axis=(1, 2), keepdims=True)
    groups = [{i} for i in range(12)]
    for i in range(12):
        for j in range(i):
            views = ((1, 1, 0.9), (-1, 1, 0.97), (1, -1, 0.97), (-1, -1, 0.97))
            if any((thumbs[i] * thumbs[j][::a, ::b]).sum() >= limit for a, b, limit in views):
                one, other = (next(g for g in groups if k in g) for k in (i, j))
                if one is not other:
                    groups.remove(other)
                    one |= other
    assert twin_groups(thumbs) == sorted(map(sorted, groups))


def source_of(paths, parts=None) -> Source:
    found = [LabelledImage(path, (160, 120), [Annotated('ant', (1, 1, 50, 50))]) for path in paths]
    return Source('COCO', ('ant',), {'all': found} if parts is None else parts(found))


def test_no_twin_of_a_training_image_is_tested(tmp_path):
    paths, groups = copies(tmp_path)
    parts = parts_of(source_of(paths))
    place = {p.path: part for part, found in parts.images.items() for p in found}
    assert len(place) == len(paths)
    for group in groups:
        assert len({place[paths[i]] for i in group}) == 1
    assert '10 images in 5 groups of twins' in parts.how


def test_what_is_split_stays_so_and_its_twins_are_counted(tmp_path):
    paths, _ = copies(tmp_path)
    parts = parts_of(source_of(paths, lambda found: dict(train=found[:20], test=found[20:])))
    assert [len(found) for found in parts.images.values()] == [20, 5]
    assert parts.twins == 5 and 'serve for it' in parts.how
    alone = parts_of(source_of(paths, lambda found: dict(train=found, val=[])))
    assert len(alone.images['val']) == 5


def test_training_images_are_no_part_of_their_own(tmp_path):
    """As in a data.yaml whose train and val name one folder."""
    paths, _ = images(tmp_path, [(160, 120)] * 10, share=(0.1, 0.2))
    parts = parts_of(source_of(paths, lambda found: dict(train=found, val=found, test=found[:3])))
    assert {part: len(found) for part, found in parts.images.items()} == dict(train=8, val=2)
    assert 'val and test had no images but those of train' in parts.how and parts.twins == 0
    some = parts_of(source_of(paths, lambda found: dict(train=found[:8], val=found[6:])))
    assert len(some.images['val']) == 4 and some.twins == 2


def test_without_a_training_part_all_is_split(tmp_path):
    paths, _ = images(tmp_path, [(160, 120)] * 10, share=(0.1, 0.2))
    parts = parts_of(source_of(paths, lambda found: dict(val=found[:5], test=found[5:])))
    assert {part: len(found) for part, found in parts.images.items()} == dict(train=8, val=2)


def test_a_camera_that_never_moves_has_no_twins(tmp_path):
    paths, _ = images(tmp_path / 'one', [(160, 120)])
    scene, frames = cv2.imread(str(paths[0])), []
    for i in range(12):
        frame = scene.copy()
        frame[10 + 8 * i : 24 + 8 * i, 5 + 11 * i : 30 + 11 * i] = 255 - 20 * i
        frames.append(tmp_path / f'{i:02d}.png')
        cv2.imwrite(str(frames[-1]), frame)
    parts = parts_of(source_of(frames, lambda found: dict(train=found[::2], val=found[1::2])))
    assert parts.twins < 6


def test_images_that_all_look_alike_are_split_all_the_same(tmp_path):
    for i in range(6):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((40, 60, 3), 90, np.uint8))
    flat = parts_of(source_of(sorted(tmp_path.glob('*.png'))))
    assert {part: len(found) for part, found in flat.images.items()} == dict(train=5, val=1)
    paths, _ = images(tmp_path / 'one', [(160, 120)])
    copied = [tmp_path / f'copy{i}.jpg' for i in range(6)]
    for path in copied:
        path.write_bytes(paths[0].read_bytes())
    parts = parts_of(source_of(copied))
    assert len(parts.images['val']) == 1 and 'look alike' in parts.how


@pytest.mark.parametrize('annotated', [0, 1])
def test_too_few_images(tmp_path, annotated):
    paths, _ = images(tmp_path, [(64, 48)] * 3)
    source = source_of(paths)
    for image in source.parts['all'][annotated:]:
        image.objects.clear()
    with pytest.raises(ValueError, match=f'at least two images with objects.* 3 {annotated} have'):
        parts_of(source)
