"""``mmkd label``: any detector looks at images, and what it finds is a file that teaches."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd import load

# isort: split
from mmdet.structures import DetDataSample

from mmkd.datasets.listed_images import find_images
from mmkd.detections.results_file import read_results
from mmkd.heads import Predictions
from mmkd.label import label_images
from mmkd.label.detectors import open_detector
from mmkd.label.distributions import distribution_of, of_image
from mmkd.label.mirrored import fused, mirrored_back
from mmkd.predict.detector import Prepared
from mmkd.teachers.outside_detectors import Found
from mmkd_cli.main import main
from tests.predict.conftest import CLASSES, place  # noqa: F401
from tests.tiny import ROOT, scene

ULTRALYTICS = ROOT.parent / 'shared/checkpoints/yolov5n_nc3.pt'


def bright(images):
    """A function that detects: what is brighter than the ground."""
    boxes, scores, labels = [], [], []
    for image in images:
        y, x = np.nonzero(image.max(-1) > 100)
        boxes.append([[x.min(), y.min(), x.max() + 1, y.max() + 1]])
        scores.append([[0.1, 0.8, 0.05]])
        labels.append([1])
    return boxes, scores, labels


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'images/deep').mkdir(parents=True)
    for name in ('b.png', 'a.png', 'deep/c.png'):
        cv2.imwrite(str(tmp_path / 'images' / name), scene(rng, (60, 80), 3, 1)[0])
    return tmp_path


def read(path):
    return json.loads(Path(path).read_text())


def test_a_student_labels_a_coco_file_as_it_predicts(place, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    out = tmp_path / 'teacher.json'
    words = [place.student__pth, f'{place.folder}/annotations/val.json', '--out', str(out)]
    assert main(['label', *words, '--score-thr', '0.2', '--draw', str(tmp_path / 'drawn')]) == 0
    found = read(out)
    assert found['classes'] == list(CLASSES) and len(found['detector']['sha256']) == 64
    truth = read(place.folder / 'annotations/val.json')
    assert [one['id'] for one in found['images']] == [one['id'] for one in truth['images']]
    assert {(one['width'], one['height']) for one in found['images']} == {(160, 120)}
    assert len(list((tmp_path / 'drawn').iterdir())) == 5
    detect = load(place.student__pth)
    for image in truth['images']:
        own = detect(f'{place.folder}/JPEGImages/{image["file_name"]}').above(0.2)
        rows = [row for row in found['results'] if row['image_id'] == image['id']]
        assert [row['category_name'] for row in rows] == own.names
        np.testing.assert_allclose([row['score'] for row in rows], own.scores, atol=1e-5)
        corners = np.array([row['bbox'] for row in rows]).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        np.testing.assert_allclose(corners, own.boxes, atol=0.02)
    ids = {one['name']: one['id'] for one in truth['categories']}
    assert all(row['category_id'] == ids[row['category_name']] for row in found['results'])
    assert len(read_results(out)) == len(found['results']) > 0
    assert not out.with_name('teacher.json.part').exists()


def test_soft_scores_are_those_of_the_rows(place, tmp_path):  # noqa: F811
    settings = dict(score_thr=0.2, soft=True, batch=3)
    label_images(place.student__pth, place.images, tmp_path / 'soft.json', **settings)
    found = read(tmp_path / 'soft.json')
    assert found['softmax'] is True  # an SSD
    assert found['results']
    for row in found['results']:
        label = CLASSES.index(row['category_name'])
        assert row['distribution'][label] == row['score']
        assert len(row['distribution']) == 3 and sum(row['distribution']) <= 1.01  # a softmax
        assert sum(score > 0 for score in row['distribution']) > 1
    config = label_images(
        place.pair__py, place.images[0], tmp_path / 'c.json', place.epoch_1__pth, soft=True
    )
    assert config.images == 1


def test_a_row_beyond_the_border_is_that_of_its_detection():
    """Boxes of detections are clipped, and the row of another object is nearer to one that is."""
    boxes = torch.tensor([[[40.0, 20, 300, 200], [50.0, 25, 158, 118]]])
    scores = torch.tensor([[[0.1, 0.9, 0.0], [0.0, 0.85, 0.1]]])
    image = Prepared(np.zeros((120, 160, 3), np.uint8), dict(data_samples=DetDataSample()))
    rows, told = of_image(Predictions(scores.log(), boxes), 0, image)
    found = distribution_of(np.array([[40.0, 20, 160, 120]]), [0.9], [1], rows, told)
    np.testing.assert_allclose(found, [[0.1, 0.9, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        ((), ['class 0', 'class 1', 'class 2']),
        (('fly', 'moth'), ['fly', 'moth', 'class 2']),
        (('fly', '', 'fly'), ['fly 0', 'class 1', 'fly 2']),
    ],
)
def test_classes_that_nothing_names_are_numbered(place, tmp_path, monkeypatch, names, expected):  # noqa: F811
    """As ``mmkd predict`` does where neither weights nor data name all; and names differ."""

    def unnamed(*args):
        detector = load(*args)
        detector.classes = names
        return detector

    monkeypatch.setattr('mmkd.label.detectors.load', unnamed)
    out = tmp_path / 'bare.json'
    label_images(place.student__pth, place.images[0], out, score_thr=0.01)
    assert read(out)['classes'] == expected
    told = read_results(out)
    assert len(told) and set(told.names) <= set(expected)


def test_what_is_told_of_a_detector_is_heard_or_refused(place, tmp_path):  # noqa: F811
    """Paths may be of any kind, too."""
    out, names = tmp_path / 'own.json', ['fly', 'moth', 'wasp']
    given = Path(place.student__pth), [Path(place.images[0])], out
    label_images(*given, classes=names, score_thr=0.01)
    assert read(out)['classes'] == names
    assert {row['category_name'] for row in read(out)['results']} <= set(names)
    label_images(given[0], Path(place.folder) / 'annotations/val.json', out, overwrite=True)
    assert read(out)['classes'] == list(CLASSES) and len(read(out)['images']) == 5
    for told, match in (
        (dict(classes=names[:2]), r'each of the 3 classes of ".*but got 2 \(fly, moth\)'),
        (dict(description=dict(size=[8, 8])), 'a description is told of an ONNX file, but the det'),
        (dict(softmax=True), 'softmax is told of a function, but the detector is'),
    ):
        with pytest.raises(ValueError, match=match):
            label_images(*given, overwrite=True, **told)
    with pytest.raises(ValueError, match='but the detector is a function'):
        label_images(bright, *given[1:], classes=['bee'], description='x.json', overwrite=True)


def test_interrupted_it_goes_on_where_it_was(folder):
    out, calls = folder / 'teacher.json', []

    def dies(images):
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return bright(images)

    with pytest.raises(KeyboardInterrupt):
        label_images(dies, str(folder / 'images'), out, classes=CLASSES)
    part = folder / 'teacher.json.part'
    assert not out.exists() and len(part.read_text().splitlines()) == 2
    with part.open('a') as file:
        file.write('{"image": {"file')  # torn
    done = label_images(dies, str(folder / 'images'), out, classes=CLASSES)
    assert calls == [1, 1, 1, 1] and done.images == 3 and not part.exists()
    straight = folder / 'straight.json'
    label_images(dies, str(folder / 'images'), straight, classes=CLASSES)
    assert read(straight) == read(out)


def test_another_detectors_work_is_not_mixed_in(folder):
    out = folder / 'teacher.json'
    (folder / 'teacher.json.part').write_text('{"sha256": "of another"}\n')
    with pytest.raises(FileExistsError, match=r'labels of another detector.*--force'):
        label_images(bright, str(folder / 'images'), out, classes=CLASSES)
    label_images(bright, str(folder / 'images'), out, classes=CLASSES, overwrite=True)
    with pytest.raises(FileExistsError, match='exists'):
        label_images(bright, str(folder / 'images'), out, classes=CLASSES)


def test_an_image_that_changed_is_looked_at_again(folder):
    out, seen = folder / 'teacher.json', []

    def watch(images):
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return bright(images)

    with pytest.raises(KeyboardInterrupt):
        label_images(watch, str(folder / 'images'), out, classes=CLASSES)
    cv2.imwrite(str(folder / 'images/a.png'), np.full((30, 40, 3), 255, np.uint8))
    label_images(watch, str(folder / 'images'), out, classes=CLASSES)
    assert len(seen) == 5  # two before, one that broke off, and then two of three
    first = read(out)['images'][0]
    assert (first['file_name'], first['width']) == ('a.png', 40)


def test_what_cannot_be_read_is_told(folder):
    (folder / 'images/broken.png').write_bytes(b'nothing')
    made = label_images(bright, str(folder / 'images'), folder / 't.json', classes=CLASSES, batch=4)
    assert made.images == 3 and list(made.unreadable) == [str(folder / 'images/broken.png')]
    assert len(read(folder / 't.json')['images']) == 3


def test_a_mirror_image_is_looked_at(folder):
    """A detector that finds the left half alone: by its mirror image the right half counts half."""

    def left(images):
        assert all(image.shape == (60, 80, 3) for image in images)
        return [[[0, 0, 40, 60]] for _ in images], [[0.8]] * len(images), [[0]] * len(images)

    label_images(left, str(folder / 'images/a.png'), folder / 't.json', classes=CLASSES, tta=True)
    rows = read(folder / 't.json')['results']
    assert [row['bbox'] for row in rows] == [[0, 0, 40, 60], [40, 0, 40, 60]]
    assert [row['score'] for row in rows] == [0.4, 0.4]


@given(st.integers(0, 6), st.randoms(use_true_random=False))
def test_two_views_that_agree_are_one(count, random):
    boxes = np.array([[20 * i, 0, 20 * i + 15, 10 + i] for i in range(count)], np.float32)
    scores = np.array([random.uniform(0.1, 1) for _ in range(count)], np.float32)
    labels = np.array([random.randrange(3) for _ in range(count)], np.int64)
    soft = np.eye(3, dtype=np.float32)[labels] * scores[:, None]
    one = Found(boxes.reshape(-1, 4), scores, labels, soft)
    flipped = mirrored_back(mirrored_back(one, 200), 200)
    found = fused([one, flipped])
    order = np.argsort(-scores, kind='stable')
    np.testing.assert_allclose(found.boxes, one.boxes[order], atol=1e-3)
    np.testing.assert_allclose(found.scores, scores[order], rtol=1e-6)
    assert found.labels.tolist() == labels[order].tolist()
    if count:
        np.testing.assert_allclose(found.distribution, soft[order], rtol=1e-6)


def test_views_that_differ_are_weighed():
    def view(box, score, label=0):
        return Found(np.array([box], np.float32), np.array([score], np.float32), np.array([label]))

    found = fused([view([0, 0, 10, 10], 0.9), view([0, 0, 10, 13], 0.3)])
    np.testing.assert_allclose(found.boxes, [[0, 0, 10, 10.75]])
    np.testing.assert_allclose(found.scores, [0.6])
    assert len(fused([view([0, 0, 10, 10], 0.9), view([0, 0, 10, 10], 0.3, 1)]).scores) == 2
    assert len(fused([view([0, 0, 10, 10], 0.9), view([0, 0, 10, 20], 0.3)]).scores) == 2
    soft = np.array([[0.9, 0.05]], np.float32), np.array([[0.3, 0.2]], np.float32)
    views = [view([0, 0, 10, 10], 0.9), view([0, 0, 10, 13], 0.3), view([30, 0, 40, 10], 0.3)]
    told = [one._replace(distribution=d) for one, d in zip(views, (*soft, soft[1]), strict=True)]
    np.testing.assert_allclose(fused(told[:2]).distribution, [[0.6, 0.125]], rtol=1e-6)
    apart = fused([told[0], told[2]]).distribution  # what one of two views shows counts half
    np.testing.assert_allclose(apart, [[0.45, 0.025], [0.15, 0.1]], rtol=1e-6)
    assert fused([told[0], views[1]]).distribution is None


def test_images_are_a_folder_a_list_or_a_coco_file(folder):
    names = ['a.png', 'b.png', 'deep/c.png']
    assert [i.file_name for i in find_images([str(folder / 'images')])] == names
    assert [i.id for i in find_images([str(folder / 'images')])] == [1, 2, 3]
    (folder / 'list.txt').write_text('images/b.png\n\nimages/deep/c.png\n')
    assert [i.file_name for i in find_images([str(folder / 'list.txt')])] == names[1:]
    images = [dict(id=f'x{i}', file_name=name) for i, name in enumerate(names)]
    (folder / 'annotations').mkdir()
    path = folder / 'annotations/train.json'
    path.write_text(json.dumps(dict(images=images)))
    found = find_images([str(path)])
    assert [(i.id, i.file_name) for i in found] == [
        ('x0', 'a.png'),
        ('x1', 'b.png'),
        ('x2', names[2]),
    ]
    assert all(Path(i.path).is_file() for i in found)
    assert find_images([str(path)], str(folder / 'images')) == found


def test_a_class_that_a_coco_file_lacks_takes_no_id_of_another(folder):
    path = folder / 'images/train.json'
    categories = [dict(id=1, name='bee'), dict(id=3, name='wasp'), dict(name='ant')]
    images = [dict(id=1, file_name='a.png')]
    path.write_text(json.dumps(dict(images=images, categories=categories)))

    def detect(images):
        return [[[1, 1, 9, 9]] * 3], [[0.9] * 3], [[0, 1, 2]]

    label_images(detect, str(path), folder / 't.json', classes=('ant', 'bee', 'cat'))
    rows = read(folder / 't.json')['results']
    assert {one['category_name']: one['category_id'] for one in rows} == dict(ant=2, bee=1, cat=4)


@pytest.mark.parametrize(
    ('told', 'match'),
    [
        (dict(score_thr=2), 'score_thr must be a number from 0 to 1, but got 2'),
        (dict(score_thr='0.5'), "but got '0.5'"),
        (dict(score_thr=float('nan')), 'but got nan'),
        (dict(batch=0), 'batch must be a whole number above 0'),
        (dict(images=[]), 'images must be a folder, files, a list or a COCO file, but got none'),
    ],
)
def test_numbers_that_are_none_are_refused_before_work_starts(folder, told, match):
    told = dict(images=folder / 'images', out=folder / 't.json', classes=CLASSES) | told
    with pytest.raises(ValueError, match=match):
        label_images(bright, **told)
    assert not [*folder.glob('t.json*')]


def test_images_that_are_not_there_are_refused(folder):
    (folder / 'list.txt').write_text('images/none.png\n')
    (folder / 'train.json').write_text(json.dumps(dict(images=[dict(id=1, file_name='x.png')])))
    (folder / 'bad.json').write_text('[]')
    (folder / 'null.json').write_text('{"images": [{"id": null, "file_name": "images/a.png"}]}')
    (folder / 'empty').mkdir()
    for words, error, match in (
        (['list.txt'], FileNotFoundError, 'each line of'),
        (['train.json'], FileNotFoundError, '--root FOLDER'),
        (['none.json'], FileNotFoundError, 'there is no'),
        (['bad.json'], ValueError, 'must list images with id and file_name'),
        (['train.json', 'images'], ValueError, 'must be named alone'),
        (['nothing*'], FileNotFoundError, 'names none'),
        (['empty'], FileNotFoundError, r'a folder of images must have some, but .*empty"'),
        (['null.json'], ValueError, 'image ids must be whole numbers or text.* null'),
        (['none.txt'], FileNotFoundError, 'a list of images must be a file'),
    ):
        with pytest.raises(error, match=match):
            find_images([str(folder / word) for word in words])


@pytest.mark.skipif(not ULTRALYTICS.is_file(), reason='needs ../shared/checkpoints')
def test_an_ultralytics_file_is_a_detector(folder):
    pytest.importorskip('mmyolo')
    made = label_images(
        str(ULTRALYTICS), str(folder / 'images/a.png'), folder / 't.json', score_thr=0.0, soft=True
    )
    found = read(folder / 't.json')
    assert made.images == 1 and len(found['classes']) == 3
    assert found['detector']['detector'] == str(ULTRALYTICS)


class Zoo:
    """Stands for torchvision, which has one detector."""

    class Model(torch.nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.layer = torch.nn.Linear(1, num_classes)

        def forward(self, images):
            assert all(one.min() >= 0 and one.max() <= 1 and len(one) == 3 for one in images)
            found = dict(
                boxes=torch.tensor([[1.0, 2, 30, 40], [1, 1, 9, 9]]),
                scores=torch.tensor([0.5, 0.4]),
                labels=torch.tensor([2, 0]),  # of a RetinaNet: it has a score for nothing, too
            )
            return [found for _ in images]

    def list_models(self, module):
        return ['fasterrcnn_resnet50_fpn']

    def get_model(self, name, weights, weights_backbone, num_classes):
        assert weights is None and weights_backbone is None  # nothing is fetched
        return self.Model(num_classes)


def test_torchvision_by_name(folder, monkeypatch):
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    with pytest.raises(ModuleNotFoundError, match='pip install torchvision'):
        open_detector('fasterrcnn_resnet50_fpn', 'weights.pth')
    zoo = Zoo()
    for name in ('torchvision.models.detection', 'torchvision.models', 'torchvision'):
        monkeypatch.setitem(sys.modules, name, zoo)
    out, weights = folder / 'teacher.json', Zoo.Model(4).state_dict()
    for saved in (weights, dict(model=weights, epoch=3), dict(state_dict=weights)):
        torch.save(saved, folder / 'weights.pth')
        words = ['fasterrcnn_resnet50_fpn', folder / 'weights.pth', folder / 'images']
        words += ['--out', out, '--score-thr', 0.1, '--force', '--classes', *CLASSES]
        assert main(['label', *map(str, words)]) == 0
        rows = read(out)['results']
        assert len(rows) == 3 and rows[0]['bbox'] == [1, 2, 29, 38]
        assert rows[0]['category_name'] == 'bee'  # torchvision's labels count from 1
    assert open_detector(*map(str, words[:2]), classes=CLASSES).softmax
    with pytest.raises(FileNotFoundError, match=r'the detector must be an existing file'):
        open_detector('fasterrcnn_resnet50_fpn', str(folder / 'none.pth'), classes=CLASSES)
    torch.save([1, 2], folder / 'list.pth')
    with pytest.raises(ValueError, match=r'must hold the weights of torchvision'):
        open_detector('fasterrcnn_resnet50_fpn', str(folder / 'list.pth'), classes=CLASSES)
    with pytest.raises(ValueError, match=r'no detector "fasterrcnn".*Nearest: fasterrcnn_resnet50'):
        open_detector('fasterrcnn', str(folder / 'weights.pth'), classes=CLASSES)
    with pytest.raises(ValueError, match=r'of 2 classes, but does not'):
        open_detector('fasterrcnn_resnet50_fpn', str(folder / 'weights.pth'), classes=('a', 'b'))


def test_a_config_without_its_checkpoint_is_refused(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    for name in ('student.pth', 'yolov5m.pt'):  # a file that is not there needs none
        with pytest.raises(FileNotFoundError, match=f'there is no file "{name}"'):
            main(['label', name, str(folder / 'images'), '--out', 't.json'])
    with pytest.raises(SystemExit):
        main(['label', 'teacher.py', str(folder / 'images'), '--out', 't.json'])
    assert 'its checkpoint must come' in capsys.readouterr().err
    with pytest.raises(ValueError, match='a config needs its checkpoint'):
        open_detector('teacher.py')
