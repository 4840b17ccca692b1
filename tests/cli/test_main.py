"""The command ``mmkd``: it answers at once, and the tools are doors to it."""

import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest

from mmkd.compare import ARMS
from mmkd_cli import compare, configs
from mmkd_cli.main import COMMANDS, main
from tests.tiny import ROOT

#: Tools, where OpenMMLab's users look for them, and the commands behind them.
DOORS = {
    'cache_teacher': ['cache'],
    'check_pair': ['check'],
    'compare': ['compare'],
    'convert_yolov5': ['convert'],
    'demo': ['demo'],
    'export_student': ['export'],
    'make_digits': ['data', 'digits'],
    'make_pair': ['pair'],
    'predict': ['predict'],
    'split_coco': ['data', 'split'],
    'test': ['test'],
    'train': ['train'],
    'voc_to_coco': ['data', 'voc2coco'],
}


def test_help_answers_without_torch_and_without_mmkd():
    """All --help of the command and of the tools, in one process: torch takes a second."""
    code = textwrap.dedent("""
        import runpy, sys
        from pathlib import Path
        from mmkd_cli.main import COMMANDS, main
        words = [[], *([name] for name in COMMANDS)]
        words += [['data', kind] for kind in ('digits', 'split', 'voc2coco')]
        words += [['configs', 'copy']]
        calls = [lambda words=words: main([*words, '--help']) for words in words]
        for path in sorted(Path('tools').glob('*.py')):
            calls.append(lambda path=path: runpy.run_path(str(path), run_name='__main__'))
        sys.argv = ['tool', '--help']
        for call in calls:
            try:
                call()
            except SystemExit as done:
                assert done.code == 0
        slow = {'torch', 'mmkd', 'mmengine', 'numpy', 'rich'} & set(sys.modules)
        assert not slow, slow
    """)
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    usages = re.findall(r'^usage: mmkd ((?:[a-z][\w-]* ?)*)', done.stdout, re.M)
    expected = ['', *COMMANDS, 'data digits', 'data split', 'data voc2coco', 'configs copy']
    expected += [' '.join(DOORS[tool]) for tool in sorted(DOORS)]
    assert [usage.strip() for usage in usages] == expected


@pytest.mark.parametrize('tool', sorted(DOORS))
def test_a_tool_is_a_door(tool):
    """It hands its arguments to the command, and does nothing else."""
    text = (ROOT / f'tools/{tool}.py').read_text()
    words = ', '.join(map(repr, DOORS[tool]))
    assert re.sub(r'^""".*"""\n', '', text) == textwrap.dedent(f"""
        import sys

        from mmkd_cli.main import main

        if __name__ == '__main__':
            sys.exit(main([{words}, *sys.argv[1:]]))
    """)


def test_each_tool_has_a_command():
    assert {path.stem for path in (ROOT / 'tools').glob('*.py')} == DOORS.keys()


def test_arms_are_those_of_the_package():
    """Which the parser must not import."""
    assert ARMS == compare.ARMS


def test_the_version(capsys):
    with pytest.raises(SystemExit):
        main(['--version'])
    assert re.fullmatch(r'mmkd \d+\.\d+\.\d+\n', capsys.readouterr().out)


@pytest.mark.parametrize('words', [[], ['train'], ['data', 'split']])
def test_help_of_python_m_answers_before_the_package_is_imported(words):
    """``-X importtime`` lists each import, so that no time is measured."""
    command = [sys.executable, '-X', 'importtime', '-m', 'mmkd', *words, '--help']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f'usage: {" ".join(["mmkd", *words])} ')
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert 'mmkd_cli.main' in imported and not {'torch', 'mmengine', 'mmkd.compat'} & imported


def test_python_m_tells_wrong_words_once():
    command = [sys.executable, '-m', 'mmkd', 'train', 'mmkd::no_such_config.py']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count('there is no "no_such_config.py"') == 1


@pytest.mark.parametrize('words', [['configs'], ['--help'], ['train', '--help']])
def test_a_reader_that_has_gone_is_no_error(words):
    """As in ``mmkd configs | head -1``."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, '-m', 'mmkd_cli', *words],
        cwd=ROOT,
        env=dict(os.environ, PYTHONUNBUFFERED=''),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, '')


def test_another_broken_pipe_is_an_error(monkeypatch):
    def broken(args):
        raise BrokenPipeError('of a worker')

    monkeypatch.setattr(configs, 'list_configs', broken)
    with pytest.raises(BrokenPipeError, match='of a worker'):
        main(['configs'])
