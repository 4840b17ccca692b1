"""The arm ``longer``: plain training for the time that distillation took."""

import json
from pathlib import Path

import pytest
from mmengine.config import Config

from mmkd.compare import Comparison
from mmkd.compare.lengthen import lengthen
from tests.tiny import ROOT

DIGITS = ROOT / 'configs/ssd_kd_r18_to_r18w8_digits.py'
LONGER = ('baseline', 'kd', 'longer')


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def log(folder, *times) -> Path:
    path = Path(folder, '20260101_000000/vis_data/scalars.json')
    path.parent.mkdir(parents=True)
    steps = [dict(step=i, loss=1.0, time=t) for i, t in enumerate(times)]
    path.write_text('\n'.join(map(json.dumps, [*steps, {'coco/bbox_mAP': 0.1, 'step': 1}])))
    return Path(folder)


def test_its_length_is_found_when_both_have_been_timed(here):
    comparison = Comparison(DIGITS, Path('job'), [4, 5], LONGER)
    steps = comparison.steps()
    names = [step.name for step in steps]
    assert names.count('longer-length') == 1
    at = names.index('longer-length')
    assert max(names.index('kd_seed4-train'), names.index('baseline_seed4-train')) < at
    assert at < names.index('longer_seed4-train') < names.index('longer_seed5-train')
    by_name = {step.name: step for step in steps}
    folders = by_name['longer-length'].command[-2:]
    assert folders == ['job/kd_seed4', 'job/baseline_seed4']
    assert by_name['longer-length'].outputs == [Path('job/configs/longer.py')]
    for seed in (4, 5):
        training = by_name[f'longer_seed{seed}-train']
        assert Path('job/configs/longer.py') in training.inputs
        assert training.outputs == [Path(f'job/longer_seed{seed}/detector.pth')]
        assert training.outputs[0] in by_name[f'longer_seed{seed}-test'].inputs
    assert not Path('job/configs/longer.py').exists(), 'nothing is known yet'
    with pytest.raises(ValueError, match=r'longer must have kd.*got baseline, longer'):
        Comparison(DIGITS, Path('job'), [0], ('baseline', 'longer'))


def test_its_schedule_is_stretched_by_the_step_times(here):
    Comparison(DIGITS, Path('job'), [0], LONGER).write_configs()
    kd, plain = log('kd', 0.9, 0.5, 0.45), log('plain', 0.25, 0.2, 0.9)
    lengthen('job/configs/baseline.py', Path('job/configs/longer.py'), kd, plain)
    own, longer = (Config.fromfile(f'job/configs/{arm}.py') for arm in ('baseline', 'longer'))
    assert (own.train_cfg.max_epochs, longer.train_cfg.max_epochs) == (5, 10)
    assert longer.default_hooks.export == dict(type='ExportStudentHook', filename='detector.pth')
    assert longer.model == own.model and longer.train_dataloader == own.train_dataloader
    before, after = (
        [part.get('end') for part in config.param_scheduler] for config in (own, longer)
    )
    assert after == [2 * end for end in before]


def test_iterations_are_stretched_as_well(here):
    loop = dict(type='IterBasedTrainLoop', max_iters=500, val_interval=400, _delete_=True)
    Comparison(DIGITS, Path('job'), [0], LONGER, options=dict(train_cfg=loop)).write_configs()
    kd, plain = log('kd', 0.3), log('plain', 0.2)
    lengthen('job/configs/baseline.py', Path('longer.py'), kd, plain)
    assert Config.fromfile('longer.py').train_cfg.max_iters == 750


def test_without_step_times_it_says_so(here):
    Comparison(DIGITS, Path('job'), [0], LONGER).write_configs()
    with pytest.raises(ValueError, match='needs the step times'):
        lengthen('job/configs/baseline.py', Path('longer.py'), log('kd'), log('plain', 0.2))
    assert not Path('longer.py').exists()
