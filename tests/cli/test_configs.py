"""The configs that come with mmkd: listed, and copied with all that they are made of."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from mmkd_cli.main import main
from tests.tiny import ROOT


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
