"""A job of steps."""

import io
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip('rich')

from rich.console import Console

from mmkd.compare import other_work
from mmkd.compare.job import FolderInUse, StepFailed, python, run_steps, sole_user
from mmkd.compare.step import Step
from tests.processes import context, start

CONSOLE = Console(quiet=True)


def step(folder, name='one', code='', **changes) -> Step:
    """Appends a line to ``<name>.txt``, then runs ``code``."""
    out = folder / f'{name}.txt'
    command = python('-c', f'open({str(out)!r}, "a").write("x\\n")\n{code}')
    return Step(name, name.title(), command, outputs=[out], **changes)


def runs(folder, name='one') -> int:
    return len((folder / f'{name}.txt').read_text().splitlines())


@pytest.mark.parametrize('width', [60, 80])
def test_what_runs_is_told_whole_in_a_narrow_terminal(tmp_path, width):
    titles = ['Teacher, trained here: training', 'Baseline, seed 10: training']
    console = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
    steps = [
        replace(step(tmp_path, f'step{n}', 'import time; time.sleep(0.6)'), title=title)
        for n, title in enumerate(titles)
    ]
    run_steps(steps, tmp_path, console, workers=[None, None])
    shown = console.file.getvalue()
    assert '…' not in shown and 'ETA' in shown
    assert {'Teacher,', 'Baseline,', 'training'} <= set(shown.split())


def test_a_finished_step_is_skipped_until_an_input_changes(tmp_path):
    source = tmp_path / 'source'
    source.write_text('a')
    steps = [step(tmp_path, inputs=[source]), step(tmp_path, 'two')]
    run_steps(steps, tmp_path, CONSOLE)
    run_steps(steps, tmp_path, CONSOLE)
    assert (runs(tmp_path), runs(tmp_path, 'two')) == (1, 1)
    source.write_text('b')
    run_steps(steps, tmp_path, CONSOLE)
    assert (runs(tmp_path), runs(tmp_path, 'two')) == (2, 1)


def test_each_step_that_has_finished_is_told_now_or_before(tmp_path, monkeypatch):
    monkeypatch.setattr(other_work, '_EVERY', 0)
    monkeypatch.setattr(other_work, 'running_threads', lambda: [(1, 5)])
    steps, told = [step(tmp_path, name) for name in ('one', 'two')], []
    assert not any(one.is_done(tmp_path / 'logs') for one in steps)
    for _ in range(2):
        run_steps(steps, tmp_path, CONSOLE, finished=lambda one: told.append(one.name))
    assert told == ['one', 'two'] * 2
    assert all(one.is_done(tmp_path / 'logs') for one in steps)
    kept = json.loads((tmp_path / 'logs/one.load').read_text())
    assert (kept['own'], kept['others']) == (0, 5)


@pytest.mark.parametrize('change', [dict(settings='b'), dict(code='pass')])
def test_other_settings_or_another_command_run_it_again(tmp_path, change):
    run_steps([step(tmp_path)], tmp_path, CONSOLE)
    run_steps([step(tmp_path, **change)], tmp_path, CONSOLE)
    assert runs(tmp_path) == 2


def test_a_project_that_was_moved_runs_nothing_again(tmp_path):
    def fingerprint(folder: str, config='kd.py') -> str:
        command = [f'{folder}/.venv/bin/python', '-m', 'mmkd_cli', 'train', f'{folder}/{config}']
        return Step('one', 'One', command, outputs=[]).fingerprint()

    assert fingerprint('/home/a') == fingerprint('/mnt/b')
    assert fingerprint('/home/a') != fingerprint('/home/a', 'baseline.py')


def test_a_lost_output_is_made_again(tmp_path):
    run_steps([step(tmp_path)], tmp_path, CONSOLE)
    (tmp_path / 'one.txt').unlink()
    run_steps([step(tmp_path)], tmp_path, CONSOLE)
    assert runs(tmp_path) == 1


def test_a_failure_shows_the_end_of_the_log_and_is_tried_again(tmp_path):
    flag = tmp_path / 'mended'
    code = f'import os\nprint("first line"); assert os.path.exists({str(flag)!r}), "not mended"'
    steps = [step(tmp_path, code=code), step(tmp_path, 'two')]
    with pytest.raises(StepFailed, match=r'(?s)One ended with status 1.*one\.log.*not mended'):
        run_steps(steps, tmp_path, CONSOLE)
    assert not (tmp_path / 'two.txt').exists()
    flag.touch()
    run_steps(steps, tmp_path, CONSOLE)
    assert runs(tmp_path, 'two') == 1


def test_a_missing_output_is_a_failure(tmp_path):
    lacking = Step('one', 'One', python('-c', ''), outputs=[tmp_path / 'model.pth'])
    with pytest.raises(StepFailed, match=r'did not write .*model\.pth'):
        run_steps([lacking], tmp_path, CONSOLE)


def test_an_interrupt_ends_the_command_and_the_step_runs_again(tmp_path, monkeypatch):
    pid = tmp_path / 'pid'
    code = (
        f'import os, time\nopen({str(pid)!r}, "w").write(str(os.getpid()))\n'
        'print("Epoch(train)  [1][1/2]", flush=True)\ntime.sleep(60)'
    )

    def interrupt(self, line):
        raise KeyboardInterrupt

    monkeypatch.setattr(Step, 'progress', interrupt)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_steps([step(tmp_path, code=code)], tmp_path, CONSOLE)
    assert time.monotonic() - begin < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    monkeypatch.undo()
    run_steps([step(tmp_path)], tmp_path, CONSOLE)
    assert runs(tmp_path) == 2


def is_running(pid: int) -> bool:
    """Whether a process is there, and is none that has ended and was not asked how."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux ends a command with its job')
def test_a_job_that_is_killed_leaves_no_command_behind(tmp_path):
    """Else the next start would train beside it, into the same folder."""
    pid = tmp_path / 'pid'
    code = (
        f'import os, time\nopen({str(pid)!r} + "_", "w").write(str(os.getpid()))\n'
        f'os.rename({str(pid)!r} + "_", {str(pid)!r})\ntime.sleep(60)'
    )
    job = start(run_steps, [step(tmp_path, code=code)], tmp_path)
    end = time.monotonic() + 50
    while not pid.exists() and time.monotonic() < end:
        time.sleep(0.05)
    command = int(pid.read_text())
    assert is_running(command)
    job.kill()
    job.join()
    end = time.monotonic() + 10
    while is_running(command) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(command)


def test_an_interrupted_step_resumes_but_not_from_what_another_left(tmp_path):
    state, seen = tmp_path / 'state', tmp_path / 'seen'

    def training(settings):
        code = (
            'import pathlib, sys\n'
            f'state = pathlib.Path({str(state)!r})\n'
            f'open({str(seen)!r}, "a").write(f"{{sys.argv[1:]}} {{state.exists()}};")\n'
            'state.touch()\nsys.exit(1)'
        )
        return step(tmp_path, code=code, settings=settings, resume=['--resume'], scratch=[state])

    for settings in ('a', 'a', 'b', 'b'):
        with pytest.raises(StepFailed):
            run_steps([training(settings)], tmp_path, CONSOLE)
    assert seen.read_text() == "[] False;['--resume'] True;[] False;['--resume'] True;"


def test_other_work_beside_the_first_part_of_a_step_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(other_work, '_EVERY', 0)
    found = []
    for settings, others in (('a', 4), ('a', 0), ('b', 0)):
        monkeypatch.setattr(other_work, 'running_threads', lambda others=others: [(1, others)])
        failing = step(tmp_path, code='import sys; sys.exit(1)', settings=settings)
        with pytest.raises(StepFailed):
            run_steps([failing], tmp_path, CONSOLE)
        found.append(json.loads((tmp_path / 'logs/one.load').read_text())['others'])
    first, resumed, another = found
    assert first == 4 and 0 < resumed < 4 and another == 0


def test_two_steps_run_at_once_and_a_third_waits_for_what_it_reads(tmp_path):
    # Each of the first two ends only when the other has begun.
    def meets(name, other):
        code = (
            'import os, time\nend = time.monotonic() + 50\n'
            f'while not os.path.exists({str(tmp_path / other)!r} + ".txt"):\n'
            '    assert time.monotonic() < end\n    time.sleep(0.05)'
        )
        return step(tmp_path, name, code)

    ready = tmp_path / 'b.txt'
    reader = step(
        tmp_path, 'c', f'assert len(open({str(ready)!r}).readlines()) == 1', inputs=[ready]
    )
    run_steps([meets('a', 'b'), meets('b', 'a'), reader], tmp_path, CONSOLE, workers=[None, None])
    assert runs(tmp_path, 'c') == 1


def test_steps_at_once_have_workers_of_their_own_and_a_free_one_is_used_again(tmp_path):
    def which(name):
        out = tmp_path / f'{name}.seen'
        code = f'import os, time\nopen({str(out)!r}, "w").write(os.environ["CUDA_VISIBLE_DEVICES"])'
        return step(tmp_path, name, code + '\ntime.sleep(1)')

    gpus = [{**os.environ, 'CUDA_VISIBLE_DEVICES': gpu} for gpu in '01']
    run_steps([which(name) for name in 'abc'], tmp_path, CONSOLE, workers=gpus)
    seen = [(tmp_path / f'{name}.seen').read_text() for name in 'abc']
    assert seen[:2] == ['0', '1'] and seen[2] in '01'


def test_a_failure_ends_what_runs_beside_it(tmp_path):
    pid = tmp_path / 'pid'
    long = step(
        tmp_path,
        'long',
        f'import os, time\nopen({str(pid)!r}, "w").write(str(os.getpid()))\ntime.sleep(60)',
    )
    ready = f'os.path.exists({str(pid)!r}) and os.path.getsize({str(pid)!r})'
    wait = f'import os, time\nwhile not ({ready}): time.sleep(0.05)\n1 / 0'
    with pytest.raises(StepFailed, match='ZeroDivisionError'):
        run_steps([long, step(tmp_path, 'bad', wait)], tmp_path, CONSOLE, workers=[None, None])
    for _ in range(100):
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail('the other command still runs')


@pytest.mark.parametrize(
    'line, done',
    [
        ('Epoch(train) [1][ 50/150]  lr: 3e-3', 1 / 6),
        ('... - INFO - Epoch(train)  [2][150/150]  lr: 1e-5  eta: 0:00:00', 1.0),
        ('Epoch(test) [ 3/10]    eta: 0:00:01', 0.15),
        ('Iter(train) [ 500/1000]  lr: 1e-3', 0.25),
        ('Iter(val) [10/10]    coco/bbox_mAP: 0.5', None),
        ('Epoch(val) [1][10/10]    coco/bbox_mAP: 0.5', None),
        ('loading annotations into memory...', None),
    ],
)
def test_progress_from_a_log_line(line, done):
    assert Step('s', 'S', [], [], epochs=2).progress(line) == pytest.approx(done)


def hold(folder: Path, held, ends) -> None:
    with sole_user(folder):
        held.set()
        ends.wait(60)


def test_a_folder_has_one_job_at_a_time(tmp_path):
    held, ends = context().Event(), context().Event()
    other = start(hold, tmp_path, held, ends)
    try:
        assert held.wait(60)
        refusal = pytest.raises(FolderInUse, match=r'one job at a time.*another --work-dir')
        with refusal, sole_user(tmp_path):
            pass
    finally:
        other.kill()
        other.join()
    with sole_user(tmp_path):  # however the other one ended
        pass
