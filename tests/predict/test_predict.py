"""The command: everything that was named is looked at, drawn and written, and no file is lost."""

import json
import os
import re
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmkd import load
from mmkd.predict import frames
from mmkd_cli.benchmark import split_files
from mmkd_cli.main import main
from mmkd_cli.predict import split_words
from tests.predict.conftest import PLAIN
from tests.tiny import ROOT


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """A folder of the user's with images, one of them cut off, and a text file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    Path('photos/deep').mkdir(parents=True)
    for source, name in zip(place.images, ('a.jpg', 'b.jpg', 'deep/a.jpg'), strict=False):
        shutil.copy(source, Path('photos', name))
    whole = Path('photos/b.jpg').read_bytes()
    Path('photos/broken.jpg').write_bytes(whole[: len(whole) // 2])
    Path('photos/notes.txt').write_text('x')
    return tmp_path


def predict(student, *words: object) -> int:
    return main(['predict', student, *map(str, words), '--device', 'cpu'])


def film(path: Path, count: int = 7, size: tuple[int, int] = (160, 120)) -> list[np.ndarray]:
    """A video, and its frames as they are decoded."""
    rng = np.random.default_rng(0)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 12.5, size)
    for _ in range(count):
        video.write(cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), size))
    video.release()
    return decoded(path)


def decoded(path: Path) -> list[np.ndarray]:
    video, found = cv2.VideoCapture(str(path)), []
    while True:
        read, image = video.read()
        if not read:
            return found
        found.append(image)


def test_a_folder(student, here, capsys):
    assert predict(student, 'photos', '--out', 'drawn', '--json', 'found/r.json') == 0
    drawn = sorted(path.relative_to('drawn').as_posix() for path in Path('drawn').rglob('*.*'))
    assert drawn == ['a.jpg', 'b.jpg', 'deep/a.jpg']
    before, after = (cv2.imread(f'{folder}/deep/a.jpg') for folder in ('photos', 'drawn'))
    assert before.shape == after.shape and (before != after).any()
    told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r'\d+ objects in 3 of 3 images, drawn into drawn; 60 results in .*', told[0]
    )
    assert told[1] == '1 could not be read:' and 'photos/broken.jpg' in told[2]
    rows = json.loads(Path('found/r.json').read_text())
    detect = load(student, device='cpu')
    for number, name in enumerate(('a.jpg', 'b.jpg', 'deep/a.jpg'), 6):  # 1 to 5 are the test set's
        found = detect(f'photos/{name}')
        own = [row for row in rows if row['file_name'] == name]
        assert {row['image_id'] for row in own} == {number}
        assert [row['score'] for row in own] == found.scores.tolist()
        assert [row['category_name'] for row in own] == found.names
        assert [row['category_id'] for row in own] == (found.labels + 1).tolist()
        x1, y1, x2, y2 = found.boxes[0].tolist()
        assert own[0]['bbox'] == [x1, y1, x2 - x1, y2 - y1]


def test_a_line_for_each_image_where_nothing_is_written(student, here, capsys):
    assert predict(student, 'photos/*.jpg', '--score-thr', '0.35') == 0
    out = capsys.readouterr().out.splitlines()
    found = load(student, device='cpu')('photos/a.jpg').above(0.35)
    assert out[0] == f'photos/a.jpg: {found.summary()}' and 'photos/b.jpg: ' in out[1]
    assert not [path for path in here.iterdir() if path.name != 'photos']


def test_the_threshold_leaves_out_of_all(student, here):
    predict(student, 'photos', '--json', 'all.json')
    everything = json.loads(Path('all.json').read_text())
    middle = np.median([row['score'] for row in everything])
    predict(student, 'photos', '--json', 'some.json', '--score-thr', middle, '--batch', '4')
    some = json.loads(Path('some.json').read_text())
    assert 0 < len(some) < len(everything)
    assert sorted(r['score'] for r in some) == pytest.approx(
        sorted(r['score'] for r in everything if r['score'] >= middle)
    )


def test_nothing_is_overwritten(place, here):
    words = ('photos', '--out', 'drawn', '--json', 'r.json')
    predict(place.student__pth, *words)
    Path('drawn/a.jpg').write_bytes(b'mine')
    with pytest.raises(FileExistsError, match=r'drawn/a\.jpg, .* and 1 more exists\. .*--force'):
        predict(place.student__pth, *words)
    Path('drawn').rename('kept')
    with pytest.raises(FileExistsError, match=r'r\.json exists'):
        predict(place.student__pth, *words)
    assert not Path('drawn').exists() and Path('kept/a.jpg').read_bytes() == b'mine'
    Path('kept').rename('drawn')
    assert predict(place.student__pth, *words, '--force') == 0
    assert cv2.imread('drawn/a.jpg') is not None


@pytest.mark.parametrize(
    'words, told',
    [
        (('photos/a.jpg', '--out', 'photos', '--force'), r'photos/a\.jpg is read'),
        (('photos', '--json', 'photos/b.jpg', '--force'), r'photos/b\.jpg is read'),
        (('photos', '--json', 'photos', '--force'), 'photos is a folder'),
    ],
)
def test_what_is_read_is_never_overwritten(place, here, words, told):
    before = Path('photos/a.jpg').read_bytes()
    with pytest.raises(FileExistsError, match=told):
        predict(place.student__pth, *words)
    assert Path('photos/a.jpg').read_bytes() == before


def test_the_model_is_never_overwritten(student, here):
    shutil.copy(student, 'model')
    with pytest.raises(FileExistsError, match='model is read'):
        main(['predict', 'model', 'photos', '--json', 'model', '--force'])


def test_the_annotations_that_give_the_ids_are_never_overwritten(place, here):
    listed = place.folder / 'annotations/val.json'
    before = listed.read_bytes()
    with pytest.raises(FileExistsError, match=r'val\.json is read'):
        predict(place.student__pth, 'photos', '--json', listed, '--force')
    assert listed.read_bytes() == before


def test_results_beside_the_images_are_not_looked_at(place, here, capsys):
    for _ in range(2):
        predict(place.student__pth, 'photos', '--out', 'photos/drawn', '--force')
        assert ' of 3 images' in capsys.readouterr().out


def test_what_cannot_be_is_told_before_work_starts(student, here):
    for words, error, told in (
        (('photos', '--device', 'cuda:99'), ValueError, 'device must be one of this machine'),
        (('photo',), FileNotFoundError, 'there is no file "photo"'),
        (('photos', '--out', 'photos/a.jpg/b'), NotADirectoryError, r'".*a\.jpg/b" lies in a file'),
        (('7',), ValueError, 'a camera must be there, but none opens at "7"'),
    ):
        with pytest.raises(error, match=told):
            main(['predict', student, *words])
    with pytest.raises(FileNotFoundError, match='the detector must be an existing file'):
        main(['predict', 'lost.pth', 'photos'])
    assert sorted(os.listdir()) == ['photos']


def test_a_name_with_colons_is_a_file_if_it_is_there(here):
    """And else a config of an installed package."""
    Path('a::b.pth').touch()
    words = Namespace(detector='a::b.pth', words=['c.jpg'])
    assert split_words(words) == (None, 'a::b.pth', ['c.jpg'])
    words = Namespace(detector='mmdet::a', words=['b.pth', 'c.jpg'])
    assert split_words(words) == ('mmdet::a', 'b.pth', ['c.jpg'])
    assert split_files(words, ['a::b.pth', 'mmdet::a', 'c.pth']) == [
        (None, 'a::b.pth'),
        ('mmdet::a', 'c.pth'),
    ]


@pytest.mark.parametrize(
    'words, told',
    [
        (['a.py', 'b.jpg'], r'after the config a\.py its checkpoint must come'),
        (['s.pth', 'b.jpg', '--score-thr', '1.5'], 'must be from 0 to 1, but got 1.5'),
        (['s.pth', 'b.jpg', '--batch', '0'], 'must be a whole number above 0, but got 0'),
        (['s.pth'], 'required'),
    ],
)
def test_wrong_words(words, told, capsys):
    with pytest.raises(SystemExit):
        main(['predict', *words])
    assert re.search(told, capsys.readouterr().err)


def test_nothing_that_could_be_read_is_an_error(student, here, capsys):
    assert predict(student, 'photos/broken.jpg', 'photos/notes.txt') == 1
    told = capsys.readouterr().out
    assert '2 could not be read:' in told and 'broken.jpg' in told and 'notes.txt' in told


def test_a_video(student, here, capsys):
    images = film(Path('clip.avi'))
    shutil.copy('photos/a.jpg', 'photo.jpg')
    assert (
        predict(
            student, 'clip.avi', 'photo.jpg', '--out', 'drawn', '--json', 'r.json', '--batch', '3'
        )
        == 0
    )
    assert ' of 8 images' in capsys.readouterr().out
    assert sorted(os.listdir('drawn')) == ['clip.avi.mp4', 'photo.jpg']
    drawn = decoded(Path('drawn/clip.avi.mp4'))
    assert len(drawn) == 7 and drawn[0].shape == (120, 160, 3)
    assert cv2.VideoCapture('drawn/clip.avi.mp4').get(cv2.CAP_PROP_FPS) == 12.5
    rows = [row for row in json.loads(Path('r.json').read_text()) if 'frame' in row]
    assert {row['frame'] for row in rows} == set(range(7))
    assert len({row['image_id'] for row in rows}) == 7
    found = load(student, device='cpu')(images[4])
    own = [row['score'] for row in rows if row['frame'] == 4]
    assert own == pytest.approx(found.scores.tolist(), abs=1e-6)


def test_a_video_that_breaks_off_is_told(place, here, capsys):
    film(Path('clip.avi'), 40)
    whole = Path('clip.avi').read_bytes()
    Path('clip.avi').write_bytes(whole[: len(whole) // 2])
    Path('none.mp4').write_bytes(b'nothing')
    assert (
        predict(place.student__pth, 'clip.avi', 'none.mp4', '--out', 'drawn', '--json', 'r.json')
        == 0
    )
    told = capsys.readouterr().out
    read = len(decoded(Path('clip.avi')))
    assert 0 < read < 40 and f'of {read} images' in told
    assert '"none.mp4" is no video that OpenCV can read' in told
    assert len(decoded(Path('drawn/clip.avi.mp4'))) == read and len(os.listdir('drawn')) == 1


class Camera:
    """Gives three images, and then the user presses Ctrl-C."""

    def __init__(self, index: int) -> None:
        assert index == 0
        self.left = 3

    def isOpened(self) -> bool:
        return True

    def get(self, _: int) -> float:
        return 0.0

    def release(self) -> None:
        self.left = 0

    def read(self) -> tuple[bool, np.ndarray]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return True, np.full((120, 160, 3), 60 * self.left, np.uint8)


def test_a_camera_until_it_is_interrupted(student, here, monkeypatch, capsys):
    real = cv2.VideoCapture
    monkeypatch.setattr(frames.cv2, 'VideoCapture', lambda s: Camera(s) if s == 0 else real(s))
    assert predict(student, '0', '--out', 'drawn', '--json', 'r.json') == 0
    assert ' of 3 images' in capsys.readouterr().out
    assert len(decoded(Path('drawn/camera_0.mp4'))) == 3
    assert {row['frame'] for row in json.loads(Path('r.json').read_text())} == {0, 1, 2}


def test_an_interrupt_leaves_whole_files(place, here, monkeypatch):
    film(Path('clip.avi'))
    from mmkd.predict import predict as room

    calls = []

    def draw(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return arguments[0]

    monkeypatch.setattr(room, 'draw_detections', draw)
    with pytest.raises(KeyboardInterrupt):
        predict(place.student__pth, 'clip.avi', '--out', 'drawn', '--json', 'r.json')
    assert os.listdir('drawn') == [] and not Path('r.json').exists()


def stats(annotations: str, rows: list) -> np.ndarray:
    truth = COCO(annotations)
    score = COCOeval(truth, truth.loadRes(rows), 'bbox')
    score.evaluate()
    score.accumulate()
    score.summarize()
    return score.stats


def equal(ours: list, theirs: list) -> bool:
    key = ('image_id', 'category_id', 'bbox', 'score')
    return [[row[k] for k in key] for row in ours] == [[row[k] for k in key] for row in theirs]


def test_it_finds_what_a_test_measures(place, here):
    """Of the test set's images, with the ids of its annotation file."""
    annotations = str(place.folder / 'annotations/val.json')
    predict(place.student__pth, place.JPEGImages, '--json', 'r.json', '--batch', 2)
    with PLAIN:
        main(['test', place.pair__py, place.epoch_1__pth, '--work-dir', 'w', '--cfg-options',
              'test_evaluator.outfile_prefix=tested'])  # fmt: skip
    ours, theirs = (json.loads(Path(name).read_text()) for name in ('r.json', 'tested.bbox.json'))
    assert equal(ours, theirs)
    measured = stats(annotations, ours)
    assert 0.05 < measured[0] < 1
    np.testing.assert_array_equal(measured, stats(annotations, theirs))


BCCD = ROOT.parent / 'shared/data/bccd'


@pytest.mark.skipif(not BCCD.is_dir(), reason='needs ../shared/data/bccd')
@pytest.mark.parametrize('split', ['test', 'val'])
def test_real_images_score_the_same(here, mmdet_scope, split):
    """The blood cells, through the shipped config and an untrained detector."""
    config = Config.fromfile(ROOT / 'configs/ssd_r18w8_bccd.py')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    torch.save(dict(state_dict=model.state_dict(), meta={}), 'a.pth')
    Path('data').mkdir()
    Path('data/bccd').symlink_to(BCCD)
    annotations = f'data/bccd/annotations/{split}.json'
    content = json.loads(Path(annotations).read_text())
    files = [f'data/bccd/JPEGImages/{image["file_name"]}' for image in content['images'][:4]]
    name = 'mmkd::ssd_r18w8_bccd'
    main(['predict', name, 'a.pth', *files, '--json', 'r.json'])
    options = ['log_level=ERROR', 'test_evaluator.outfile_prefix=tested']
    options += [f'test_dataloader.dataset.ann_file=annotations/{split}.json']
    options += [f'test_evaluator.ann_file={annotations}']
    options += ['test_dataloader.dataset.indices=4', 'test_dataloader.batch_size=1']
    with PLAIN:
        main(['test', name, 'a.pth', '--work-dir', 'w', '--cfg-options', *options])
    ours, theirs = (json.loads(Path(name).read_text()) for name in ('r.json', 'tested.bbox.json'))
    assert {row['category_name'] for row in ours} <= {'RBC', 'WBC', 'Platelets'}
    assert ours and equal(ours, theirs)
    np.testing.assert_array_equal(stats(annotations, ours), stats(annotations, theirs))
