"""Parts of an annotation file: each image is in one, with its annotations."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import ROOT, write_coco
from tools.split_coco import main, split


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
    parts = split(content, shares, seed)
    for key in ('images', 'annotations'):
        together = [item for part in parts.values() for item in part[key]]
        assert sorted(together, key=lambda item: item['id']) == content[key]
    for name, part in parts.items():
        assert abs(len(part['images']) - shares[name] * images) <= 1
        ids = [image['id'] for image in part['images']]
        assert ids == sorted(ids), 'the order of the file'
        assert {a['image_id'] for a in part['annotations']} == set(ids)
        assert part['categories'] == content['categories']
    assert split(content, shares, seed) == parts


def test_parts_are_written_once(tmp_path, monkeypatch, capsys):
    """The command of docs/your_own_data.md."""
    monkeypatch.chdir(tmp_path)
    path = write_coco(Path('data/mine'), 'all', 20, ('ant', 'bee'))
    text = (ROOT / 'docs/your_own_data.md').read_text()
    [command] = re.findall(r'^python tools/split_coco.py (.*)$', text, re.M)
    command = command.split()
    main(command)
    assert 'train.json: 14 images' in capsys.readouterr().out
    parts = [json.loads(path.with_name(f'{p}.json').read_text()) for p in ('train', 'val', 'test')]
    assert [len(part['images']) for part in parts] == [14, 3, 3]
    with pytest.raises(SystemExit, match=r'train\.json must not exist yet'):
        main(command)
    main([*command, '--seed', '1', '--force'])
    assert json.loads(path.with_name('train.json').read_text()) != parts[0]


@pytest.mark.parametrize(
    ('shares', 'message'),
    [
        (['train=0.7', 'test=0.2'], 'add up to 1'),
        (['train=0.5', 'train=0.5'], 'each part once'),
        (['all=0.5', 'test=0.5'], 'no part may have its name'),
        (['train=0.999', 'test=0.001'], 'none are left for test'),
    ],
)
def test_what_cannot_be_split_leaves_no_file(tmp_path, shares, message):
    path = write_coco(tmp_path, 'all', 10, ('ant', 'bee'))
    with pytest.raises(SystemExit, match=message):
        main([str(path), '--shares', *shares])
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('text', ['train', 'train=', '=1', 'a/b=1', 'train=0', 'train=nan'])
def test_a_part_is_a_name_and_a_share(tmp_path, text, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / 'all.json'), '--shares', text])
    assert f"'{text}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('content', 'message'), [(None, 'cannot be read'), ('[]', 'lacks images')], ids=['none', 'list']
)
def test_a_file_that_is_not_coco_is_refused(tmp_path, content, message):
    path = tmp_path / 'all.json'
    if content:
        path.write_text(content)
    with pytest.raises(SystemExit, match=message):
        main([str(path), '--shares', 'train=0.5', 'test=0.5'])
