"""The tools as a user calls them, on a user's own data, teacher and student."""

import importlib.util
import io
import json
import math
import os
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmkd.errors import NonFiniteError
from tests.tiny import ROOT, raw_batch, tiny_ssd, write_coco, write_voc

CLASSES = ('ant', 'bee', 'cat')

DETECTOR = """
default_scope = 'mmdet'
model = {model!r}
classes = dict(classes={classes!r})
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=False),
]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset', data_root='my_data/', ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'), metainfo=classes,
        pipeline=[*load, dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]))
val_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root='my_data/', ann_file='annotations/val.json',
        data_prefix=dict(img='JPEGImages/'), metainfo=classes, test_mode=True,
        pipeline=[*load, dict(type='PackDetInputs', meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file='my_data/annotations/val.json', metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
val_cfg, test_cfg = dict(type='ValLoop'), dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001, momentum=0.9))
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
"""


def readme_pair() -> str:
    """The pair that the README shows."""
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.S)
    [pair] = [block for block in blocks if 'pair(' in block]
    return pair


def run(tool: str, *args: str) -> None:
    """Call a tool in this process: starting one takes seconds."""
    sys.argv = [f'tools/{tool}.py', *map(str, args)]
    try:
        runpy.run_path(str(ROOT / f'tools/{tool}.py'), run_name='__main__')
    except SystemExit as done:
        if done.code:
            raise


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's folder: data, a teacher and a student on their own, and the README's pair."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', sys.argv)
    write_coco(Path('my_data'), 'train', 4, CLASSES, seed=1)
    write_coco(Path('my_data'), 'val', 2, CLASSES, seed=2)
    Path('my_teacher.py').write_text(
        DETECTOR.format(model=tiny_ssd(width=16, std=1.0), classes=CLASSES)
    )
    Path('my_student.py').write_text(DETECTOR.format(model=tiny_ssd(width=8), classes=CLASSES))
    Path('my_pair.py').write_text(readme_pair())
    return tmp_path


def scalars(work_dir: str) -> list[dict]:
    """What a run logged, a dict a line."""
    files = sorted(Path(work_dir).glob('2*/vis_data/scalars.json')) + sorted(
        Path(work_dir).glob('2*/2*.json')
    )
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_users_pair_from_end_to_end(project, capsys):
    """Train the teacher, distil, evaluate both forms of the student, export, go on."""
    run('train', 'my_teacher.py')
    run('train', 'my_pair.py')
    work_dir = Path('work_dirs/my_pair')
    saved = torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict']
    assert all(key.startswith('architecture.') for key in saved), 'the teacher is in the checkpoint'
    logged = next(line for line in scalars(work_dir) if 'loss' in line)
    assert {'student.loss_cls', 'distill.loss_soft', 'distill.bounded_active'} <= set(logged)

    # the same figures from the distillation checkpoint and from the student that the hook exported
    capsys.readouterr()
    run('test', 'my_pair.py', work_dir / 'epoch_1.pth', '--work-dir', 'a', '--out', 'a.pkl')
    shown, [log] = capsys.readouterr(), Path('a').glob('2*/2*.log')
    assert 'bbox_mAP' in shown.out + shown.err, 'the figures'
    for dump in ('System environment:', 'Config:', 'Hooks will be executed'):
        assert dump in log.read_text() and dump not in shown.out + shown.err
    run('test', work_dir / 'student.py', work_dir / 'student.pth', '--work-dir', 'b')
    a, b = (next(line for line in scalars(d) if 'coco/bbox_mAP' in line) for d in 'ab')
    assert a['coco/bbox_mAP'] == b['coco/bbox_mAP'] and Path('a.pkl').is_file()

    run('export_student', 'my_pair.py', work_dir / 'epoch_1.pth', 'deploy/small.pth')
    exported = torch.load('deploy/small.pth', weights_only=False)['state_dict']
    own = {k.removeprefix('architecture.'): v for k, v in saved.items()}
    assert exported.keys() == own.keys()
    assert all(torch.equal(value, own[key]) for key, value in exported.items())
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    model = init_detector('deploy/small.py', 'deploy/small.pth', device='cpu')
    image = raw_batch(1)['inputs'][0].permute(1, 2, 0).numpy()
    assert hasattr(inference_detector(model, image), 'pred_instances')
    with pytest.raises(ValueError, match=r'student\.py'):
        init_detector('my_pair.py', str(work_dir / 'epoch_1.pth'), device='cpu')
    inferencer = DetInferencer('deploy/small.py', 'deploy/small.pth', device='cpu')
    inferencer(image, out_dir='drawn')
    assert list(Path('drawn/vis').iterdir())

    run('train', 'my_pair.py', '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert (work_dir / 'epoch_2.pth').is_file()
    assert [line['epoch'] for line in scalars(work_dir) if 'lr' in line] == [1, 1, 2, 2]
    # A run that has ended exports again, for example after a full disk.
    last = (work_dir / 'student.pth').read_bytes()
    (work_dir / 'student.pth').unlink()
    run('train', 'my_pair.py', '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    again, last = (
        torch.load(io.BytesIO(b), weights_only=False)['state_dict']
        for b in ((work_dir / 'student.pth').read_bytes(), last)
    )
    assert all(torch.equal(value, last[key]) for key, value in again.items())


def test_learning_rate_follows_the_batch_size(project):
    run('train', 'my_student.py', '--auto-scale-lr')
    [step, *_] = [line for line in scalars('work_dirs/my_student') if 'lr' in line]
    assert step['lr'] == pytest.approx(0.001 * 2 / 4)


def test_mmdets_own_tool_reads_the_export(project):
    run('train', 'my_pair.py', '--cfg-options', 'model.teacher_ckpt=None')
    spec = importlib.util.find_spec('mmdet')
    tool = Path(spec.origin).parent / '.mim/tools/test.py'
    if not tool.is_file():
        pytest.skip('this mmdet comes without its tools')
    work_dir = 'work_dirs/my_pair'
    sys.argv = ['test.py', f'{work_dir}/student.py', f'{work_dir}/student.pth', '--work-dir', 'out']
    runpy.run_path(str(tool), run_name='__main__')
    assert any('coco/bbox_mAP' in line for line in scalars('out'))


def test_amp_on_the_cpu_is_bfloat16(project, monkeypatch):
    seen = set()
    conv2d = torch.nn.functional.conv2d

    def watch(*args):
        out = conv2d(*args)
        seen.add(out.dtype)
        return out

    monkeypatch.setattr(torch.nn.functional, 'conv2d', watch)
    run('train', 'my_pair.py', '--amp', '--cfg-options', 'model.teacher_ckpt=None')
    assert torch.bfloat16 in seen
    [first, *_] = [line for line in scalars('work_dirs/my_pair') if 'loss' in line]
    assert all(math.isfinite(value) for key, value in first.items() if 'loss' in key)
    student = Path('work_dirs/my_pair/student.py').read_text()
    for word in ('mmkd', 'mmrazor', 'CpuAmp', 'Distill', 'Hook(', 'NonFinite', 'PairReport'):
        assert word not in student
    dead = {'distiller', 'balance', 'student_loss_weights', 'teacher', 'load_from', 'resume'}
    config = Config.fromfile('work_dirs/my_pair/student.py')
    assert not dead & set(config) and config.model.type == 'SingleStageDetector'
    assert config.optim_wrapper.type == 'OptimWrapper'
    assert config.visualizer.type == 'mmdet.DetLocalVisualizer'
    assert {'auto_scale_lr', 'test_dataloader'} <= set(config)
    assert not {'load', 'classes'} & set(config)  # variables, which nothing reads


def test_a_loss_that_is_not_finite_stops_the_run(project):
    with pytest.raises(NonFiniteError, match=r'iteration 2 .*loss_cls = .*\.jpg'):
        run('train', 'my_student.py', '--cfg-options', 'optim_wrapper.optimizer.lr=1e38')
    assert len(list(Path('work_dirs/my_student').glob('*/before_non_finite.pth'))) == 1


def test_missing_data_stops_before_anything_is_written(project):
    Path('my_data').rename('elsewhere')
    with pytest.raises(FileNotFoundError, match=r'train_dataloader: data_root must exist'):
        run('train', 'my_pair.py')
    assert not Path('work_dirs').exists()


def test_missing_teacher_stops_before_training(project):
    with pytest.raises(FileNotFoundError, match='teacher_ckpt must be an existing file'):
        run('train', 'my_pair.py')
    assert not list(Path('work_dirs').rglob('*.pth'))


def test_voc_metric(project):
    """The same student on VOC-shaped data gives VOC mAP."""
    write_voc(Path('my_voc/VOC2007'), 'test', 2, CLASSES)
    dataset = dict(
        type='VOCDataset',
        data_root='my_voc/',
        ann_file='VOC2007/ImageSets/Main/test.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
    )
    config = Config.fromfile('my_student.py')
    config.test_dataloader.dataset = {**config.test_dataloader.dataset, **dataset}
    config.test_evaluator = dict(type='VOCMetric', metric='mAP')
    config.dump('my_voc.py')
    run('train', 'my_student.py')
    run('test', 'my_voc.py', 'work_dirs/my_student/epoch_1.pth', '--work-dir', 'voc')
    assert any('pascal_voc/mAP' in line for line in scalars('voc'))


def test_two_processes_on_the_cpu(project):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    env = {**os.environ, 'PYTHON': sys.executable, 'PORT': str(port), 'CUDA_VISIBLE_DEVICES': ''}
    env['PYTHONPATH'] = os.pathsep.join([str(ROOT), env.get('PYTHONPATH', '')])
    command = ['bash', ROOT / 'tools/dist_train.sh', 'my_pair.py', '2']
    options = ['--cfg-options', 'model.teacher_ckpt=None']
    done = subprocess.run(
        [*command, *options], env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path('work_dirs/my_pair/student.pth').is_file()
    steps = [line for line in scalars('work_dirs/my_pair') if 'lr' in line]
    assert len(steps) == 1  # 4 images, 2 processes of 2


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_train'])
def test_scripts_without_arguments_say_how_they_are_called(script):
    done = subprocess.run(
        ['bash', ROOT / f'tools/{script}.sh'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and f'{script}.sh ' in done.stderr
