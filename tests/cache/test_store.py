"""The store: slots that are whole or not there."""

import pickle

import numpy as np
import pytest

from mmkd.cache import store
from mmkd.cache.store import Store, read_index, write_index


@pytest.fixture
def filled(tmp_path, monkeypatch):
    monkeypatch.setattr(store, '_FILE_BYTES', 300)  # two slots of 108 bytes in a file
    made = Store(tmp_path, 100, 5, key='mine')
    for slot in (0, 1, 3, 4):
        made.write(slot, 7 * slot, np.full(100, slot, np.uint8))
    return made


def test_records_are_read_at_random_and_gaps_are_found(filled):
    fingerprint, record = filled.read(3)
    assert fingerprint == 21 and record.tolist() == [3] * 100
    assert filled.read(2) is None and filled.missing() == [2]
    assert len(list(filled.folder.glob('views_*.bin'))) == 3


@pytest.mark.parametrize('place', [0, 4, 8, 107])
def test_a_changed_byte_is_found(filled, place):
    path = filled.folder / 'views_00000.bin'
    data = bytearray(path.read_bytes())
    data[108 + place] ^= 1
    path.write_bytes(data)
    assert filled.missing() == [1, 2]


def test_a_file_that_was_cut_or_lost_is_found(filled):
    path = filled.folder / 'views_00000.bin'
    path.write_bytes(path.read_bytes()[:150])
    (filled.folder / 'views_00002.bin').unlink()
    again = pickle.loads(pickle.dumps(filled))  # as in another process
    assert again.missing() == [1, 2, 4]


def test_records_of_another_cache_or_place_do_not_pass(filled):
    assert Store(filled.folder, 100, 5, key='other').missing() == [0, 1, 2, 3, 4]
    first, second = (filled.folder / f'views_0000{i}.bin' for i in (0, 1))
    first.write_bytes(second.read_bytes())
    assert filled.read(1) is None


def test_a_copy_for_a_worker_opens_its_own_files(filled):
    copy = pickle.loads(pickle.dumps(filled))
    filled.close()
    assert copy.read(4)[1].tolist() == [4] * 100


def test_an_index_of_another_kind_is_refused(tmp_path):
    write_index(tmp_path, dict(key={}, views=1))
    with pytest.raises(ValueError, match='but lacks complete, fields, seed'):
        read_index(tmp_path)
    for content in ('{', '[]'):
        (tmp_path / 'cache.json').write_text(content)
        with pytest.raises(ValueError, match=r'must be JSON that "mmkd cache" wrote'):
            read_index(tmp_path)
