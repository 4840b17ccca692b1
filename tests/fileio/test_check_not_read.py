"""What is read is never written over, by any command that may replace files."""

import json
import os
import re
from pathlib import Path

import pytest

from mmkd.config.config_files import config_files
from mmkd.config.read_config import read_config
from mmkd.cost.contender import Contender
from mmkd.cost.run_benchmark import run_benchmark
from mmkd.datasets.split_coco import write_parts
from mmkd.export.export_graph import export_graph
from mmkd.export.export_student import export_student
from mmkd.fileio.check_not_read import check_not_read
from mmkd_cli.convert import convert
from mmkd_cli.main import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a.json', 'b.json', 's.onnx', 's.pth'):
        Path(name).write_text(name)
    Path('base.py').write_text('a = 1\n')
    Path('deep').mkdir()
    Path('deep/s.py').write_text("_base_ = ['../base.py']\n")
    return tmp_path


def kept(folder):
    """What the files of a folder hold."""
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_a_file_is_known_by_any_name(here):
    os.symlink('a.json', 'link.json')
    os.symlink(here, 'folder')
    for name in ('a.json', './a.json', 'link.json', 'folder/a.json', here / 'a.json'):
        with pytest.raises(FileExistsError, match=f'{re.escape(Path(name).name)} is read. Name'):
            check_not_read(['new.json', name], ['b.json', 'a.json', None])
    check_not_read(['new.json', 'other'], ['a.json', None, 'fasterrcnn', 'gone.json'])


def test_a_config_is_all_its_files(here):
    Path('more.json').write_text('{"_base_": "deep/s.py"}')
    files = [Path('more.json'), Path('deep/s.py'), Path('base.py')]
    for config in ('more.json', read_config('more.json')):
        assert [p.resolve() for p in config_files(config)] == [p.resolve() for p in files]
    Path('broken.py').write_text('_base_ = [')
    assert config_files('broken.py') == [Path('broken.py')]
    assert config_files(None) == config_files('mmdet::x/y.py') == config_files('gone.py') == []


def test_no_command_writes_over_what_it_reads(here):
    os.symlink('a.json', 'part.json')
    os.symlink('deep/s.py', 's.py')
    before = kept(here)
    contender = [Contender('Student', 's.pth', 'deep/s.py')]
    results = dict(results=[Path('a.json')], overwrite=True)
    for call in (
        lambda: export_student('s.pth', read_config('deep/s.py'), 's.pth', True),
        lambda: export_student('b.json', read_config('deep/s.py'), 's.pth', True),  # and s.py
        lambda: export_graph('s.onnx', None, out=Path('s.onnx'), overwrite=True),
        lambda: export_graph('s.pth', None, images=['s.onnx'], overwrite=True),
        lambda: convert('s.pth', Path('s.pth'), force=True),
        lambda: convert('s.pth', Path('base.py'), 'deep/s.py', force=True),
    ):
        with pytest.raises(FileExistsError, match='is read'):
            call()
    Path('a.json').write_text(json.dumps({'coco/bbox_mAP': 0.5}))
    with pytest.raises(FileExistsError, match=r'a\.json is read'):
        run_benchmark(contender, out=Path('a.json'), **results)
    Path('a.json').write_text('a.json')
    with pytest.raises(ValueError, match='no part may have its name'):
        write_parts(Path('a.json'), [('part', 0.5), ('rest', 0.5)], force=True)
    assert kept(here) == before


def test_nor_does_mmkd_pair_or_mmkd_new(here, capsys):
    Path('data/annotations').mkdir(parents=True)
    empty = json.dumps(dict(images=[], annotations=[], categories=[]))
    Path('data/annotations/train.json').write_text(empty)
    before = kept(here)
    words = ['pair', 'a.json', 'deep/s.py', '--data', 'data', '--force', '--out']
    for out in ('deep/s.py', 'base.py'):
        assert main([*words, out]) == 1
        assert f'{out} is read' in capsys.readouterr().err
    assert main(['new', 'data', '--out', 'data', '--force']) == 1
    assert 'data/annotations/train.json is read' in capsys.readouterr().err
    assert kept(here) == before
