"""The pairs of docs/any_teacher.md, trained as a user trains them."""

import json
import re
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS

from mmkd_cli.main import main
from tests.cli.test_tools import DETECTOR, run, scalars
from tests.tiny import ROOT, tiny_ssd, write_coco

CLASSES = ('vehicle', 'dog', 'bike')
TEACHERS = {
    'my_teacher': ('cat', 'car', 'truck'),
    'my_other_teacher': ('dog', 'vehicle', 'cow', 'pig'),
}


def blocks(named: str = 'my_teacher.pth') -> list[str]:
    text = (ROOT / 'docs/any_teacher.md').read_text()
    found = re.findall(r'```python\n(.*?)```', text, re.S)
    return [block for block in found if named in block]


@pytest.fixture
def folder(tmp_path, monkeypatch, mmdet_scope):
    """Data, a student, and two teachers whose files name their classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', [])
    monkeypatch.syspath_prepend(tmp_path)
    truth = write_coco(Path('my_data'), 'train', 4, CLASSES, seed=1)
    write_coco(Path('my_data'), 'val', 2, CLASSES, seed=2)
    write_detections(truth)
    Path('my_student.py').write_text(DETECTOR.format(model=tiny_ssd(width=8), classes=CLASSES))
    for name, classes in TEACHERS.items():
        model = tiny_ssd(len(classes), width=16, std=1.0)
        Path(f'{name}.py').write_text(DETECTOR.format(model=model, classes=classes))
        torch.manual_seed(len(name))
        weights = MODELS.build(model).state_dict()
        meta = dict(dataset_meta=dict(classes=classes))
        torch.save(dict(state_dict=weights, meta=meta), f'{name}.pth')
    return tmp_path


def write_detections(truth: Path):
    """A file of detections, by another's names, and a function that detects."""
    rows = [
        dict(
            image_id=one['image_id'],
            category_id=one['category_id'],
            category_name=('car', 'dog', 'bike')[one['category_id'] - 1],
            bbox=one['bbox'],
            score=0.9,
        )
        for one in json.loads(truth.read_text())['annotations']
    ]
    content = dict(results=rows, classes=['car', 'dog', 'bike'])
    Path('my_results.json').write_text(json.dumps(content))
    Path('my_detector.py').write_text(
        'def detect(images):\n'
        '    return [[[5, 5, 30, 30]] for _ in images], [[0.8] for _ in images], '
        "[['dog'] for _ in images]\n"
    )


@pytest.mark.parametrize('place', range(len(blocks())))
def test_the_pairs_of_the_page_train(place, folder, logged):
    Path('my_pair.py').write_text(blocks()[place])
    run('train', 'my_pair.py')
    said = logged()
    steps = [line for line in scalars('work_dirs/my_pair') if 'loss' in line]
    [term] = {key for key in steps[0] if key.startswith('distill.loss')}
    assert all(step[term] > 0 for step in steps) and Path('work_dirs/my_pair/student.pth').exists()
    if place == 0:
        assert 'Classes: vehicle: taught by [car, truck]' in said
        assert 'Classes: dog: taught by -' in said and 'know dog, bike' in said
    else:
        assert 'Classes: vehicle (' in said and 'teacher[1].ckpt: 140 of 140 keys' in said


def test_a_file_a_network_and_a_function_teach_together(folder, logged):
    [block] = blocks('my_results.json')
    Path('my_pair.py').write_text(block)
    run('train', 'my_pair.py')
    said = logged()
    steps = [line for line in scalars('work_dirs/my_pair') if 'loss' in line]
    assert all(step['distill.loss_taught'] > 0 for step in steps)
    assert Path('work_dirs/my_pair/student.pth').exists()
    assert '"my_results.json" has detections in 4 of 4 training images' in said
    assert 'teacher1 sees no image' in said and 'teacher[1].ckpt: 140 of 140 keys' in said
    assert 'Classes: dog (teacher3): taught by [dog]' in said
    assert 'Classes: vehicle (teacher3): taught by -' in said


def test_a_pair_is_written_for_a_teacher_of_other_classes(folder, capsys):
    words = ['my_student.py', '--teacher-ckpt', 'my_other_teacher.pth', '--out', 'my_pair.py']
    own = [*words, '--method', 'prediction_rows']
    assert main(['pair', 'my_other_teacher.py', *own]) == 0
    Path('cows.py').write_text(DETECTOR.format(model=tiny_ssd(2), classes=('cow', 'pig')))
    assert main(['pair', 'cows.py', *own, '--force']) == 1
    assert 'no name is a class of both' in capsys.readouterr().err


def test_several_teachers_are_cached_examined_and_resumed(folder, capsys):
    Path('my_pair.py').write_text(blocks()[1])
    run('cache_teacher', 'my_pair.py', '--views', 2, '--out', 'cache')
    assert json.loads(Path('cache/cache.json').read_text())['complete']
    option = ['--cfg-options', 'model.teacher_cache=cache', 'randomness.seed=0']
    run('train', 'my_pair.py', *option, 'train_cfg.max_epochs=2', '--work-dir', 'whole')
    run('train', 'my_pair.py', *option, 'train_cfg.max_epochs=1', '--work-dir', 'parts')
    again = [*option, 'train_cfg.max_epochs=2', '--work-dir', 'parts', '--resume']
    run('train', 'my_pair.py', *again)
    whole, parts = (torch.load(f'{d}/epoch_2.pth', weights_only=False) for d in ('whole', 'parts'))
    for key, value in whole['state_dict'].items():
        assert torch.equal(parts['state_dict'][key], value)
    capsys.readouterr()
    with pytest.raises(SystemExit):  # its teachers are untrained: they find nothing
        run('check_pair', 'my_pair.py', '--images', 1, '--json')
    report = json.loads(capsys.readouterr().out)
    sections = {section['title']: section for section in report['sections']}
    assert ['vehicle (teacher1)', ['car', 'truck']] in sections['Classes']['rows']
    rows = {row[0] for row in sections['mAP on validation images']['rows']}
    assert rows == {'teacher1', 'teacher2', 'student'}


def test_one_of_several_teachers_is_evaluated(folder):
    Path('my_pair.py').write_text(blocks()[1])
    text = (ROOT / 'docs/any_teacher.md').read_text()
    [command] = re.findall(r'^mmkd (test .*)', text, re.M)
    assert main([*command.split(), '--work-dir', 'tested', '--out', 'found.pkl']) in (None, 0)
    assert Path('found.pkl').is_file()
