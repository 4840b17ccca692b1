"""What the words of a command line mean."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmkd.predict.sources import find_sources


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a.jpg', 'b.PNG', 'deep/c.jpg', 'deep/er/d.mp4', 'e.txt', '.f.jpg', '.g/h.jpg'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b'x')
    return tmp_path


def named(*words: str, **arguments) -> list[tuple[str, str]]:
    return [(source.kind, source.name) for source in find_sources(words, **arguments)]


def test_a_folder_has_the_images_and_videos_below_it(here):
    everything = [
        ('image', 'a.jpg'),
        ('image', 'b.PNG'),
        ('image', 'deep/c.jpg'),
        ('video', 'deep/er/d.mp4'),
    ]
    assert named('.') == named(str(here)) == everything
    assert named('deep') == [('image', 'c.jpg'), ('video', 'er/d.mp4')]
    assert named('.', besides=['deep/er']) == everything[:3]


def test_each_file_counts_once_in_the_order_of_the_words(here):
    os.symlink(here / 'a.jpg', here / 'link.jpg')
    words = ('deep/c.jpg', 'a.jpg', './a.jpg', str(here / 'a.jpg'), 'link.jpg', '*.jpg')
    assert named(*words) == [('image', 'deep/c.jpg'), ('image', 'a.jpg')]


def test_globs(here):
    assert named('*.jpg') == [('image', 'a.jpg')]
    assert named('**/*.jpg') == [('image', 'a.jpg'), ('image', 'deep/c.jpg')]
    assert [name for _, name in named('d*')] == ['c.jpg', 'er/d.mp4']  # a folder that matches
    assert named('**/*.jpg', besides=['deep']) == [('image', 'a.jpg')]
    (here / '[1].jpg').write_bytes(b'x')
    assert named('[1].jpg') == [('image', '[1].jpg')]  # a file before a glob


def test_names_differ_where_base_names_do_not(here):
    (here / 'deep/a.jpg').write_bytes(b'x')
    assert [name for _, name in named('a.jpg', 'deep/a.jpg')] == ['a.jpg', 'deep/a.jpg']


def test_a_file_that_is_named_is_taken_for_what_is_in_it(here):
    image = np.zeros((48, 64, 3), np.uint8)
    cv2.imwrite('p.png', image)
    video = cv2.VideoWriter('v.mp4', cv2.VideoWriter.fourcc(*'mp4v'), 10, (64, 48))
    for _ in range(3):
        video.write(image)
    video.release()
    os.rename('p.png', 'image_without_ending')
    os.rename('v.mp4', 'video_without_ending')
    Path('empty').write_bytes(b'')
    assert named('image_without_ending', 'video_without_ending', 'e.txt', 'empty') == [
        ('image', 'image_without_ending'),
        ('video', 'video_without_ending'),
        ('image', 'e.txt'),  # it is tried, and told at the end
        ('image', 'empty'),
    ]


def test_a_number_is_a_camera_unless_there_is_such_a_file(here):
    assert [(s.kind, s.path, s.name) for s in find_sources(['0'])] == [('camera', '0', 'camera_0')]
    (here / '0').write_bytes(b'x')
    assert named('0') == [('image', '0')]


@pytest.mark.parametrize(
    'words, error, told',
    [
        (['1', 'a.jpg'], ValueError, r'must be the only source, but got 1, a\.jpg'),
        (['1', '2'], ValueError, 'must be the only source'),
        (['A.jpg'], FileNotFoundError, r'no file "A\.jpg" .*there is "a\.jpg"'),
        (['*.gif'], FileNotFoundError, r'a glob must match files, but there is none for "\*\.gif"'),
        (['nothing'], FileNotFoundError, r'folder must have images or videos, but "nothing"'),
        (['pipe'], ValueError, 'must be a regular file, but "pipe"'),
    ],
)
def test_what_is_not_there_is_told(here, words, error, told):
    (here / 'nothing').mkdir()
    os.mkfifo(here / 'pipe')
    with pytest.raises(error, match=told):
        find_sources(words)
