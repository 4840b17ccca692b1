"""The command ``mmkd``: it answers at once, and the tools are doors to it."""

import argparse
import ast
import re
import runpy
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config, DictAction

from mmkd.compare import ARMS
from mmkd.datasets.digits import DigitsSettings
from mmkd_cli import compare, data
from mmkd_cli.main import COMMANDS, build_parser, main
from mmkd_cli.options import ConfigOptions
from mmkd_cli.shipped import shipped, shipped_config
from tests.tiny import ROOT

DOORS = {
    'cache_teacher': ['cache'],
    'check_pair': ['check'],
    'convert_yolov5': ['convert'],
    'demo': ['demo'],
    'export_student': ['export'],
    'make_digits': ['data', 'digits'],
}
#: Tools that have their own body, which the command runs.
BODIES = {
    'train': ['train'],
    'test': ['test'],
    'compare': ['compare'],
    'split_coco': ['data', 'split'],
    'voc_to_coco': ['data', 'voc2coco'],
}


def subparser(words: list[str]) -> argparse.ArgumentParser:
    parser = build_parser()
    for word in words:
        [commands] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        parser = commands.choices[word]
    return parser


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Options and positional arguments."""
    names = {name for action in parser._actions for name in action.option_strings}
    return names | {action.dest for action in parser._actions if not action.option_strings}


def test_help_answers_without_torch_and_without_mmkd():
    """All --help of the command, in one process: torch alone would take a second."""
    code = textwrap.dedent("""
        import sys
        from mmkd_cli.main import COMMANDS, main
        for words in ([], *([name] for name in COMMANDS)):
            try:
                main([*words, '--help'])
            except SystemExit as done:
                assert done.code == 0
        slow = {'torch', 'mmkd', 'mmengine', 'numpy', 'rich'} & set(sys.modules)
        assert not slow, slow
    """)
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f'usage: mmkd {name} ' in done.stdout


@pytest.mark.parametrize('tool', DOORS)
def test_a_tool_is_a_door(tool, monkeypatch, capsys):
    """It hands its arguments to the command, and imports nothing else."""
    path = ROOT / f'tools/{tool}.py'
    imported = re.findall(r'^(?:from|import) (\S+)', path.read_text(), re.M)
    assert imported == ['sys', 'mmkd_cli.main']
    monkeypatch.setattr(sys, 'argv', [str(path), '--help'])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(path), run_name='__main__')
    assert done.value.code == 0
    assert capsys.readouterr().out.startswith(f'usage: mmkd {" ".join(DOORS[tool])} ')


def test_each_tool_has_a_command():
    assert {path.stem for path in (ROOT / 'tools').glob('*.py')} == DOORS.keys() | BODIES.keys()


@pytest.mark.parametrize('tool', BODIES)
def test_a_command_has_the_arguments_of_its_tool(tool):
    """Else one of them was given to the tool alone, or the other way round."""
    words = BODIES[tool]
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / f'tools/{tool}.py').read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'add_argument'
    ]
    named = {argument.value for call in calls for argument in call.args}
    assert options(subparser(words)) - {'-h', '--help'} == named


@pytest.mark.parametrize('tool', BODIES)
def test_a_command_runs_its_tool(tool, monkeypatch):
    """With the arguments as they are, a shipped config by its file."""
    ran = []
    monkeypatch.setattr('mmkd_cli.shipped.runpy.run_path', lambda path, run_name: ran.append(path))
    monkeypatch.setattr(sys, 'argv', sys.argv)
    given = ['mmkd::ssd_r18w8_digits', 'x.pth'] if tool == 'test' else ['mmkd::ssd_r18w8_digits']
    given += dict(split_coco=['--shares', 'a=1'], voc_to_coco=['--classes', 'a']).get(tool, [])
    assert main([*BODIES[tool], *given]) == 0
    assert ran == [str(ROOT / f'tools/{tool}.py')]
    assert sys.argv == [*ran, str(ROOT / 'configs/ssd_r18w8_digits.py'), *given[1:]]


def test_what_is_written_twice_is_the_same():
    """mmkd's own, which the parser must not import."""
    assert ARMS == compare.ARMS
    assert asdict(DigitsSettings()) == data.DIGITS


@given(
    st.dictionaries(
        st.text('abc.', min_size=1),
        st.text('ab1.,=()[] ', max_size=8).filter(
            lambda text: text.count('(') == text.count(')') and text.count('[') == text.count(']')
        ),
    )
)
def test_config_options_are_read_as_mmengine_reads_them(pairs):
    words = ['-o', *(f'{key}={value}' for key, value in pairs.items())]

    def read(action):
        parser = argparse.ArgumentParser()
        parser.add_argument('-o', nargs='*', action=action, default={})
        try:
            return parser.parse_args(words).o
        except (AssertionError, RecursionError, SystemExit):
            return 'refused'

    assert read(ConfigOptions) == read(DictAction)


@pytest.mark.parametrize(
    ('word', 'message'),
    [('train_cfg', 'but got "train_cfg"'), ('a=[(1,2]', 'brackets in pairs')],
)
def test_a_bad_option_is_named(word, message, capsys):
    with pytest.raises(SystemExit):
        main(['train', 'a.py', '--cfg-options', word])
    assert message in capsys.readouterr().err


def test_the_version(capsys):
    with pytest.raises(SystemExit):
        main(['--version'])
    assert re.fullmatch(r'mmkd \d+\.\d+\.\d+\n', capsys.readouterr().out)


# Shipped configs


def test_configs_are_listed(capsys):
    assert main(['configs']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(list((ROOT / 'configs').glob('*.py')))
    assert all(re.match(r'mmkd::\w+ +\S.*\.$', line) for line in lines)


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'configs').glob('*.py')), ids=lambda path: path.stem
)
def test_a_copy_is_complete(path, tmp_path, capsys):
    """Each file of it lies in the folder, so that nothing of the package is needed."""
    out = tmp_path / 'mine'
    assert main(['configs', 'copy', f'mmkd::{path.stem}', '--out', str(out)]) == 0
    copied = {Path(line).relative_to(out).as_posix() for line in capsys.readouterr().out.split()}
    assert path.name in copied
    for name in copied:
        assert (out / name).read_bytes() == (ROOT / 'configs' / name).read_bytes()
        code = (out / name).read_text()
        named = re.findall(r"'(?:\{\{ fileDirname \}\}/|(?=[\w./]))([\w./]+\.py)'", code)
        assert all(((out / name).parent / other).is_file() for other in named)


def test_a_copy_is_the_same_config(tmp_path):
    assert main(['configs', 'copy', 'ssd_kd_r18_to_r18w8_digits', '--out', str(tmp_path)]) == 0
    copy = Config.fromfile(tmp_path / 'ssd_kd_r18_to_r18w8_digits.py').to_dict()
    own = Config.fromfile(ROOT / 'configs/ssd_kd_r18_to_r18w8_digits.py').to_dict()
    assert Path(copy['model'].pop('teacher')) == tmp_path / 'ssd_r18w32_digits.py'
    own['model'].pop('teacher')
    assert copy == own


def test_a_copy_keeps_what_was_changed(tmp_path, capsys):
    copy = ['configs', 'copy', 'ssd_r18w8_digits', '--out', str(tmp_path)]
    assert main(copy) == main(copy) == 0, 'files that are there already, unchanged, stay'
    base = tmp_path / '_base_/schedules/digits.py'
    base.write_text('mine = 1\n')
    (tmp_path / 'ssd_r18w8_digits.py').unlink()
    assert main(copy) == 1
    assert re.search(r'digits\.py exists and differs.*--force', capsys.readouterr().err)
    assert base.read_text() == 'mine = 1\n'
    assert not (tmp_path / 'ssd_r18w8_digits.py').exists(), 'all files or none'
    assert main([*copy, '--force']) == 0 and base.read_text() != 'mine = 1\n'


@pytest.mark.parametrize(
    'words', [['train', 'mmkd::ssd_r18w8_digit'], ['configs', 'copy', 'ssd_r18w8_digit']]
)
def test_a_name_that_is_not_shipped(words, capsys):
    assert main(words)
    assert 'no "ssd_r18w8_digit.py". Did you mean ssd_r18w8_' in capsys.readouterr().err


def test_where_shipped_files_lie():
    assert shipped('tools/train.py') == ROOT / 'tools/train.py'
    assert shipped_config('mmkd::_base_/methods/ssd_balanced.py').is_file()


# mmdet's own tools


def test_mmdets_own_tools(capsys, monkeypatch, tmp_path):
    """With the ops in place: on their own they stop at "import mmcv.ops"."""
    monkeypatch.setattr(sys, 'argv', sys.argv)
    assert main(['mmdet-tool']) == 0
    listed = capsys.readouterr().out.split()
    if not listed:
        pytest.skip('this mmdet comes without its tools')
    assert {'analyze_logs', 'browse_dataset', 'test'} <= set(listed)
    config = tmp_path / 'config.py'
    config.write_text('lr = 0.5\n')
    main(['mmdet-tool', 'print_config', str(config), '--cfg-options', 'lr=0.25'])
    assert 'lr = 0.25' in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r'"analyse" must be one of .*analyze_logs'):
        main(['mmdet-tool', 'analyse'])
