"""What docs/install.md and the Makefile promise exists as they name it."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmkd import compat

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / 'docs/install.md').read_text()
MAKEFILE = (ROOT / 'Makefile').read_text()


@pytest.fixture
def setup(monkeypatch):
    """The arguments that setup.py gives to setuptools."""
    given = {}
    fake = SimpleNamespace(setup=given.update, find_packages=lambda include: include)
    monkeypatch.setitem(sys.modules, 'setuptools', fake)
    runpy.run_path(str(ROOT / 'setup.py'))
    return given


def test_extras_are_those_documented(setup):
    documented = set(re.findall(r"pip install -e '\.\[(\w+)\]'", GUIDE))
    assert documented == set(setup['extras_require'])
    assert {'demo', 'all'} == set(re.findall(r'\.installed-(\w+)$', MAKEFILE, re.M))


def test_make_targets_exist():
    targets = set(re.findall(r'\bmake ([a-z-]+)', GUIDE))
    assert targets == set(re.search(r'^\.PHONY: (.+)$', MAKEFILE, re.M)[1].split())


def test_requirements_are_those_documented(setup):
    originals = (ROOT / 'requirements-openmmlab.txt').read_text().splitlines()
    ours = setup['install_requires'] + setup['extras_require']['all']
    for pin in [*re.findall(r'[\w-]+==[\w.]+', GUIDE), 'setuptools<81']:
        assert pin in ours + originals
    assert 'torch>=2.4,<2.14' in ours and 'from 2.4 to 2.13' in GUIDE
    # The original packages replace the onedl-* ones and bring some; all else is as in setup.py.
    brought = {'numpy', 'pycocotools'}
    tools = {'mypy', 'ruff'}
    rest = {pin for pin in ours if not pin.startswith('onedl-')}
    assert rest - set(originals) == brought | tools


def test_uninstall_command_names_every_distribution():
    command = re.search(r'pip uninstall -y (.+)', GUIDE)[1].split()
    known = {name for names in compat.PROVIDERS.values() for name in names}
    assert known - set(command) == {'mmengine-lite', 'mmcv-full'}  # long out of use


def test_compile_command_is_the_one_that_errors_give(monkeypatch):
    monkeypatch.setattr(compat, 'installed', lambda package: {'onedl-mmcv': '2.3.6'})
    for command in re.findall(r'"(pip install [^"]+)"', compat.build_advice()):
        assert command in GUIDE


def test_version_is_the_package_version(setup):
    import mmkd

    assert setup['version'] == mmkd.__version__


def test_only_the_yolo_extra_brings_mmyolo(setup):
    assert 'mmyolo' not in ' '.join(setup['install_requires'])
    extras = setup['extras_require'].items()
    assert {name for name, needs in extras if 'mmyolo==0.6.0' in needs} == {'yolo', 'all'}


@pytest.mark.parametrize('name', compat.supplied_ops())
def test_supplied_ops_exist(name):
    assert callable(compat.supplied_ops()[name])


def test_ci_runs_the_gate():
    script = ROOT / '.ci/run'
    assert script.stat().st_mode & 0o111
    assert script.read_text().rstrip().endswith('make test')
    gate = subprocess.run(
        ['make', '--dry-run', '--assume-old=.venv/.installed-all', 'test'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for step in ('ruff check', 'ruff format --check', 'mypy', 'pytest'):
        assert step in gate


def test_make_refuses_an_old_python(tmp_path):
    old = tmp_path / 'python'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    for makefile in ('Makefile', 'setup.py', 'requirements-openmmlab.txt'):
        (tmp_path / makefile).write_text((ROOT / makefile).read_text())
    result = subprocess.run(
        ['make', 'demo', f'PYTHON={old}'], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert 'Python 3.10 or newer; received Python 3.9.1' in result.stderr
    assert not (tmp_path / '.venv').exists()
