"""What docs/install.md and the Makefile promise exists as they name it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmkd
from mmkd.compat import mmcv_ops, packages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / 'docs/install.md').read_text()
MAKEFILE = (ROOT / 'Makefile').read_text()


PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
EXTRAS = PROJECT['optional-dependencies']


def test_extras_are_those_documented():
    documented = set(re.findall(r"pip install 'mmkd\[(\w+)\]'", GUIDE))
    assert documented == set(EXTRAS)
    [named] = re.findall(r'mmkd\[(.*)\]', ''.join(EXTRAS['all']))
    assert set(named.split(',')) == set(EXTRAS) - {'all', 'fast'}
    assert {'demo', 'all'} == set(re.findall(r'\.installed-(\w+)$', MAKEFILE, re.M))


def test_make_targets_exist():
    targets = set(re.findall(r'\bmake ([a-z-]+)', GUIDE))
    assert targets == set(re.search(r'^\.PHONY: (.+)$', MAKEFILE, re.M)[1].split())


def test_requirements_are_those_documented():
    originals = (ROOT / 'requirements-openmmlab.txt').read_text().splitlines()
    of_all = [pin for name in EXTRAS if name not in ('all', 'fast') for pin in EXTRAS[name]]
    ours = PROJECT['dependencies'] + of_all
    for pin in [*re.findall(r'[\w-]+==[\w.]+', GUIDE), 'setuptools<81']:
        assert pin in ours + originals or pin.startswith('torch')
    assert 'torch>=2.4,<2.15' in ours and 'from 2.4 to 2.14' in GUIDE
    # The original packages replace the onedl-* ones and bring some; all else is as there.
    brought = {'numpy', 'pycocotools'}
    # there setuptools has an upper bound
    tools = {'furo', 'mypy', 'myst-parser', 'ruff', 'setuptools>=77', 'sphinx', *EXTRAS['export']}
    rest = {pin for pin in ours if not pin.startswith('onedl-')}
    assert rest - set(originals) == brought | tools


def test_uninstall_command_names_every_distribution():
    command = re.search(r'pip uninstall -y (.+)', GUIDE)[1].split()
    known = {name for names in packages.PROVIDERS.values() for name in names}
    assert known - set(command) == {'mmengine-lite', 'mmcv-full'}  # long out of use


def test_compile_command_is_the_one_that_errors_give(monkeypatch):
    monkeypatch.setattr(packages, 'installed', lambda package: {'onedl-mmcv': '2.3.6'})
    for command in re.findall(r'"(pip install [^"]+)"', packages.build_advice()):
        assert command in GUIDE


def test_the_version_is_written_once():
    """Read from the source by setuptools, which must not import it."""
    assert 'version' not in PROJECT and PROJECT['dynamic'] == ['version']
    [version] = re.findall(r"^__version__ = '(.+)'$", (ROOT / 'mmkd/__init__.py').read_text(), re.M)
    assert version == mmkd.__version__
    assert f'\nversion: {version}\n' in (ROOT / 'CITATION.cff').read_text()


def test_only_the_yolo_extra_brings_mmyolo():
    assert 'mmyolo' not in ' '.join(PROJECT['dependencies'])
    assert {name for name, needs in EXTRAS.items() if 'mmyolo==0.6.0' in needs} == {'yolo'}


def test_each_python_that_is_promised_is_named():
    named = [c.split(' :: ')[-1] for c in PROJECT['classifiers'] if ':: Python :: 3.' in c]
    assert named == ['3.10', '3.11', '3.12', '3.13'] and PROJECT['requires-python'] == '>=3.10'
    assert '3.10 to 3.13' in GUIDE


@pytest.mark.parametrize('name', mmcv_ops.supplied_ops())
def test_supplied_ops_exist(name):
    assert callable(mmcv_ops.supplied_ops()[name])


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
    for makefile in ('Makefile', 'setup.py', 'pyproject.toml', 'requirements-openmmlab.txt'):
        (tmp_path / makefile).write_text((ROOT / makefile).read_text())
    result = subprocess.run(
        ['make', 'demo', f'PYTHON={old}'], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert 'Python 3.10 or newer; received Python 3.9.1' in result.stderr
    assert not (tmp_path / '.venv').exists()
