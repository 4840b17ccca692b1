"""What a comparison says before it begins, and what it keeps of what it says."""

import io
import re
from logging import DEBUG, WARNING
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip('rich')

from mmengine.logging import print_log
from rich.console import Console
from rich.progress import Progress

from mmkd.compare import Comparison
from mmkd.compare.arms import Arm
from mmkd.compare.kept_console import KeptConsole
from mmkd.compare.pace import Pace, measure_pace
from mmkd.compare.plan import plan_of, timed
from mmkd.compare.report.tables import main_table
from mmkd.compare.run_comparison import _pace, _show, run_comparison
from tests.compare.test_verdict import judged
from tests.tiny import ROOT, write_coco

DIGITS = ROOT / 'configs/ssd_kd_r18_to_r18w8_digits.py'
PACE = Pace(student=0.1, teacher=0.2, taught=0.4, loading=0.01, images=1000, tested=100)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_says_what_it_will_do_how_long_it_takes_and_where_logs_lie(here):
    comparison = Comparison(DIGITS, Path('job'), [0, 1])
    steps = timed(comparison, comparison.steps(), PACE)
    told = plan_of(comparison, steps[2:], 2, at_once=2, is_timed=True)
    assert '6 trainings and 6 evaluations to be run, 2 steps done before; up to 2 at once' in told
    assert 'Teacher: trained here first; compared with the first baseline as soon as' in told
    assert 'Baseline, Distilled, Shuffled teacher; seeds 0, 1 each' in told
    assert 'job/logs/' in told and 'job/compare.log' in told and 'job/report.html' in told
    # Baselines: 5 epochs of 1000 images at 0.1 s, twice; the taught at 0.4 s; the rest is little.
    [whole, baseline, *taught] = map(int, re.findall(r'(\d+) min', told))
    assert 'by a step timed just now (one after the other: baseline' in told
    assert 17 <= baseline <= 21 and all(67 <= minutes <= 72 for minutes in taught)
    assert whole == pytest.approx((baseline + sum(taught)) / 2, abs=2)
    last = plan_of(comparison, steps[-2:], 1, at_once=2, is_timed=True)
    assert '1 training and 1 evaluation to be run, 1 step done before;' in last
    unknown = plan_of(comparison, comparison.steps(), 0, 2, is_timed=False)
    assert 'How long it takes shows once' in unknown and 'done' not in unknown
    nothing = plan_of(comparison, [], 14, 2, is_timed=False)
    assert nothing.startswith('All 14 steps are done') and 'About' not in nothing
    shorter = Comparison(DIGITS, Path('job'), [0], epochs=2)
    told = plan_of(shorter, shorter.steps(), 0, 2, is_timed=False)
    assert shorter.rescheduled and '\n'.join(shorter.rescheduled) in told


def test_ctrl_c_while_the_data_are_checked(here):
    def interrupt():
        raise KeyboardInterrupt

    comparison = SimpleNamespace(work_dir=Path('job'), check_data=interrupt)
    assert run_comparison(comparison, 'Title', ['mmkd']) == 130
    assert 'Run the same command to go on' in Path('job/compare.log').read_text()


def test_what_the_checks_log_is_kept(here):
    def warn():
        print_log('Get class `ResNet` from registry', 'current', DEBUG)
        print_log('1 image [1, 2] is left out', 'current', WARNING)
        raise KeyboardInterrupt

    comparison = SimpleNamespace(work_dir=Path('job'), check_data=warn)
    run_comparison(comparison, 'Title', ['mmkd'])
    print_log('a later line', 'current', WARNING)
    kept = Path('job/compare.log').read_text()
    assert kept.startswith('1 image [1, 2] is left out\n') and 'a later line' not in kept


def test_a_given_teacher_is_named(here):
    Path('weights.pth').touch()
    comparison = Comparison(DIGITS, Path('job'), [3], teacher_ckpt='weights.pth')
    told = plan_of(comparison, comparison.steps(), 0, 1, is_timed=False)
    assert 'Teacher: given, weights.pth' in told and 'seed 3 each' in told


def test_seconds_by_hand(here):
    config = Comparison(DIGITS, Path('job'), [0]).configs['kd']
    config.train_cfg.update(max_epochs=3, val_interval=1)
    config.train_dataloader.num_workers = 0
    # 8 s to start, 3 * 1000 steps of 0.4 s and loading, 3 validations of 100 images
    validation = 100 * (0.1 / 3 + 0.01)
    assert PACE.training(Arm.DISTILLED, config) == pytest.approx(8 + 3000 * 0.41 + 3 * validation)
    config.train_dataloader.num_workers = 2
    assert PACE.training(Arm.BASELINE, config) == pytest.approx(8 + 3000 * 0.1 + 3 * validation)
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=50, val_interval=100)
    batch = config.train_dataloader.batch_size
    assert PACE.training(Arm.TEACHER, config) == pytest.approx(8 + 50 * batch * 0.6)
    assert PACE.training(Arm.LONGER, config) == pytest.approx(8 + 50 * batch * 0.4)


def test_a_step_of_the_pair_is_timed(here):
    classes = Comparison(DIGITS, Path('job'), [0]).pair.train_dataloader.dataset.metainfo.classes
    for split, images in (('train', 5), ('val', 3)):
        write_coco(Path('data/digits'), split, images, classes, seed=images)
    comparison = Comparison(DIGITS, Path('job'), [0])
    pace = measure_pace(comparison.check_pair(), comparison.configs['kd'], threads=1)
    assert (pace.images, pace.tested) == (5, 3)
    assert min(pace.student, pace.taught, pace.teacher, pace.loading) > 0


def test_a_step_that_cannot_be_timed_stops_nothing(here):
    comparison = Comparison(DIGITS, Path('job'), [0])
    console = Console(record=True, width=200, file=io.StringIO())
    assert _pace(comparison, console, None, threads=1) is None  # there are no data
    assert 'No step could be timed: FileNotFoundError' in console.export_text()


def test_lines_are_kept_and_a_progress_bar_is_not(tmp_path, capsys):
    console = KeptConsole(tmp_path / 'job/compare.log')
    assert not (tmp_path / 'job').exists()
    with Progress(console=console) as bar:
        task = bar.add_task('Epoch', total=3)
        for _ in range(3):
            bar.update(task, advance=1, refresh=True)
        console.print('[red]one[/] line')
    console.print('and', 'another')
    assert (tmp_path / 'job/compare.log').read_text() == 'one line\nand another\n'
    assert 'one line' in capsys.readouterr().out
    KeptConsole(tmp_path / 'job/compare.log').print('of a later run')
    assert (tmp_path / 'job/compare.log').read_text().endswith('another\nof a later run\n')


@pytest.mark.parametrize('width', [30, 45, 60, 80, 200])
def test_a_narrow_terminal_cuts_nothing(width):
    rows = main_table(judged([0.05, 0.06], shuffled=-0.1))
    console = Console(width=width, record=True, file=io.StringIO())
    _show(console, rows)
    shown = console.export_text()
    assert '…' not in shown
    for row in rows[1:]:
        for cell in row[1:]:
            for word in cell.split():
                assert word in shown, 'numbers stay whole'
