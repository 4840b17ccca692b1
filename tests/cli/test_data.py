"""``mmkd data``: what its arguments mean; what it does is tested in tests/datasets."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from mmkd.datasets.digits import DigitsSettings
from mmkd_cli import data
from mmkd_cli.main import main
from tests.tiny import ROOT, write_coco, write_voc


def test_settings_of_the_digits_are_those_of_the_package():
    """Which the parser must not import."""
    assert asdict(DigitsSettings()) == data.DIGITS


def test_a_file_is_split(tmp_path, monkeypatch, capsys):
    """The command of docs/your_own_data.md."""
    monkeypatch.chdir(tmp_path)
    path = write_coco(Path('data/mine'), 'all', 20, ('ant', 'bee'))
    text = (ROOT / 'docs/your_own_data.md').read_text()
    [command] = re.findall(r'^mmkd (data split .*)$', text, re.M)
    assert main(command.split()) == 0
    assert 'train.json: 14 images' in capsys.readouterr().out
    first = path.with_name('train.json').read_text()
    with pytest.raises(SystemExit, match=r'train\.json must not exist yet'):
        main(command.split())
    assert main([*command.split(), '--seed', '1', '--force']) == 0
    assert path.with_name('train.json').read_text() != first


@pytest.mark.parametrize('text', ['train', 'train=', '=1', 'a/b=1', 'train=0', 'train=nan'])
def test_a_part_is_a_name_and_a_share(tmp_path, text, capsys):
    with pytest.raises(SystemExit) as done:
        main(['data', 'split', str(tmp_path / 'all.json'), '--shares', text])
    assert done.value.code == 2
    assert f"'{text}'" in capsys.readouterr().err


def test_voc_form_gets_coco_files(tmp_path, capsys):
    for split in ('train', 'val'):
        write_voc(tmp_path, split, 2, ('ant', 'bee'))
    command = ['data', 'voc2coco', str(tmp_path), '--classes', 'ant', 'bee']
    with pytest.raises(SystemExit, match='none for test; there are: train, val'):
        main(command)
    assert not list(tmp_path.rglob('*.json'))
    command += ['--splits', 'train', 'val']
    assert main(command) == 0
    assert 'train.json: 2 images, 4 boxes, 0 empty left out' in capsys.readouterr().out
    content = json.loads((tmp_path / 'annotations/val.json').read_text())
    assert [category['name'] for category in content['categories']] == ['ant', 'bee']
    with pytest.raises(SystemExit, match=r'train\.json must not exist yet'):
        main(command)
    assert main([*command, '--force']) == 0
