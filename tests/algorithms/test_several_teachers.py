"""Pairs with several teachers, and with one that sees another image size."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mmkd.cache import fill_cache
from mmkd.doctor import models
from mmkd.doctor.report import Section
from mmkd.teachers.scaled_view import scaled_view
from tests.cache.conftest import config_of, dataset, root  # noqa: F401
from tests.cache.test_cache import batches, build, train
from tests.tiny import method, raw_batch, tiny_pair, tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')

CLASSES = ('ant', 'bee', 'cat')
METHODS = ['prediction_rows', 'soft_ground_truth', 'score_imitation', 'ssd_chen2017']


@pytest.fixture(scope='module')
def entry(tmp_path_factory):
    """A teacher whose file names its classes."""
    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    model = tiny_ssd(width=16, std=1.0)
    torch.manual_seed(0)
    meta = dict(dataset_meta=dict(classes=CLASSES))
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.save(dict(state_dict=MODELS.build(model).state_dict(), meta=meta), path)
    return dict(model=model, ckpt=str(path))


def pair_of(recipe, teacher, **changes):
    recipe = method(recipe).to_dict()['distiller'] if isinstance(recipe, str) else recipe
    changes = dict(
        dict(classes=CLASSES, student_loss_weights=None, teacher=teacher, distiller=recipe),
        **changes,
    )
    torch.manual_seed(1)
    return MODELS.build(ConfigDict(tiny_pair(**changes)))


def terms(pair, of=None):
    """Distillation terms of a batch; with ``of``, by the student and adapters of that pair."""
    if of is not None:
        pair.student.load_state_dict(of.student.state_dict())
        for name, connector in pair.distiller.connectors.items():
            own = next(
                (c for key, c in of.distiller.connectors.items() if name.startswith(key)), None
            )
            connector.load_state_dict(own.state_dict() if own is not None else {})
    pair.train()
    for module in pair.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    data = pair.data_preprocessor(raw_batch(), True)
    found = pair.loss(data['inputs'], data['data_samples'])
    return {key: float(v) for key, v in found.items() if key.startswith('distill.')}


@pytest.mark.parametrize('recipe', METHODS)
def test_a_list_of_one_is_the_plain_form(recipe, entry):
    plain = pair_of(recipe, entry['model'], teacher_ckpt=entry['ckpt'])
    listed = pair_of(recipe, [dict(entry, name='big', weight=3.0)])
    for key, value in plain.state_dict().items():
        assert torch.equal(listed.state_dict()[key], value)
    assert list(listed.teachers) == ['teacher']
    assert terms(plain) == terms(listed)


@pytest.mark.parametrize('recipe', METHODS)
def test_two_teachers_that_are_one_give_the_values_of_one(recipe, entry):
    one = pair_of(recipe, [entry])
    two = pair_of(recipe, [dict(entry, weight=3.0, name='big'), dict(entry, name='small')])
    expected, found = terms(one), terms(two, one)
    for loss in one.distiller.distill_losses:
        parts = [v for key, v in found.items() if key.startswith(f'distill.{loss}')]
        assert sum(parts) == pytest.approx(expected[f'distill.{loss}'], rel=1e-5)
        if len(parts) == 2:
            big, small = (found[f'distill.{loss}_{name}'] for name in ('big', 'small'))
            assert big == pytest.approx(3 * small, rel=1e-5)
    names = set(two.distiller.teacher_recorders.recorders)
    assert any(name.endswith('_big') for name in names)


def test_teachers_of_classes_of_their_own(entry):
    one = pair_of('prediction_rows', [entry])
    owners = [dict(entry, name='x', classes=['ant']), dict(entry, name='y', classes=['bee', 'cat'])]
    two = pair_of('prediction_rows', owners)
    found = terms(two, one)
    assert {'distill.loss_rows_x', 'distill.loss_rows_y', 'distill.rows_x_cls'} <= set(found)
    assert found['distill.rows_x_weight'] == found['distill.rows_y_weight'] == 1
    seen = {}
    for name in ('x', 'y'):
        loss = two.distiller.distill_losses[f'loss_rows_{name}']
        loss.register_forward_hook(
            lambda _, args, fed, out, name=name: seen.update({name: fed}), with_kwargs=True
        )
    whole = one.distiller.distill_losses['loss_rows']
    whole.register_forward_hook(lambda _, args, fed, out: seen.update(one=fed), with_kwargs=True)
    terms(two, one), terms(one)
    for side in ('preds_S', 'preds_T'):  # columns of what one teacher teaches, as they are
        for name, columns in (('x', [0]), ('y', [1, 2])):
            expected = seen['one'][side].log_prob[..., columns]
            assert torch.equal(seen[name][side].log_prob, expected)


def test_detections_of_owners_are_one_ground_truth(entry):
    one = pair_of('soft_ground_truth', [entry])
    two = pair_of(
        'soft_ground_truth',
        [dict(entry, name='x', classes=['ant']), dict(entry, name='y', classes=['bee', 'cat'])],
    )
    assert list(two.distiller.distill_losses) == ['loss_taught']
    assert terms(two, one) == pytest.approx(terms(one), rel=1e-5)
    some = pair_of(
        'soft_ground_truth',
        [dict(entry, name='x', classes=['ant']), dict(entry, name='y', classes=['bee'])],
    )
    assert list(some.distiller.connectors) == ['loss_taught_preds_S']
    assert terms(some)['distill.loss_taught'] > 0


def test_teachers_of_other_classes_share_what_each_knows(entry, tmp_path):
    saved = torch.load(entry['ckpt'], weights_only=False)
    meta = dict(dataset_meta=dict(classes=('x', 'cat', 'ant')))
    torch.save(dict(saved, meta=meta), tmp_path / 'other.pth')
    other = dict(entry, ckpt=str(tmp_path / 'other.pth'))
    pair = pair_of('prediction_rows', [entry, other])
    assert [m and m.untaught for m in pair.class_maps.values()] == [None, ['bee']]
    assert pair.class_names['teacher2'].teacher == ('x', 'cat', 'ant')
    assert terms(pair)['distill.loss_rows'] > 0
    pair = pair_of('prediction_rows', [other, dict(other, name='again')])
    one = pair_of('prediction_rows', [other])  # nobody knows the bee
    assert terms(pair, one)['distill.loss_rows'] == pytest.approx(
        terms(one)['distill.loss_rows'], rel=1e-5
    )


def test_balance_is_shared_as_the_weights_say(entry):
    balance = dict(shares=dict(loss_feature=0.5), interval=1, momentum=0.0)
    one = pair_of('score_imitation', [entry], balance=balance)
    two = pair_of('score_imitation', [entry, entry], balance=balance)
    assert list(two.balance.shares) == ['loss_feature_teacher1', 'loss_feature_teacher2']
    expected, found = terms(one), terms(two, one)
    parts = [found[f'distill.loss_feature_teacher{i}'] for i in (1, 2)]
    assert sum(parts) == pytest.approx(expected['distill.loss_feature'], rel=1e-4)


def test_teachers_stay_out_of_the_pair(entry):
    pair = pair_of('prediction_rows', [entry, dict(entry, name='big')])
    saved = pair.state_dict()
    assert sum(v.numel() for v in saved.values()) == sum(
        v.numel() for v in pair.student.state_dict().values()
    )
    copied = copy.deepcopy(pair)
    assert copied.teacher is pair.teacher and list(copied.teachers) == ['teacher1', 'big']
    assert not any(p.requires_grad for p in pair.teacher.parameters())
    pair.train()
    assert not any(m.training for m in pair.teacher.modules())
    assert terms(copied)['distill.loss_rows'] > 0
    assert not pair.lean_teacher_is_open
    other = pair_of('prediction_rows', [entry, entry], lean_teacher='auto')
    assert not other.lean_teacher_is_open


def test_the_doctor_looks_at_each(entry):
    pair = pair_of(
        'prediction_rows',
        [
            dict(entry, name='x', classes=['ant', 'bee']),
            dict(entry, name='y', classes=['cat'], scale=2.0),
        ],
    )
    weights, heads, classes, images = (Section('') for _ in range(4))
    models.check_weights(weights, pair, {}, CLASSES)
    assert [row[0] for row in weights.rows] == ['x', 'y', 'student'] and not weights.findings
    models.check_heads(heads, pair)
    assert {'head (x)', 'head (y)'} <= {row[0] for row in heads.rows}
    models.check_classes(classes, pair)
    assert ['ant (x)', ['ant']] in classes.rows and ['ant (y)', None] in classes.rows
    models.check_preprocessing(images, pair)
    assert 'y sees the images at 2 times their size.' in images.notes


@pytest.mark.parametrize('recipe', ['prediction_rows', 'soft_ground_truth'])
def test_a_cache_holds_each_teacher(recipe, root, tmp_path, entry):  # noqa: F811
    def config(**changes) -> Config:
        found = config_of(root)
        for key in ('teacher_ckpt', 'student_loss_weights'):
            found.model.pop(key)
        found.model.distiller = method(recipe).distiller
        found.model.update(teacher=[entry, dict(entry, name='big', weight=2.0, scale=2.0)])
        found.model.update(changes)
        return found

    folder = f'{tmp_path}/cache'
    fill_cache(config(), folder, views=1, batch_size=4)
    live, cached = build(config()), build(config(teacher_cache=folder))
    data = batches(root, folder, 1)
    logs = train(live, data), train(cached, data)
    name = next(iter(live.distiller.distill_losses))
    of_live, of_cached = (float(log[0][f'distill.{name}']) for log in logs)
    assert of_cached == pytest.approx(of_live, rel=0.03)
    with pytest.raises(ValueError, match=r'differs in: preprocessing\. Fill'):
        build(config(teacher_cache=folder, teacher=[entry, dict(entry, name='big')]))


@pytest.mark.parametrize('scale', [0.5, 1.5, 2.0])
def test_rows_of_another_image_size_lie_in_the_students_pixels(scale, entry):
    pair = pair_of('prediction_rows', [dict(entry, scale=scale)])
    data = pair.data_preprocessor(raw_batch(), True)
    recorders = pair.distiller.teacher_recorders
    with recorders:
        pair.teacher_source(data['inputs'], data['data_samples'])
    found = recorders.get_recorder('predictions').get_record_data()
    scaled, samples = scaled_view(data['inputs'], data['data_samples'], scale)
    assert scaled.shape[-2:] == (64 * scale, 64 * scale)
    assert samples[0].img_shape == (64 * scale, 64 * scale)
    source = copy.copy(pair.teacher_source)
    source.scale = 1.0
    recorders.get_recorder('predictions').scale = 1.0
    with recorders:
        source(scaled, samples)
    own = recorders.get_recorder('predictions').get_record_data()
    torch.testing.assert_close(found.boxes, own.boxes / scale)
    torch.testing.assert_close(found.priors, own.priors / scale)
    assert torch.equal(found.log_prob, own.log_prob) and found.valid.all() == own.valid.all()


def test_features_of_another_image_size_are_paired_by_strides(entry, logged):
    assert terms(pair_of('score_imitation', [dict(entry, scale=2.0)]))['distill.loss_feature'] > 0
    message = r'strides \[8, 16, 32, 64\] and \[5, 11, 21'
    with pytest.raises(ValueError, match=message):
        pair_of('score_imitation', [dict(entry, scale=1.5)])
    with pytest.raises(ValueError, match=r'prior by prior.*but the teacher has scale=2'):
        pair_of('ssd_chen2017', [dict(entry, scale=2.0)])


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(distiller=dict(type='BYOLDistiller')), 'ConfigurableDistiller, but got BYOL'),
        (dict(teacher=[dict(classes=['x']), dict(classes=['bee'])]), 'got "x". Nearest: '),
        (
            dict(classes=None, teacher=[dict(classes=['ant']), dict(classes=['bee'])]),
            "a teacher's classes needs the names",
        ),
        (dict(class_map=dict(aunt='bee')), 'none of them has "aunt". Nearest: ant'),
        (dict(class_map=dict(ant='be')), 'the student has no "be". Nearest: bee'),
        (dict(teacher=[dict(ckpt='nowhere.pth'), {}]), r'teacher\[0\].ckpt must be .*nowhere'),
    ],
)
def test_what_several_teachers_cannot_do_is_refused(changes, message, entry):
    given = changes.pop('teacher', [{}, {}])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pair_of('prediction_rows', [dict(entry, **one) for one in given], **changes)
