"""Parts of an annotation file: each image is in one, with its annotations."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd.datasets.split_coco import split_coco, write_parts
from tests.tiny import write_coco


@given(
    images=st.integers(1, 60),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 9),
)
def test_each_image_is_in_one_part_with_its_annotations(images, sizes, seed):
    content = dict(
        images=[dict(id=3 * i) for i in range(images)],
        annotations=[dict(id=i, image_id=3 * (i % images)) for i in range(2 * images + 1)],
        categories=[dict(id=1, name='ant')],
    )
    shares = {f'part{i}': size / sum(sizes) for i, size in enumerate(sizes)}
    parts = split_coco(content, shares, seed)
    for key in ('images', 'annotations'):
        together = [item for part in parts.values() for item in part[key]]
        assert sorted(together, key=lambda item: item['id']) == content[key]
    for name, part in parts.items():
        assert abs(len(part['images']) - shares[name] * images) <= 1
        ids = [image['id'] for image in part['images']]
        assert ids == sorted(ids), 'the order of the file'
        assert {a['image_id'] for a in part['annotations']} == set(ids)
        assert part['categories'] == content['categories']
    assert split_coco(content, shares, seed) == parts


def test_parts_are_written_once(tmp_path):
    path = write_coco(tmp_path, 'all', 20, ('ant', 'bee'))
    shares = [('train', 0.7), ('val', 0.15), ('test', 0.15)]
    written = write_parts(path, shares)
    parts = [json.loads(part.read_text()) for part in written]
    assert [len(part['images']) for part in parts] == [*written.values()] == [14, 3, 3]
    with pytest.raises(FileExistsError, match=r'train\.json must not exist yet'):
        write_parts(path, shares)
    write_parts(path, shares, seed=1, force=True)
    assert json.loads(path.with_name('train.json').read_text()) != parts[0]


@pytest.mark.parametrize(
    ('shares', 'message'),
    [
        ([('train', 0.7), ('test', 0.2)], 'add up to 1'),
        ([('train', 0.5), ('train', 0.5)], 'each part once'),
        ([('all', 0.5), ('test', 0.5)], 'no part may have its name'),
        ([('train', 0.999), ('test', 0.001)], 'none are left for test'),
    ],
)
def test_what_cannot_be_split_leaves_no_file(tmp_path, shares, message):
    path = write_coco(tmp_path, 'all', 10, ('ant', 'bee'))
    with pytest.raises(ValueError, match=message):
        write_parts(path, shares)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ('content', 'message'), [(None, 'cannot be read'), ('[]', 'lacks images')], ids=['none', 'list']
)
def test_a_file_that_is_not_coco_is_refused(tmp_path, content, message):
    path = tmp_path / 'all.json'
    if content:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        write_parts(path, [('train', 0.5), ('test', 0.5)])
