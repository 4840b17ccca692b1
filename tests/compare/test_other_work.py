"""Whether other work ran beside a step."""

import json
import subprocess
import sys
import time

import pytest

from mmkd.compare import other_work
from mmkd.compare.other_work import OtherWork, read_load, running_threads, was_disturbed


def test_a_process_that_runs_is_seen():
    """Python in a loop, in a session of its own."""
    command = [sys.executable, '-c', 'while True: pass']
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            looks = (
                dict(running_threads()).get(process.pid) or time.sleep(0.05) for _ in range(200)
            )
            assert next(filter(None, looks)) == 1
        finally:
            process.kill()


def test_own_threads_and_others_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(other_work, '_EVERY', 0)
    monkeypatch.setattr(other_work, 'running_threads', lambda: [(7, 2), (8, 1), (9, 3)])
    load = OtherWork()
    for sessions in ([7], [7, 8], [7]):
        load.sample(sessions)
    assert (load.own, load.others) == ([2, 3, 2], [4, 3, 4])
    load.write(tmp_path / 'a.load', first=1, cores=2)
    assert json.loads((tmp_path / 'a.load').read_text()) == dict(
        own=2.5, others=3.5, cores=2, samples=2
    )
    before = read_load(tmp_path / 'a.load')
    load.write(tmp_path / 'a.load', first=2, cores=2, before=before)
    assert read_load(tmp_path / 'a.load') == dict(
        own=pytest.approx(7 / 3), others=pytest.approx(11 / 3), cores=2, samples=3
    ), 'of both parts of an interrupted step'
    load.write(tmp_path / 'b.load', first=3, cores=2)
    assert not (tmp_path / 'b.load').exists(), 'too short to be looked at'


def test_it_looks_now_and_then(monkeypatch):
    monkeypatch.setattr(other_work, 'running_threads', lambda: [(1, 1)])
    load = OtherWork()
    for _ in range(5):
        load.sample([1])
    assert load.own == [1]


@pytest.mark.parametrize(
    'own, others, cores, disturbed',
    [
        (2.0, 0.1, 2, False),  # a monitor
        (6.0, 0.2, 2, False),  # its own loaders are more than the cores
        (2.0, 1.0, 2, True),
        (2.0, 5.0, 16, False),  # there is room for both
    ],
)
def test_others_disturb_where_cores_are_short(tmp_path, own, others, cores, disturbed):
    (tmp_path / 'x.load').write_text(json.dumps(dict(own=own, others=others, cores=cores)))
    assert was_disturbed(tmp_path / 'x.load') is disturbed
    assert not was_disturbed(tmp_path / 'none.load')
