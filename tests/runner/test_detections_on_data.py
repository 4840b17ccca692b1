"""``mmkd test --teacher`` of a teacher that is known by its detections."""

import json
import re
from pathlib import Path

import pytest
import torch

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
from mmdet.structures import DetDataSample

from mmkd.fileio.atomic_writes import write_atomic
from mmkd.label import label_images
from mmkd.runner.detections_on_data import DetectionsOnData
from mmkd_cli.main import main
from tests.compare.test_pair_teachers import pair_file
from tests.detections.pairs import CLASSES, teacher_file

FUNCTION = 'tests.detections.live.bright'


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A pair on images that are its test images as well, and what is true of them, by name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.excepthook', None)
    teacher_file(tmp_path)
    truth = json.loads(Path('annotations/train.json').read_text())
    names = {one['id']: one['file_name'] for one in truth['images']}
    rows = [
        dict(
            image_id=one['image_id'],
            category_id=one['category_id'],
            file_name=names[one['image_id']],
            category_name=f'{CLASSES[one["category_id"] - 1]}!',
            bbox=one['bbox'],
            score=0.9,
        )
        for one in truth['annotations']
    ]
    content = dict(results=rows, images=truth['images'], classes=[f'{name}!' for name in CLASSES])
    write('true.json', content)
    return content


def write(name, content):
    write_atomic(Path(name), json.dumps(content).encode())


CLASS_MAP = {f'{name}!': name for name in CLASSES}


def test_the_truth_in_a_file_scores_1(here, logged):
    teachers = [dict(model='teacher.json'), dict(model='true.json', class_map=CLASS_MAP)]
    pair = pair_file(Path.cwd(), teacher=teachers)
    words = ['test', pair, 'true.json', '--teacher', 'teacher2', '--work-dir', 'tested']
    assert main([*words, '--out', 'found.pkl']) == 0
    assert 'bbox_mAP: 1.0000' in logged() and Path('found.pkl').is_file()
    assert '"true.json" has detections in 8 of 8' in logged()


def test_a_live_teacher_finds_what_it_labels(here, logged):
    """At its own size, not at that of the student's test pipeline; of classes by their names."""
    own = dict(fly='cat', moth='bee')
    live = dict(function='tests.detections.live.middle', classes=['fly', 'moth'])
    pair = pair_file(Path.cwd(), teacher=live, class_map=own)
    assert main(['test', pair, FUNCTION, '--teacher', '--work-dir', 'live']) == 0
    told = re.findall(r'bbox_mAP_50: (\S+)', logged())
    from tests.detections.live import bright

    images = 'annotations/train.json'
    label_images(bright, images, 'found.json', classes=live['classes'], soft=True)
    pair = pair_file(Path.cwd(), teacher=dict(results='found.json', class_map=own))
    assert main(['test', pair, 'found.json', '--teacher', '--work-dir', 'file']) == 0
    told = re.findall(r'bbox_mAP_50: (\S+)', logged())
    assert len(told) == 2 and told[0] == told[1] and float(told[0]) > 0


def test_two_classes_of_a_row_are_two_detections(here, logged):
    """Whatever the scores of all classes beside them: each counts with its own."""
    rows = []
    for row in here['results']:
        own = here['classes'].index(row['category_name'])
        other = (own + 1) % 3
        told = [0.9 if place == own else 0.6 if place == other else 0.0 for place in range(3)]
        second = dict(row, category_name=here['classes'][other], category_id=other + 1, score=0.6)
        rows += [dict(one, distribution=told) for one in (row, second)]
    pair = pair_file(Path.cwd(), teacher=dict(results='true.json', class_map=CLASS_MAP))
    bare = [{k: v for k, v in row.items() if k != 'distribution'} for row in rows]
    for name, given in (('soft', rows), ('bare', bare)):
        write(f'{name}.json', dict(here, results=given))
        assert main(['test', pair, f'{name}.json', '--teacher', '--work-dir', name]) == 0
    assert re.findall(r'bbox_mAP: (\S+)', logged()) == ['1.0000'] * 2
    live = dict(function='tests.detections.live.two_of_a_row', classes=['fly', 'cat', 'bee'])
    seen = DetectionsOnData(live, CLASSES)
    seen.begin(None)
    image = DetDataSample(metainfo=dict(img_path='JPEGImages/train000.jpg'))
    [sample] = seen(None, [image])
    assert sample.pred_instances.labels.tolist() == [2, 1]
    torch.testing.assert_close(sample.pred_instances.scores, torch.tensor([0.9, 0.6]))
    both = dict(live, class_map=dict(cat='ant', bee='ant'))  # and one of a class that is both
    seen = DetectionsOnData(both, CLASSES)
    seen.begin(None)
    [sample] = seen(None, [image])
    assert sample.pred_instances.scores.tolist() == [1] and len(sample.pred_instances.bboxes) == 1


def test_a_file_of_other_images_is_refused(here):
    pair = pair_file(Path.cwd(), teacher=dict(results='true.json', class_map=CLASS_MAP))
    words = ['test', pair, 'part.json', '--teacher', '--work-dir', 'tested']
    rows = [row for row in here['results'] if row['image_id'] < 8]
    bare = [{k: v for k, v in row.items() if k != 'file_name'} for row in here['results']]
    for content, match in (
        (dict(here, images=here['images'][:7], results=rows), 'did not look at 1 of 8. Label the'),
        ([*bare, dict(bare[0], image_id=99)], 'has 1 detections of others'),
        ([dict(bare[0], image_id=99)], 'none is: it has 99'),
    ):
        write('part.json', content)
        with pytest.raises(ValueError, match=f'images that it looked at, which must.*{match}'):
            main(words)
    # Names tell which images are others; ids do so where no training image has the same.
    write('part.json', [*here['results'], dict(here['results'][0], image_id=99, file_name='x.jpg')])
    assert main(words) == 0
    write('part.json', bare)
    assert main(words) == 0
    folder = Path.cwd() / 'other'
    teacher_file(folder)
    option = f'train_dataloader.dataset.dataset.data_root={folder}'
    with pytest.raises(ValueError, match=r'image_id 1, 2, 3.* of a test image or of a training'):
        main([*words, '--cfg-options', option])
    assert main([*words, '--cfg-options', f'{option}/none']) == 0
    with pytest.raises(FileNotFoundError, match='must be an existing file of detections'):
        main([word.replace('part', 'none') for word in words])


def test_data_that_do_not_name_their_classes_are_refused(here):
    pair = pair_file(Path.cwd(), teacher='true.json')
    option = ['--cfg-options', 'test_dataloader.dataset.type=BaseDetDataset']
    with pytest.raises(ValueError, match='must name their classes'):
        main(['test', pair, 'true.json', '--teacher', *option])
