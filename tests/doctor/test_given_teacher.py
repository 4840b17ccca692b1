"""The doctor examines a pair whose teacher is no network."""

from mmkd.doctor.examine import examine
from tests.detections.pairs import config, teacher_file


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


def test_a_file_that_does_not_fit_is_the_finding(tmp_path):
    path = teacher_file(tmp_path)
    path.write_text(path.read_text().replace('"image_id": ', '"image_id": 9'))
    report = examine(config(tmp_path, tmp_path / 'run'), images=0)
    assert not report.ok
    [finding, *_] = [f for section in report.sections for f in section.findings]
    assert 'none is: it has 9' in str(finding)
