"""A file appears whole or not at all."""

import errno
import os

import pytest
import torch

from mmkd.checkpoints.detector_checkpoint import save_whole
from mmkd.fileio.atomic_writes import PARTIAL, open_whole, remove_partial, write_whole


def full(*args):
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_full_disk_leaves_what_was_there(tmp_path, monkeypatch, step):
    path = tmp_path / 'model.pth'
    save_whole(dict(a=torch.ones(2)), path)
    monkeypatch.setattr(os, step, full)
    said = r'written whole.*model\.pth.* MB\).*No space left on device, with .* MB free.*--resume'
    with pytest.raises(OSError, match=said) as raised:
        save_whole(dict(a=torch.zeros(2)), path)
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert torch.equal(torch.load(path)['a'], torch.ones(2))
    assert os.listdir(tmp_path) == ['model.pth']


def test_an_interrupt_leaves_what_was_there(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'fsync', interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / 'file', b'data')
    assert os.listdir(tmp_path) == []


def test_links_and_devices_are_written_through(tmp_path):
    target, link = tmp_path / 'target', tmp_path / 'link'
    link.symlink_to(target)
    write_whole(link, b'data')
    assert link.is_symlink() and target.read_bytes() == b'data'
    write_whole('/dev/null', b'data')
    assert not os.path.isfile('/dev/null')


def test_text_reaches_the_file_at_the_end(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with open_whole(path, 'w') as file:
        file.write('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'


def test_what_a_killed_writer_left_is_removed(tmp_path):
    for name in (f'.model.pth.0{PARTIAL}', '.hidden', f'mine{PARTIAL}'):
        (tmp_path / name).touch()
    remove_partial(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['.hidden', f'mine{PARTIAL}']
