"""``lean_teacher='auto'``: chosen where a run begins, kept, and nothing else is touched."""

import copy
import json
import time

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from torch import nn

from mmkd.algorithms import teacher_forms
from mmkd.algorithms.teacher_forms import Form, choose_form, take_form
from mmkd.algorithms.term_values import reduced
from mmkd.hooks import lean_teacher_hook
from mmkd.runner.choose_teacher import choose_teacher
from mmkd.runner.exact_runner import ExactRunner
from mmkd.teachers.lean_teacher import EXACT, LeanTeacher
from tests.runner.test_resume import CLASSES, config
from tests.test_methods import PAIRS, batch_of
from tests.test_methods import build as pair_of
from tests.tiny import (
    fast_batch,
    raw_batch,
    tiny_pair,
    tiny_runner,
    tiny_ssd_with_adapters,
    tiny_yolov5_pair,
    write_coco,
)

pytestmark = pytest.mark.usefixtures('mmdet_scope')


@pytest.fixture(autouse=True)
def on(monkeypatch):
    monkeypatch.delenv('MMKD_LEAN_TEACHER')


class Keep(Hook):
    """Keeps the batches and random numbers of each step."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        losses = {key: value.item() for key, value in outputs.items()}
        self.seen.append((losses, torch.rand(2).tolist(), data_batch['inputs'][0].sum().item()))


def build(lean, pair=tiny_pair, **changes):
    torch.manual_seed(0)
    return MODELS.build({**pair(), 'lean_teacher': lean, **changes}).train()


def train(work_dir, lean, pair=tiny_pair, steps=2, **changes):
    keep = Keep()
    runner = tiny_runner(
        build(lean, pair),
        [raw_batch(1, seed=seed) for seed in range(steps)],
        work_dir,
        runner=ExactRunner,
        custom_hooks=[keep],
        **changes,
    )
    runner.train()
    return runner, keep.seen


def teaching_as_slow(monkeypatch, **seconds):
    """Let the forms take given times."""

    def time(self, forms, models):
        for form in [form for form in forms if not form.note]:
            form.seconds = seconds.get(form.name.replace('-', '_'), 9.0)

    monkeypatch.setattr(teacher_forms._Trial, '_time', time)


def test_a_run_that_chooses_the_exact_teacher_is_that_with_the_exact_one(tmp_path, monkeypatch):
    teaching_as_slow(monkeypatch, exact=1.0)
    chosen, seen = train(tmp_path / 'auto', 'auto', tiny_ssd_with_adapters)
    exact, expected = train(tmp_path / 'exact', None, tiny_ssd_with_adapters)
    assert chosen.model.teacher_source.lean == LeanTeacher(**EXACT)
    assert seen == expected
    for key, value in exact.model.state_dict().items():
        assert torch.equal(chosen.model.state_dict()[key], value), key


def test_the_fastest_within_1_percent_is_taken_kept_and_not_chosen_anew(
    tmp_path, monkeypatch, logged
):
    # As it is if reduced precision went too far.
    teaching_as_slow(monkeypatch, exact=3.0, channels_last=2.0, bfloat16=1.0)
    measure = teacher_forms._Trial._try

    def far(self, form):
        model = measure(self, form)
        form.deviation += 0.02 * (form.name == 'bfloat16')
        return model

    monkeypatch.setattr(teacher_forms._Trial, '_try', far)
    runner, _ = train(tmp_path, 'auto')
    assert runner.model.teacher_source.lean == LeanTeacher()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in runner.model.teacher.modules())
    for line in ('exact               3000.0  0', 'channels-last', 'more than 0.01', 'chosen'):
        assert line in logged()
    assert 'compiled' in logged() and 'not tried: the teacher runs for 4 s in all' in logged()
    path = tmp_path / 'epoch_1.pth'
    assert torch.load(path, weights_only=False)['lean_teacher'] == vars(LeanTeacher())

    monkeypatch.setattr(lean_teacher_hook, 'choose_form', None)  # it is not called
    resumed = dict(resume=True, load_from=str(path), train_cfg=dict(by_epoch=True, max_epochs=2))
    again, _ = train(tmp_path, 'auto', **resumed)
    assert again.iter == 4 and again.model.teacher_source.lean == LeanTeacher()
    monkeypatch.setattr(LeanTeacher, 'prepare', refuse)
    torch.save({**torch.load(path, weights_only=False)}, path)
    fallen, _ = train(tmp_path / 'other', 'auto', **resumed)
    assert fallen.model.teacher_source.lean == LeanTeacher(**EXACT)
    assert 'which does not run here (RuntimeError: no such op)' in logged()


def in_a_long_run(monkeypatch, compile_):
    """As if there were a compiler, and the teacher had much to do."""
    monkeypatch.setattr(teacher_forms, '_WORTH', 0.0)
    monkeypatch.setattr(teacher_forms.shutil, 'which', lambda name: name)
    monkeypatch.setattr(torch, 'compile', compile_)
    teaching_as_slow(monkeypatch, exact=3.0, channels_last=2.0, compiled=1.0)


def test_a_compiled_teacher_is_taken_where_it_is_the_fastest(tmp_path, monkeypatch, logged):
    calls = []

    def compile_(function):
        def compiled(*args):
            calls.append(function.__self__)
            return function(*args)

        return compiled

    in_a_long_run(monkeypatch, compile_)
    runner, _ = train(tmp_path, 'auto')
    assert runner.model.teacher_source.lean == LeanTeacher(compile=True)
    assert calls[-2:] == [runner.model.teacher.backbone, runner.model.teacher.neck]
    calls.clear()
    resumed = dict(
        resume=True,
        load_from=str(tmp_path / 'epoch_1.pth'),
        train_cfg=dict(by_epoch=True, max_epochs=2),
    )
    again, _ = train(tmp_path, 'auto', **resumed)
    assert again.iter == 4 and len(calls) >= 4, 'the resumed run compiles, too'


@pytest.mark.parametrize('slow', [False, True])
def test_what_does_not_compile_or_not_in_time_is_left_out(monkeypatch, slow):
    def compile_(function):
        if not slow:
            raise RuntimeError('no backend')
        return lambda *args: time.sleep(60)

    in_a_long_run(monkeypatch, compile_)
    if slow:
        monkeypatch.setattr(teacher_forms, '_PATIENCE', 0.05)
    pair = build('auto')
    form, table = choose_form(pair, raw_batch(), 100)
    assert form == vars(LeanTeacher())
    assert ('TimeoutError: it took more than' if slow else 'RuntimeError: no backend') in table


def refuse(self, model, tapped):
    if self != LeanTeacher(**EXACT):
        raise RuntimeError('no such op')


def test_forms_that_do_not_run_are_left_out(monkeypatch):
    pair = build('auto')
    monkeypatch.setattr(LeanTeacher, 'prepare', refuse)
    form, table = choose_form(pair, raw_batch(), 100)
    assert form == vars(LeanTeacher(**EXACT)) and table.count('RuntimeError: no such op') == 2


def test_a_batch_that_teaches_nothing_is_no_measure():
    distiller = tiny_pair()['distiller']
    distiller['distill_losses'].pop('loss_bounded')
    distiller['loss_forward_mappings'].pop('loss_bounded')
    pair = build('auto', distiller=distiller)
    assert choose_form(pair, raw_batch(boxes=0), 1) == (None, '')


def rows_pair():
    """Recorders that hold the teacher's model, not a hook of it."""
    rows = dict(rows=dict(type='Predictions'))
    mapping = {
        f'preds_{side}': dict(recorder='rows', from_student=side == 'S') for side in ('S', 'T')
    }
    distiller = dict(
        type='ConfigurableDistiller',
        student_recorders=rows,
        teacher_recorders=rows,
        distill_losses=dict(loss_rows=dict(type='PredictionRows')),
        loss_forward_mappings=dict(loss_rows=mapping),
    )
    return tiny_pair(distiller=distiller)


@pytest.mark.parametrize('recipe', [tiny_pair, rows_pair])
def test_each_recorder_is_fed_by_the_form(recipe):
    """Else its terms would not differ at all from those of the exact teacher."""
    pair = build('auto', recipe)
    with teacher_forms._undisturbed(pair), torch.no_grad():
        trial = teacher_forms._Trial(pair, raw_batch())
        form = Form('bfloat16', LeanTeacher(dtype='bfloat16'))
        assert trial._try(form) is not None and 0 < form.deviation < 0.1, form


# Recorders that hold parts of the teacher, or what is inside its head.
METHODS = [case for case in PAIRS if case[0] in ('crosskd', 'ld', 'cross_head', 'matched_queries')]


@pytest.mark.parametrize('case', METHODS, ids=lambda case: '-'.join(case[:3]))
def test_what_losses_of_methods_read_comes_from_the_form(case):
    pair = pair_of(*case)
    pair.balance = None  # it counts
    with teacher_forms._undisturbed(pair), torch.no_grad():
        trial = teacher_forms._Trial(pair, batch_of(case[1]))
        form = Form('bfloat16', LeanTeacher(dtype='bfloat16'))
        assert trial._try(form) is not None and 0 < form.deviation < 0.5, form


@pytest.mark.parametrize('batch', [fast_batch(raw_batch(1)), fast_batch(raw_batch(2, boxes=0))])
def test_a_batch_of_mmyolo_is_measured(batch):
    pytest.importorskip('mmyolo')
    pair = build('auto', tiny_yolov5_pair)
    form, table = choose_form(pair, batch, 100)
    assert table.count('chosen') == 1 and LeanTeacher(**form).compile is False


def test_a_taken_form_feeds_the_recorders():
    pair, other = build(None), build(dict(dtype='bfloat16'))
    take_form(pair, dict(dtype='bfloat16'))
    found, expected = (
        model(**model.data_preprocessor(raw_batch(), True), mode='loss') for model in (pair, other)
    )
    for key, value in expected.items():
        if 'loss' in key:
            assert torch.equal(reduced(found[key]), reduced(value)), key
    assert copy.deepcopy(pair).teacher is pair.teacher


def test_a_file_of_a_form_and_what_is_none(tmp_path):
    path = tmp_path / 'form.json'
    path.write_text(json.dumps(vars(LeanTeacher(dtype='bfloat16'))))
    assert build(str(path)).teacher_source.lean == LeanTeacher(dtype='bfloat16')
    with pytest.raises(FileNotFoundError, match=r'there is no .*none\.json'):
        LeanTeacher.of(str(tmp_path / 'none.json'))
    with pytest.raises(ValueError, match=r"'auto', arguments of LeanTeacher or None.*'fast'"):
        LeanTeacher.of('fast')


def test_a_cache_leaves_nothing_to_choose_and_the_environment_forbids_it(monkeypatch):
    assert build('auto').lean_teacher_is_open
    monkeypatch.setenv('MMKD_LEAN_TEACHER', 'exact')
    assert not build('auto').lean_teacher_is_open


def test_a_comparison_keeps_the_choice_in_a_file(tmp_path, monkeypatch):
    teaching_as_slow(monkeypatch, channels_last=1.0)
    write_coco(tmp_path / 'data', 'train', 2, CLASSES)
    cfg = config(str(tmp_path / 'data'), str(tmp_path / 'run'))
    cfg.model.architecture.backbone.type = 'ResNet'
    cfg.model.lean_teacher = str(tmp_path / 'lean_teacher.json')
    cfg.dump(tmp_path / 'pair.py')
    choose_teacher(str(tmp_path / 'pair.py'), tmp_path / 'lean_teacher.json', 1)
    assert LeanTeacher.of(cfg.model.lean_teacher) == LeanTeacher()
