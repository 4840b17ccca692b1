"""Several teachers, some of which are known by their detections alone: files, programs."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmrazor.registry import MODELS

from mmkd.algorithms.build_teacher import begin_teaching
from mmkd.cache import draw_cached_views, fill_cache
from mmkd.cache.views import RECORD
from mmkd.heads.fusion import joined_detections
from mmkd.runner.exact_runner import ExactRunner
from tests.detections.pairs import CLASSES, config, teacher_file
from tests.detections.test_live import FUNCTION
from tests.detections.test_training import start
from tests.heads.test_fusion import by_loops
from tests.teachers.test_outside_detectors import ROWS, SCORES, TOLD
from tests.teachers.test_outside_detectors import model as onnx_model
from tests.tiny import method, tiny_ssd

NAMES = dict(enumerate(CLASSES, 1))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images, what one teacher detects there, and what another does, which calls its classes so."""
    found = tmp_path_factory.mktemp('data')
    rows = json.loads(teacher_file(found).read_text())
    rng = np.random.default_rng(3)
    other = []
    for row in rows[::2]:
        moved = (np.array(row['bbox']) + rng.normal(0, 2, 4)).tolist()
        name = dict(ant='fly', bee='bee', cat='cat')[NAMES[row['category_id']]]
        other.append(row | dict(bbox=moved, score=row['score'] * 0.9, category_name=name))
    content = dict(results=other, classes=['fly', 'bee', 'cat'])
    (found / 'other.json').write_text(json.dumps(content))
    return found


def pair_of(folder, work_dir, teacher, name='prediction_rows', **changes):
    cfg = config(folder, work_dir, name)
    cfg.model.update({'classes': list(CLASSES), 'teacher': teacher, **changes})
    return cfg


def first(cfg, of=None):
    """The first batch of a pair, as it comes and preprocessed, its terms, and the pair."""
    runner = start(cfg)
    if of is not None:
        runner.model.student.load_state_dict(of.student.state_dict())
    runner.message_hub.update_info('iter', 0)  # as preprocessors ask for it
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    batch = next(iter(runner.train_loop.dataloader))
    pair = runner.model.train()
    torch.manual_seed(0)
    data = pair.data_preprocessor(copy.deepcopy(batch), True)
    return batch, data, pair(**data, mode='loss'), pair


@pytest.mark.parametrize('name', ['soft_ground_truth', 'prediction_rows'])
def test_two_files_that_are_one_give_the_values_of_one(folder, tmp_path, name):
    file = str(folder / 'teacher.json')
    _, _, expected, one = first(pair_of(folder, tmp_path / 'one', file, name))
    entries = [dict(model=file, weight=3.0), dict(model=dict(results=file))]
    _, _, found, two = first(pair_of(folder, tmp_path / 'two', entries, name), one)
    terms = [key for key in expected if key.startswith('distill.loss')]
    for key in terms:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-5, atol=1e-7)
    sums = [
        torch.autograd.grad(sum(terms_of[k] for k in terms), list(pair.student.parameters()))
        for terms_of, pair in ((expected, one), (found, two))
    ]
    for own, other in zip(*sums, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-6)
    assert not list(two.teacher.parameters())


def test_each_brings_what_it_would_bring_alone(folder, tmp_path):
    """Through mosaics, flips and a resize of the batch; and the fusion of both, by plain loops."""
    augment = dict(type='BatchFixedSizePad', size=(96, 96))
    files = [
        dict(model=str(folder / 'teacher.json'), name='a'),
        dict(model=str(folder / 'other.json'), class_map=dict(fly='ant'), name='b', weight=2.0),
    ]

    def of(teacher, place):
        cfg = pair_of(folder, tmp_path / place, teacher, 'soft_ground_truth')
        cfg.model.architecture.data_preprocessor.batch_augments = [augment]
        return first(cfg)

    batch, data, terms, pair = of(files, 'both')
    assert [set(pair.teacher_source.parts), 'teacher_detections' in batch] == [{'a', 'b'}, False]
    assert set(data) == {'inputs', 'data_samples'} and float(terms['distill.loss_taught']) > 0
    for one in files:
        alone, seen, _, own = of([{**one, 'name': None}], one['name'])
        assert torch.equal(seen['inputs'], data['inputs'])
        brought = batch[f'teacher_detections_{one["name"]}']
        for found, wanted in zip(alone['teacher_detections'], brought, strict=True):
            assert all(map(torch.equal, found, wanted)) and len(found[0])
        moved = zip(own.teacher.batch, pair.teachers[one['name']].batch, strict=True)
        assert all(torch.equal(a, b) for x, y in moved for a, b in zip(x, y, strict=True))
    assert pair.teachers['b'].class_map == dict(fly='ant')
    with pair.distiller.teacher_recorders:
        pair.teacher_source(data['inputs'], data['data_samples'])
    joined = pair.distiller.teacher_recorders.get_recorder('loss_taught_preds_T').get_record_data()
    for image, made in enumerate(joined_detections(joined, 0.1, 0.5, 100)):
        each = [pair.teachers[name].batch[image] for name in 'ab']
        sure = [scores.max(1).values >= 0.1 for _, scores in each]
        boxes = [b[kept].double().numpy() for (b, _), kept in zip(each, sure, strict=True)]
        scores = [s[kept].max(1).values.numpy() for (_, s), kept in zip(each, sure, strict=True)]
        labels = [s[kept].argmax(1).numpy() for (_, s), kept in zip(each, sure, strict=True)]
        expected = by_loops(boxes, scores, labels, np.array([[1 / 3] * 3, [2 / 3] * 3]), 0.5)
        expected = [one for one in expected if one[1] >= 0.1]
        assert made.scores.tolist() == pytest.approx([one[1] for one in expected], rel=1e-5)
        np.testing.assert_allclose(made.boxes, [one[0] for one in expected], atol=1e-3)


def test_what_moves_a_batch_moves_those_of_each(folder, tmp_path):
    augment = dict(type='BatchSyncRandomResize', random_size_range=(128, 160), interval=1)
    file = str(folder / 'teacher.json')
    cfg = pair_of(folder, tmp_path, [dict(model=file), dict(model=file, scale=1.0)])
    cfg.model.architecture.data_preprocessor.batch_augments = [augment]
    batch, _, _, pair = first(cfg)
    truth = [s.gt_instances.bboxes.tensor.clone() for s in batch['data_samples']]
    given = batch['teacher_detections_teacher2']
    data = pair.data_preprocessor(copy.deepcopy(batch), True)
    moved = [s.gt_instances.bboxes for s in data['data_samples']]
    scale = moved[0][0, 2:].repeat(2) / truth[0][0, 2:].repeat(2)
    assert (scale > 1.5).all()
    for name in ('teacher1', 'teacher2'):
        for (own, _), (new, _) in zip(given, pair.teachers[name].batch, strict=True):
            torch.testing.assert_close(own * scale, new)
    for own, new in zip(truth, moved, strict=True):
        torch.testing.assert_close(own * scale, new)


@pytest.mark.parametrize('name', ['soft_ground_truth', 'prediction_rows'])
def test_a_network_a_file_a_function_and_an_onnx_file_teach_together(folder, tmp_path, name):
    path = onnx_model(tmp_path / 'teacher.onnx', dict(boxes=ROWS, scores=SCORES))
    teachers = [
        dict(model=tiny_ssd(width=16, std=1.0), name='network', scale=2.0),
        dict(model=str(folder / 'other.json'), name='file'),
        dict(model={k: FUNCTION[k] for k in ('function', 'classes')}, name='function'),
        dict(
            model=dict(onnx=str(path), description={**TOLD, 'classes': ['ant', 'bee']}),
            name='onnx',
            scale=1.5,
        ),
    ]
    common = dict(fly='ant', moth='bee')  # of two of them; the others do not have the names
    cfg = pair_of(folder, tmp_path / 'run', teachers, name, class_map=common)
    _, data, terms, pair = first(cfg)
    [term] = [key for key in terms if key.startswith('distill.loss')]
    assert float(terms[term]) > 0 and not pair.lean_teacher_is_open
    assert pair.class_maps['function'].untaught == ['cat'] and pair.class_maps['file'] is None
    rows = {
        name: next(iter(pair.distiller.teacher_recorders.of(name).recorders.values()))
        for name in pair.teachers
    }
    with pair.distiller.teacher_recorders:
        pair.teacher_source(data['inputs'], data['data_samples'])
    found = {name: recorder.get_record_data() for name, recorder in rows.items()}
    [image] = pair.teachers['function'].detector([to_pixels(data['inputs'][0])])
    kept = found['function'].valid[0]
    np.testing.assert_allclose(found['function'].boxes[0][kept], image.boxes, atol=0.01)
    [image] = pair.teachers['onnx'].detector([to_pixels(data['inputs'][0], 96)])
    kept = found['onnx'].valid[0]
    np.testing.assert_allclose(found['onnx'].boxes[0][kept], image.boxes / 1.5, atol=0.01)


@pytest.mark.parametrize('name', ['soft_ground_truth', 'prediction_rows'])
def test_a_cache_spares_the_networks_and_the_others_go_along(folder, tmp_path, name):
    """The same batch teaches the same with a cache and without, and a whole run goes through."""
    torch.manual_seed(0)
    network = tiny_ssd(width=16, std=1.0)
    state = MODELS.build(dict(network, _scope_='mmdet')).state_dict()
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'network.pth')
    teachers = [
        dict(model=str(folder / 'other.json'), name='file'),
        dict(model=network, ckpt=str(tmp_path / 'network.pth'), name='network'),
        dict(model=dict(FUNCTION, class_map=dict(fly='ant', moth='bee')), name='function'),
    ]
    common = dict(fly='ant')
    cfg = pair_of(folder, tmp_path / 'run', teachers, name, class_map=common)
    fill_cache(copy.deepcopy(cfg), str(tmp_path / 'cache'), views=2)
    fields = json.loads((tmp_path / 'cache/cache.json').read_text())['fields']
    assert all(field['recorder'].endswith('network') for field in fields)
    live = start(cfg).model.train()
    cfg.model.teacher_cache = str(tmp_path / 'cache')
    cfg.train_cfg.max_epochs = 1
    runner = start(cfg)
    draw_cached_views(runner)
    runner.model.student.load_state_dict(live.student.state_dict())
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    batch = next(iter(runner.train_loop.dataloader))
    begin_teaching(
        live, SimpleNamespace(dataset=runner.train_loop.dataloader.dataset, collate_fn=None)
    )
    terms = []
    for pair in (runner.model.train(), live):
        torch.manual_seed(0)
        data = pair.data_preprocessor(copy.deepcopy(batch), True)
        terms.append(pair(**{k: v for k, v in data.items() if k != RECORD}, mode='loss'))
        assert set(pair.teachers) == {'file', 'network', 'function'}
    [term] = [key for key in terms[0] if key.startswith('distill.loss')]
    # Rows are close. Which of a random network's boxes suppression keeps depends on their rounding.
    close = 0.005 if name == 'prediction_rows' else 0.2
    assert float(terms[0][term]) == pytest.approx(float(terms[1][term]), rel=close)
    assert list(runner.model.teacher_source.parts) == ['file', 'function']
    runner = ExactRunner.from_cfg(cfg)
    draw_cached_views(runner)
    runner.train()


def to_pixels(image, size=None):
    """A normalised image of the tiny student as it was, perhaps of another size."""
    preprocessor = MODELS.build(dict(tiny_ssd(), _scope_='mmdet')).data_preprocessor
    pixels = image * preprocessor.std + preprocessor.mean
    if size:
        pixels = torch.nn.functional.interpolate(pixels[None], size, mode='bilinear')[0]
    pixels = pixels.flip(0) if preprocessor._channel_conversion else pixels
    return pixels.clamp(0, 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize('name', ['soft_ground_truth', 'prediction_rows'])
def test_each_owns_classes(folder, tmp_path, name):
    """Of a list of results, which tells no classes, too; what nobody owns is not taught."""
    teachers = [
        dict(model=str(folder / 'teacher.json'), classes=['ant'], name='x'),
        dict(model=str(folder / 'other.json'), classes=['cat'], name='y'),
    ]
    cfg = pair_of(folder, tmp_path, teachers, name, class_map=dict(fly='ant'))
    _, data, terms, pair = first(cfg)
    losses = [key for key in terms if key.startswith('distill.loss')]
    assert len(losses) == (2 if name == 'prediction_rows' else 1)
    assert all(float(terms[key]) > 0 for key in losses)
    assert [m and m.untaught for m in pair.class_maps.values()] == [[], []]
    fed = {}
    for key, loss in pair.distiller.distill_losses.items():
        hook = lambda _, args, fed_with, out, key=key: fed.update({key: fed_with})  # noqa: E731
        loss.register_forward_hook(hook, with_kwargs=True)
    pair(**data, mode='loss')
    if name == 'prediction_rows':
        for owner, column in (('x', 0), ('y', 2)):
            rows = fed[f'loss_rows_{owner}']
            _, scores = zip(*pair.teachers[owner].batch, strict=True)
            given = torch.nn.utils.rnn.pad_sequence(list(scores), batch_first=True)[..., [column]]
            torch.testing.assert_close(rows['preds_T'].log_prob.exp(), given)
            assert rows['preds_S'].log_prob.size(-1) == 1
    else:  # the other objects of the ground truth stay
        assert fed['loss_taught']['preds_S'].untaught == (1,)


def test_a_single_file_in_a_list_owns_classes_too(folder, tmp_path):
    """As in the plain form, but for the classes."""
    entry = dict(model=str(folder / 'teacher.json'), classes=['ant'])
    _, _, terms, pair = first(pair_of(folder, tmp_path, [entry]))
    assert pair.class_names['teacher'].only == ('ant',)
    assert pair.class_names['teacher'].taught(pair.class_maps['teacher']) == [True, False, False]
    assert float(terms['distill.loss_rows']) > 0


def test_the_control_shows_those_of_another_image(folder, tmp_path):
    file = str(folder / 'teacher.json')
    cfg = pair_of(folder, tmp_path, [dict(model=file), dict(model=file)], shuffle_teacher=True)
    batch, data, _, pair = first(cfg)
    with pair.distiller.teacher_recorders:
        pair.teacher_source(data['inputs'], data['data_samples'])
    (one, _), (other, _) = batch['teacher_detections_teacher2']
    rows = next(iter(pair.distiller.teacher_recorders.of('teacher2').recorders.values()))
    found = rows.get_record_data()
    assert torch.equal(found.boxes[0][found.valid[0]], other)
    assert torch.equal(found.boxes[1][found.valid[1]], one)


@pytest.mark.parametrize(
    ('entry', 'changes', 'match'),
    [
        (dict(scale=2.0), {}, r'another size.* teacher\[1\]\.model is a file.* got scale=2\.'),
        (dict(ckpt='x.pth'), {}, r'teacher\[1\]\.ckpt holds the weights of a network'),
        (dict(classes=['cat']), dict(teacher_cache='cache'), 'teacher_cache spares a network'),
        ({}, dict(class_map=dict(flie='ant')), 'none of them has "flie". Nearest: fly'),
        (dict(class_map=dict(fly='aunt')), {}, 'the student has no "aunt". Nearest: ant'),
        (dict(classes=['dog']), dict(classes=None), "a teacher's classes needs the names"),
        (dict(model=print), {}, r'teacher\[1\]\.model must tell the classes.*function=\.\.\., cl'),
        (dict(classes=['ant']), {}, 'that it knows, too, but got "ant"'),
    ],
)
def test_what_such_a_teacher_cannot_have_is_refused(folder, tmp_path, entry, changes, match):
    network = dict(model=tiny_ssd(width=16, std=1.0))
    if 'classes' in entry:
        network = dict(model=str(folder / 'teacher.json'), classes=['ant'])
    entry = dict(dict(model=str(folder / 'other.json')), **entry)
    if changes.get('class_map'):
        network = entry
    model = pair_of(folder, tmp_path, [network, entry], **changes).model
    with pytest.raises((TypeError, ValueError), match=match):
        MODELS.build(model)


@pytest.mark.parametrize('name', ['score_imitation', 'cwd', 'crosskd', 'matched_queries'])
def test_methods_that_need_a_network_name_the_teacher(folder, tmp_path, name):
    teachers = [dict(model=tiny_ssd(width=16)), dict(model=str(folder / 'other.json'), name='bob')]
    cfg = pair_of(folder, tmp_path, teachers)
    cfg.model.distiller = method(name).to_dict()['distiller']
    with pytest.raises(ValueError, match=r'\(bob\) there are detections alone.*soft_ground_truth'):
        ExactRunner.from_cfg(cfg)


def test_a_file_of_which_nothing_fits_is_named(folder, tmp_path):
    rows = [dict(image_id=99, category_id=1, bbox=[1, 1, 9, 9], score=0.5)]
    (tmp_path / 'none.json').write_text(json.dumps(rows))
    file = str(folder / 'teacher.json')
    cfg = pair_of(folder, tmp_path, [dict(model=file), dict(model=str(tmp_path / 'none.json'))])
    with pytest.raises(ValueError, match=r'in ".*none\.json" none is: it has 99'):
        first(cfg)
