"""The files of a folder, also behind links."""

import os

from mmkd.datasets.listed_images import find_images
from mmkd.fileio.files_below import files_below
from mmkd.predict.sources import find_sources


def lay(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')


def found(folder, *args):
    return [os.path.relpath(path, folder) for path in files_below(folder, ('.jpg',), *args)]


def test_in_order_without_the_hidden_and_those_of_other_endings(tmp_path):
    lay(tmp_path, 'b.JPG', 'a/z.jpg', 'a.jpg', '.hidden.jpg', '.git/c.jpg', 'c.txt', 'a/b/y.jpg')
    assert found(tmp_path) == ['a.jpg', 'b.JPG', 'a/z.jpg', 'a/b/y.jpg']
    assert found(tmp_path, [os.path.realpath(tmp_path / 'a/b')]) == ['a.jpg', 'b.JPG', 'a/z.jpg']
    assert found(tmp_path / 'nowhere') == []


def test_behind_links_and_not_round_and_round(tmp_path):
    lay(tmp_path, 'store/one.jpg', 'store/deep/two.jpg', 'data/own.jpg')
    (tmp_path / 'data/images').symlink_to(tmp_path / 'store')
    (tmp_path / 'store/back').symlink_to(tmp_path / 'data')
    (tmp_path / 'store/self').symlink_to(tmp_path / 'store')
    (tmp_path / 'store/gone.jpg').symlink_to(tmp_path / 'nothing.jpg')
    expected = ['own.jpg', 'images/gone.jpg', 'images/one.jpg', 'images/deep/two.jpg']
    assert found(tmp_path / 'data') == expected
    # A link that is named itself is a folder as well.
    assert found(tmp_path / 'data/images')[:2] == ['gone.jpg', 'one.jpg']


def test_commands_look_behind_links(tmp_path):
    lay(tmp_path, 'store/one.jpg', 'data/own.jpg')
    (tmp_path / 'data/more').symlink_to(tmp_path / 'store')
    names = ['own.jpg', 'more/one.jpg']
    assert [image.file_name for image in find_images([str(tmp_path / 'data')])] == names
    assert [source.name for source in find_sources([str(tmp_path / 'data')])] == names
