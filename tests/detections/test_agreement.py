"""What a file has of the annotated objects shows boxes of another form, and classes of another."""

import json
from types import SimpleNamespace

import pytest

from mmkd.algorithms.build_teacher import begin_teaching
from mmkd.detections.agreement import Agreement, compare_with_truth
from mmkd.detections.feed import feed_detections
from mmkd.detections.results_file import read_results
from tests.detections.test_following import LOAD, PACK, build
from tests.tiny import write_coco

CLASSES = ('a', 'b', 'c')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Thirty objects, and results that are these and an unsure one of another class on each."""
    found = tmp_path_factory.mktemp('data')
    path = write_coco(found, 'train', 10, CLASSES, boxes=3)
    rows = []
    for one in json.loads(path.read_text())['annotations']:
        place = {key: one[key] for key in ('image_id', 'bbox')}
        rows.append({**place, 'category_id': one['category_id'], 'score': 0.9})
        rows.append({**place, 'category_id': one['category_id'] % 3 + 1, 'score': 0.1})
    (found / 'teacher.json').write_text(json.dumps(rows))
    return found


def changed(folder, name, change):
    rows = json.loads((folder / 'teacher.json').read_text())
    (folder / name).write_text(json.dumps([{**row, **change(row)} for row in rows]))
    return str(folder / name)


def compared(folder, *files):
    dataset = build(folder, [*LOAD, PACK])
    loader = SimpleNamespace(dataset=dataset, collate_fn=None)
    feed_detections(loader, {file: (read_results(file), None) for file in files})
    return compare_with_truth(dataset)


def halved(row):
    return dict(bbox=[v / 2 for v in row['bbox']])


def test_objects_are_counted_by_the_surest_detection_on_them(folder):
    one_off = changed(folder, 'ids.json', lambda row: dict(category_id=row['category_id'] % 3 + 1))
    halves = changed(folder, 'half.json', halved)
    right, other, half = compared(folder, str(folder / 'teacher.json'), one_off, halves)
    assert right.objects == other.objects == half.objects == 30
    assert right.found >= 25 and right.found + right.called_otherwise == 30
    assert other.found <= 3 and other.called_otherwise >= 27
    assert half.found <= 3 and half.called_otherwise <= 5
    assert not right.warning('t') and 'finds' in right.note('t')
    assert 'counted from another number' in other.warning('t')
    assert 'width and height, in pixels' in half.warning('t')


def test_a_class_of_which_nothing_is_found_does_not_count(folder):
    def known(row):
        return dict(category_id=row['category_id'] if row['category_id'] == 1 else 99)

    [found] = compared(folder, changed(folder, 'a.json', known))
    content = json.loads((folder / 'annotations/train.json').read_text())
    assert found.objects == sum(one['category_id'] == 1 for one in content['annotations'])
    assert not Agreement(19, 0, 19).warning('t')  # of few nothing is said
    assert not Agreement().note('t')


def test_the_log_says_so_and_warns(folder, logged):
    for name, change, match in (
        ('same.json', lambda row: {}, ''),
        ('half.json', halved, 'Its boxes may be of another form'),
    ):
        file = changed(folder, name, change)
        source = SimpleNamespace(model=SimpleNamespace(file=file, class_map=None), key='k')
        told = lines_of(folder, source)
        assert any('annotated objects' in line for line in told)
        assert (match in logged()) if match else 'correct it' not in logged()


def lines_of(folder, part):
    from mmkd.teachers.given_detections import FileTeacher

    teacher = FileTeacher.__new__(FileTeacher)
    teacher.model, teacher.key = part.model, part.key
    pair = SimpleNamespace(teacher_source=SimpleNamespace(parts={'teacher': teacher}))
    loader = SimpleNamespace(dataset=build(folder, [*LOAD, PACK]), collate_fn=None)
    return begin_teaching(pair, loader)
