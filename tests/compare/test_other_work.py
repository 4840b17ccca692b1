"""Whether other work ran beside a step."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmkd.compare import other_work
from mmkd.compare.other_work import (
    OthersMeanwhile,
    OtherWork,
    read_load,
    running_threads,
    was_disturbed,
)
from mmkd.compare.report import cost_section


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


@pytest.mark.parametrize(
    ('seconds', 'cores', 'threads', 'crowded'),
    [
        ((5.0, 9.0), 2, 2, True),  # two cores of others
        ((5.0, 9.0), 2, 1, True),
        ((5.0, 9.0), 8, 4, False),  # there is room
        ((5.0, 9.0), 8, 8, True),
        ((5.0, 5.6), 2, 2, False),  # a shell and a monitor
        ((None, None), 2, 2, False),  # not Linux
    ],
)
def test_others_crowd_what_measures_itself(monkeypatch, seconds, cores, threads, crowded):
    looks, clock = iter(seconds), iter([10.0, 12.0])
    monkeypatch.setattr(other_work, '_seconds_of_others', lambda: next(looks))
    monkeypatch.setattr(other_work.time, 'monotonic', lambda: next(clock))
    monkeypatch.setattr(other_work.os, 'cpu_count', lambda: cores)
    assert OthersMeanwhile().crowd(threads) is crowded


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells')
def test_seconds_of_others_are_not_ones_own():
    before, own = other_work._seconds_of_others(), time.process_time()
    with subprocess.Popen([sys.executable, '-c', 'while True: pass']) as process:
        try:
            while other_work._seconds_of_others() - before < 0.2:
                time.sleep(0.02)
        finally:
            process.kill()
    assert time.process_time() - own < 0.2


@pytest.mark.parametrize('crowd', [False, True])
def test_a_report_says_that_latencies_are_not_sure(monkeypatch, crowd):
    monkeypatch.setattr(cost_section, 'measure_costs', lambda *args, **options: [])
    monkeypatch.setattr(
        cost_section, 'write_costs', lambda path, costs: [path, path.with_suffix('.png')]
    )
    monkeypatch.setattr(cost_section, 'cost_table', lambda costs: [[''], ['input', '8 x 8']])
    monkeypatch.setattr(OthersMeanwhile, 'crowd', lambda self, threads: crowd)
    comparison = SimpleNamespace(detectors=[], work_dir=Path('job'))
    costs = cost_section.look_at_costs(comparison, SimpleNamespace())
    told = 'Other work ran beside while latencies were measured'
    assert (told in costs.fault, told in costs.pictures['costs.png']) == (crowd, crowd)
    assert costs.pictures['costs.png'] == costs.pictures['costs.png'].strip()
