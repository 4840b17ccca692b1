"""What is built from the tree is a package: it installs, brings configs and tools, and trains."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip('sklearn')

from mmkd.datasets.digits import DigitsSettings, make_digits
from tests.tiny import ROOT

PAIR = """
_base_ = 'mmkd::ssd_kd_r18_to_r18w8_digits.py'
model = dict(teacher_ckpt=None)
train_cfg = dict(max_epochs=1, val_interval=2)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
"""


def untracked(folder: str, names: list[str]) -> list[str]:
    """What lies in a clone and is not of the project."""
    if Path(folder) != ROOT:
        return [name for name in names if name in ('__pycache__', '.mim')]
    own = {'build', 'dist', 'data', 'work_dirs'}
    return [n for n in names if n in own or n.endswith('.egg-info') or (n[0] == '.' and n != '.ci')]


def build(kind: str, tree: Path, out: Path) -> Path:
    """Build the sdist or the wheel of a tree, with the setuptools that is installed."""
    code = f'from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})'
    call(sys.executable, '-c', code, cwd=tree)
    [path] = out.glob('*.tar.gz' if kind == 'sdist' else '*.whl')
    return path


def call(*command: object, cwd: Path) -> str:
    """Run a command in another folder, from which the clone is not seen; what it prints."""
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env | {'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_wheel_of_the_sdist_trains_outside_the_clone(tmp_path):
    tree = tmp_path / 'tree'
    shutil.copytree(ROOT, tree, ignore=untracked, symlinks=True)
    sdist = build('sdist', tree, tmp_path)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter='data')
    unpacked = tmp_path / sdist.name.removesuffix('.tar.gz')
    for path in tree.rglob('*'):
        inside = path.relative_to(tree)
        if path.is_file() and inside.parts[0] != 'mmkd.egg-info':
            assert (unpacked / inside).is_file(), f'the sdist lacks {inside}'

    wheel = build('wheel', unpacked, tmp_path)
    assert wheel.name.endswith('-py3-none-any.whl')
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        tops = {name.split('/')[0].split('-')[0] for name in names}
    assert tops == {'mmkd', 'mmkd_cli', 'mmkd_onnx'}
    for folder in ('configs', 'tools'):
        for path in (tree / folder).rglob('*'):
            assert path.is_dir() or f'mmkd/.mim/{path.relative_to(tree)}' in names
    assert {'mmkd/.mim/model-index.yml', 'mmkd/py.typed'} <= names

    venv.create(tmp_path / 'venv', symlinks=True)
    python = tmp_path / 'venv/bin/python'
    install = ('install', '-q', '--no-deps', '--no-index', '--disable-pip-version-check', wheel)
    call(sys.executable, '-m', 'pip', '--python', python, *install, cwd=tmp_path)
    gate = Path(sysconfig.get_paths()['purelib'])
    base = str(tmp_path / 'venv')
    paths = sysconfig.get_paths('posix_prefix', vars={'base': base, 'platbase': base})
    # Only the folder, so that what is installed in editable form there is not seen.
    (Path(paths['purelib']) / 'gate.pth').write_text(str(gate))
    for shim in gate.glob('distutils-precedence.pth'):  # setuptools' distutils, for mmengine
        shutil.copy(shim, Path(paths['purelib']) / 'gate_distutils.pth')

    work = tmp_path / 'work'
    make_digits(work / 'data/digits', DigitsSettings(train=4, val=2))
    (work / 'pair.py').write_text(PAIR)
    mmkd = tmp_path / 'venv/bin/mmkd'
    assert 'mmkd::ssd_kd_r18_to_r18w8_digits ' in call(mmkd, 'configs', cwd=work)
    log = call(mmkd, 'train', 'pair.py', cwd=work)
    assert 'Epoch(train) [1][1/1]' in log and 'distill.loss_soft' in log
    [whole] = (work / 'work_dirs/pair').glob('*/*.log')  # the console does not show the config
    assert str(tmp_path / 'venv') in whole.read_text(), 'the teacher is that of the wheel'
    assert (work / 'work_dirs/pair/student.pth').is_file()
