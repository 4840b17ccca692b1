"""The doctor examines a pair whose teacher is no network."""

import json

from mmrazor.registry import MODELS

from mmkd.doctor.examine import examine
from mmkd.doctor.models import check_classes, paired_classes
from mmkd.doctor.report import Section
from tests.detections.pairs import CLASSES, config, teacher_file


def test_a_file_of_detections_is_told_and_its_fit(tmp_path):
    teacher_file(tmp_path)
    report = examine(config(tmp_path, tmp_path / 'run'), images=0, show_dir=tmp_path / 'shown')
    lines = [line for section in report.sections for line in section.lines()]
    text = '\n'.join(lines)
    assert 'has detections in 8 of 8 training images' in text
    assert f'teacher: file {tmp_path}/teacher.json' in text
    assert 'its detections come with the batch' in text
    assert 'teacher is untrained' not in text
    found = [f for section in report.sections for f in section.findings]
    assert not [str(f) for f in found if f.severity == 'error']
    assert 'distill.loss_taught: value' in text and list((tmp_path / 'shown').iterdir())


def test_the_classes_of_a_detector_are_those_of_its_own(tmp_path):
    """Also where each of the student's has a partner, by another name."""
    teacher_file(tmp_path)
    cfg = config(tmp_path, tmp_path / 'run', **{'model.teacher': None})
    names = dict(fly='ant', moth='bee', wasp='bee', tiger='cat')
    told = dict(function='tests.detections.live.bright', classes=[*names], class_map=names)
    cfg.model.teacher = told
    for left, shown in (((), '[tiger]'), (('tiger',), '-')):
        cfg.model.teacher = {
            **told,
            'classes': [name for name in names if name not in left],
            'class_map': {k: v for k, v in names.items() if k not in left},
        }
        report = examine(cfg, images=0)
        [section] = [one for one in report.sections if one.title == 'Classes']
        lines = [' '.join(str(line).split()) for line in section.lines()]
        assert lines[:3] == [
            f'Classes: {row}'
            for row in (
                'ant: taught by [fly]',
                'bee: taught by [moth, wasp]',
                f'cat: taught by {shown}',
            )
        ]


def test_of_a_list_of_results_those_are_told_that_are_called_otherwise(tmp_path):
    """It may know the others, too: nothing says that it teaches none of these."""
    path = teacher_file(tmp_path)
    rows = json.loads(path.read_text())
    cfg = config(tmp_path, tmp_path / 'run')
    pair = MODELS.build(cfg.model)
    assert not paired_classes(pair, CLASSES)
    names = {1: 'fly', 2: 'bee', 3: 'sky'}
    path.write_text(json.dumps([{**r, 'category_name': names[r['category_id']]} for r in rows]))
    cfg.model.teacher = dict(results=str(path), class_map=dict(fly='ant', moth='ant'))
    section = Section('Classes')
    check_classes(section, MODELS.build(cfg.model), CLASSES)
    assert section.rows == [['ant', ['fly']], ['bee', ['bee']], ['cat', ['cat']]]
    assert section.notes == [
        "Of the teacher's classes the student does not know sky: they are left out."
    ]


def test_a_file_that_does_not_fit_is_the_finding(tmp_path):
    path = teacher_file(tmp_path)
    path.write_text(path.read_text().replace('"image_id": ', '"image_id": 9'))
    report = examine(config(tmp_path, tmp_path / 'run'), images=0)
    assert not report.ok
    [finding, *_] = [f for section in report.sections for f in section.findings]
    assert 'none is: it has 9' in str(finding)
