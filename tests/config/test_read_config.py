"""A config that cannot be read is told in one message, by every tool."""

import os
import sys
from copy import deepcopy

import pytest
from mmengine.config import Config

from mmkd.config.config_errors import ConfigError, ConfigFileNotFoundError
from mmkd.config.read_config import read_config
from mmkd_cli.main import main

GOOD = {'pair.py': "a = dict(x=1, y='two')\nb = 0.3\n"}
BASE = "_base_ = './pair.py'\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a config, in which the test runs."""
    monkeypatch.chdir(tmp_path)

    def write(**files):
        for name, text in {**GOOD, **files}.items():
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    'options', [None, {}, {'a.x': 3}, {'a': dict(_delete_=True, z=1)}, {'new.key': [1]}]
)
def test_a_config_is_what_mmengine_reads(folder, options):
    path = folder() / 'pair.py'
    expected = Config.fromfile(path)
    expected.merge_from_dict(deepcopy(options or {}))
    kept = repr(options)
    assert read_config(path, options=options).to_dict() == expected.to_dict()
    assert repr(options) == kept  # mmengine takes _delete_ out of what it merges


@pytest.mark.parametrize('text', ['a: 1\n', '{"a": 1}'])
def test_other_forms_of_configs(folder, text):
    name = 'pair.json' if text.startswith('{') else 'pair.yml'
    assert read_config(folder(**{name: text}) / name).a == 1


@pytest.mark.parametrize('name', ['mmkd::ssd_r18w8_digits.py', 'mmdet::_base_/default_runtime.py'])
def test_an_installed_config(name):
    assert read_config(name).filename.endswith('.py')


@pytest.mark.parametrize(
    ('name', 'files', 'message'),
    [
        ('pare.py', {}, r'config must be an existing config file, but there is no "pare.py" \(seen'
         r' from .*\)\. Did you mean "pair.py"\?'),
        ('./pare.py', {}, r'no "pare.py" .* Did you mean "pair.py"\?'),
        ('quite/else.py', {}, r'no "quite/else.py" .* There is no folder "quite" either'),
        ('zzzzzz.py', {}, r'no "zzzzzz.py" .* Correct the path\.'),
        ('child.py', {'child.py': "_base_ = './pare.py'\n"},
         r'config "child.py" must build on files that exist, but there is no ".*/pare.py" .*'
         r'Did you mean ".*/pair.py"\?'),
        ('mmkd::ssd_r18w8_digit.py', {}, r'must .*ssd_r18w8_digit.py'),
        ('mmdet::ssd/ssd301_coco.py', {}, r'must be an existing config file, but .*ssd301_coco.py'),
    ],
)  # fmt: skip
def test_a_file_that_is_missing(folder, name, files, message):
    folder(**files)
    with pytest.raises(ConfigFileNotFoundError, match=message):
        read_config(name)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (BASE + 'model = dict(a=dict(\n',
         r'must be written in Python, but .*never closed.*"child.py", line 2: model'),
        (BASE + 'x = missing\n', r'child.py", line 2, came NameError: .*missing.* is not defined'),
        (BASE + 'import torchvison\n',
         r'child.py", line 2, came ModuleNotFoundError: .*torchvison'),
        (BASE + '_base_.aa.x = 1\n', r'child.py", line 2, came AttributeError: .*aa'),
        (BASE + 'b = dict(c=1)\n', r'of "child.py" came TypeError: .*_delete_=True'),
        (BASE + "custom_imports = dict(imports=['my_losse'])\n",
         r'of "child.py" came ImportError: .*my_losse'),
    ],
)  # fmt: skip
def test_a_fault_in_a_config_is_told_with_its_line(folder, text, message):
    folder(**{'child.py': text})
    with pytest.raises(ConfigError, match=message):
        read_config('child.py')


def test_a_fault_in_a_base_is_told_of_the_base(folder):
    folder(**{'low.py': 'x = 1\ny = dict(\n', 'child.py': "_base_ = './low.py'\n"})
    with pytest.raises(ConfigError, match=r'/low.py", line 2: y = dict\('):
        read_config('child.py')


def test_options_that_do_not_fit(folder):
    folder()
    with pytest.raises(ConfigError, match=r'--cfg-options must fit "pair.py", but got .*b.c'):
        read_config('pair.py', options={'b.c': 1})


@pytest.mark.parametrize('what', ['teacher', 'architecture'])
def test_a_models_config_is_named_by_its_key(folder, what):
    from mmkd.algorithms.build_detector import build_detector

    folder()
    with pytest.raises(ConfigFileNotFoundError, match=f'^{what} must be .* "pare.py"'):
        build_detector('pare.py', what)


TOOLS = [
    ['train'],
    ['test', 'x.pth'],
    ['export', 'x.pth', 'y.pth'],
    ['cache', '--views', '1'],
    ['compare'],
]


@pytest.mark.parametrize('words', TOOLS, ids=lambda words: words[0])
def test_every_command_tells_it_in_a_line(folder, words, monkeypatch, capsys):
    folder()
    monkeypatch.setattr(sys, 'argv', [])
    monkeypatch.setattr(sys, 'excepthook', sys.__excepthook__)
    command, *rest = words
    with pytest.raises(ConfigFileNotFoundError) as raised:
        main([command, 'pare.py', *rest])
    assert sys.excepthook.__name__ == 'message_last'
    sys.excepthook(raised.type, raised.value, raised.tb)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith('mmkd: ')
    assert 'Did you mean "pair.py"?' in told[0]
    assert sorted(os.listdir()) == ['pair.py']  # nothing was made


def test_check_tells_it_in_its_report(folder, capsys):
    folder()
    assert main(['check', 'pare.py', '--json']) == 1
    assert 'Did you mean' in capsys.readouterr().out
