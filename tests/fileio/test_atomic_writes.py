"""A file appears whole or not at all."""

import errno
import os
from pathlib import Path

import pytest
import torch

from mmkd.checkpoints.detector_checkpoint import save_checkpoint
from mmkd.fileio.atomic_writes import (
    PARTIAL,
    atomic_file,
    atomic_folder,
    open_atomic,
    remove_partial,
    write_atomic,
)
from tests.tiny import ROOT


def full(*args):
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_full_disk_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / 'model.pth'
    save_checkpoint(dict(a=torch.ones(2)), path)
    monkeypatch.setattr(os, step, full)
    said = r'written whole.*model\.pth.* MB\).*No space left on device, with .* MB free.*--resume'
    with pytest.raises(OSError, match=said) as raised:
        save_checkpoint(dict(a=torch.zeros(2)), path)
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert torch.equal(torch.load(path)['a'], torch.ones(2))
    assert os.listdir(tmp_path) == ['model.pth']


def test_an_interrupt_leaves_what_was_there(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'fsync', interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / 'file', b'data')
    assert os.listdir(tmp_path) == []


def test_links_and_devices_are_written_through(tmp_path):
    target, link = tmp_path / 'target', tmp_path / 'link'
    link.symlink_to(target)
    write_atomic(link, b'data')
    assert link.is_symlink() and target.read_bytes() == b'data'
    write_atomic('/dev/null', b'data')
    assert not os.path.isfile('/dev/null')


def test_text_reaches_the_file_at_the_end(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with open_atomic(path, 'w') as file:
        file.write('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'


def test_what_a_killed_writer_left_is_removed(tmp_path):
    for name in (f'.model.pth.0{PARTIAL}', '.hidden', f'mine{PARTIAL}'):
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['.hidden', f'mine{PARTIAL}']


def test_a_file_that_fails_its_check_takes_no_place(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    with pytest.raises(ValueError, match='damaged'), atomic_file(path) as file:
        file.write(b'new')
        file.flush()
        assert Path(file.name).read_bytes() == b'new' and path.read_bytes() == b'old'
        raise ValueError('damaged')
    assert os.listdir(tmp_path) == ['file'] and path.read_bytes() == b'old'


def test_of_what_may_still_be_written_nothing_is_removed(tmp_path):
    old, young = (tmp_path / f'.{name}{PARTIAL}' for name in ('old', 'young'))
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    remove_partial(tmp_path, older_than=3600)
    assert os.listdir(tmp_path) == [young.name]


def test_nothing_else_puts_files_in_their_place():
    for path in (ROOT / 'mmkd').rglob('*.py'):
        if path.name != 'atomic_writes.py':
            assert 'os.replace' not in path.read_text(), path


@pytest.mark.parametrize('there', [False, True])
def test_a_folder_takes_its_place_filled_or_not_at_all(tmp_path, there):
    path = tmp_path / 'below/digits'
    if there:
        path.mkdir(parents=True)
        (path / 'old').touch()
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as new:
        (new / 'half').touch()
        raise KeyboardInterrupt
    assert path.exists() is there and not list(path.glob('half'))
    with atomic_folder(path) as new:
        (new / 'whole').touch()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*')] == [
        'below',
        'below/digits',
        'below/digits/whole',
    ]
