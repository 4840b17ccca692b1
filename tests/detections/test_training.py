"""A pair whose teacher is a file of detections: trained, resumed, shuffled; without a network."""

import copy
import json

import pytest
import torch
from mmengine.logging import MessageHub
from mmrazor.registry import MODELS

from mmkd.algorithms import DetectionDistill
from mmkd.config.pair_config import pair
from mmkd.recorders.loss_pass import LossPass
from mmkd.runner.exact_runner import ExactRunner
from mmkd.teachers.given_detections import FileTeacher
from tests.detections.pairs import CLASSES, config, teacher_file
from tests.tiny import method, tiny_ssd, tiny_yolov5


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp('data')
    teacher_file(found)
    return found


def model(folder, name='soft_ground_truth', **changes):
    settings = dict(architecture=tiny_ssd(), teacher=str(folder / 'teacher.json'))
    settings['distiller'] = method(name).to_dict()['distiller']
    return {'type': 'DetectionDistill', '_scope_': 'mmrazor', **settings, **changes}


def losses(runner, batches=3):
    """The terms of the first batches, and what their images and ground truth were."""
    found = []
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    algorithm = runner.model.train()
    for _, batch in zip(range(batches), runner.train_loop.dataloader, strict=False):
        torch.manual_seed(0)
        data = algorithm.data_preprocessor(batch, True)
        boxes = [s.gt_instances.bboxes for s in data['data_samples']]
        found.append((data['inputs'], boxes, algorithm(**data, mode='loss')))
    return found


def start(cfg):
    runner = ExactRunner.from_cfg(cfg)
    runner._init_model_weights()
    return runner


@pytest.mark.parametrize('name', ['soft_ground_truth', 'prediction_rows'])
def test_the_student_is_taught_and_its_own_part_stays_what_it_is(folder, tmp_path, name):
    cfg = config(folder, tmp_path / 'pair', name)
    alone = config(folder, tmp_path / 'alone')
    alone.model = tiny_ssd()
    taught, own = start(cfg), start(alone)
    own.model.load_state_dict(taught.model.student.state_dict())
    for (seen, truth, terms), (seen_alone, boxes, alone_terms) in zip(
        losses(taught), losses(own), strict=True
    ):
        assert torch.equal(seen, seen_alone)
        assert all(torch.equal(a, b) for a, b in zip(truth, boxes, strict=True))
        for key, values in alone_terms.items():
            assert_same(terms[f'student.{key}'], values)
        assert any(float(v) > 0 for k, v in terms.items() if k.startswith('distill.loss'))
    assert isinstance(taught.model.teacher_source, FileTeacher)
    assert not list(taught.model.teacher.parameters())
    assert not [key for key in taught.model.state_dict() if 'teacher' in key]


def assert_same(first, second):
    pairs = zip(first, second, strict=True) if isinstance(first, list) else [(first, second)]
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_control_sees_the_detections_of_another_image(folder, tmp_path):
    runner = start(config(folder, tmp_path, **{'model.shuffle_teacher': True}))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    batch = next(iter(runner.train_loop.dataloader))
    (one, _), (other, _) = batch['teacher_detections']
    source = runner.model.teacher_source
    runner.model.data_preprocessor(batch, True)
    with runner.model.distiller.teacher_recorders as recorders:
        source(torch.zeros(2, 3, 64, 64))
    rows = runner.model.distiller.teacher_recorders.get_recorder('rows').get_record_data()
    assert torch.equal(rows.boxes[0][rows.valid[0]], other)
    assert torch.equal(rows.boxes[1][rows.valid[1]], one)
    assert recorders is None or recorders
    with pytest.raises(ValueError, match='two or more per process'):
        source.model.batch = source.model.batch[:1]
        source(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize(
    'augment',
    [
        dict(type='BatchSyncRandomResize', random_size_range=(128, 160), interval=1),
        dict(type='BatchFixedSizePad', size=(96, 96)),
        dict(type='BatchResize', scale=(160, 160), pad_size_divisor=32),
    ],
    ids=lambda augment: augment['type'],
)
def test_what_resizes_a_batch_resizes_the_detections(folder, tmp_path, augment):
    cfg = config(folder, tmp_path)
    cfg.model.architecture.data_preprocessor.batch_augments = [augment]
    runner = start(cfg)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    batch = next(iter(runner.train_loop.dataloader))
    truth = [s.gt_instances.bboxes.tensor.clone() for s in batch['data_samples']]
    given = [boxes.clone() for boxes, _ in batch['teacher_detections']]
    runner.message_hub.update_info('iter', 0)
    runner.model.data_preprocessor(copy.deepcopy(batch), True)  # it resizes from the second on
    data = runner.model.data_preprocessor(batch, True)
    moved = [s.gt_instances.bboxes for s in data['data_samples']]
    scale = moved[0][0, 2:].repeat(2) / truth[0][0, 2:].repeat(2)
    assert augment['type'].endswith('Pad') or (scale > 1.5).all()
    found = [boxes for boxes, _ in runner.model.teacher.batch]
    for own, new in zip([*truth, *given], [*moved, *found], strict=True):
        torch.testing.assert_close(own * scale, new)
    assert 'teacher_detections' not in data


def test_of_mmyolo_too(folder):
    student = dict(tiny_yolov5(), _scope_='mmyolo')
    student['data_preprocessor']['batch_augments'] = [
        dict(
            type='YOLOXBatchSyncRandomResize',
            random_size_range=(128, 160),
            size_divisor=32,
            interval=1,
        )
    ]
    found = MODELS.build(model(folder, architecture=student)).train()
    boxes, scores = torch.tensor([[8.0, 8, 30, 40]]), torch.tensor([[0.0, 1, 0]])
    samples = dict(bboxes_labels=torch.tensor([[1.0, 2, 8, 8, 30, 40]]), img_metas=[{}, {}])
    none = torch.zeros(0, 4), torch.zeros(0, 3)
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    batch = dict(inputs=images, data_samples=samples, teacher_detections=[none, (boxes, scores)])
    MessageHub.get_current_instance().update_info('iter', 0)
    found.data_preprocessor(copy.deepcopy(batch), True)  # it resizes from the second on
    data = found.data_preprocessor(batch, True)
    truth = data['data_samples']['bboxes_labels']
    assert truth.shape == (1, 6) and data['inputs'].shape[-1] > 64
    assert torch.equal(found.teacher.batch[1][0], truth[:, 2:])
    terms = found(**data, mode='loss')
    assert terms['distill.loss_taught'] > 0 and terms['distill.taught_objects'] == 0.5


@pytest.mark.parametrize('name', ['cwd', 'pkd', 'crosskd', 'matched_queries', 'ssd_chen2017'])
def test_methods_that_need_more_are_refused_with_those_that_do_not(folder, name):
    with pytest.raises(ValueError, match=r'detections alone.*soft_ground_truth, prediction_rows'):
        MODELS.build(model(folder, name))


def test_what_a_file_cannot_have_is_refused(folder):
    for changes, match in (
        (dict(teacher_ckpt='weights.pth'), 'known by its detections alone, and got teacher_ckpt'),
        (dict(teacher_cache=str(folder)), 'teacher_cache spares a network from running'),
        (dict(teacher=dict(results=str(folder / 'x.json'))), 'there is no'),
        (dict(teacher=dict(results=None)), 'there is no "None"'),
        (dict(teacher=dict(results='x', scores=1)), 'class_map besides, but has scores'),
        (dict(teacher=str(folder / 'annotations/train.json')), 'list of COCO results alone'),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=match):
            MODELS.build(model(folder, **changes))


def test_a_batch_without_detections_is_refused(folder):
    found = MODELS.build(model(folder))
    with pytest.raises(ValueError, match=r'must bring the detections.*mmkd train'):
        found.teacher_source(torch.zeros(2, 3, 64, 64))


def test_a_pair_names_the_file_alone(folder):
    base = dict(model=tiny_ssd(), **method('soft_ground_truth').to_dict())
    made = pair(base, teacher=str(folder / 'teacher.json'))
    made.pop('_delete_')
    assert isinstance(MODELS.build(made), DetectionDistill)


def test_a_config_in_json_stays_a_config(folder, tmp_path):
    (tmp_path / 'network.json').write_text(json.dumps(dict(model=tiny_ssd(width=16, std=1.0))))
    built = MODELS.build(model(folder, teacher=str(tmp_path / 'network.json')))
    assert built.teacher.backbone is not None
    assert len(CLASSES) == built.teacher.bbox_head.num_classes


@pytest.mark.parametrize('known', [('ant', 'cat'), ('cat', 'hornet', 'ant')])
def test_classes_that_the_teacher_does_not_know_are_left_out(tmp_path, known):
    """They are not background: what the student scores for them gets no gradient."""
    of_some(tmp_path, known)
    runner = start(config(tmp_path, tmp_path / 'run', 'prediction_rows'))
    assert runner.model.class_maps['teacher'].untaught == ['bee']
    maps = []
    hook = runner.model.student.bbox_head.register_forward_hook(lambda *io: maps.append(io[2]))
    [(_, _, terms)] = losses(runner, 1)
    hook.remove()
    taught = sum(v for k, v in terms.items() if k.startswith('distill.loss') and v.requires_grad)
    grads = torch.autograd.grad(taught, maps[0][0])
    ant, bee, cat, _ = sum(g.unflatten(1, (-1, 4)).abs().sum((0, 1, 3, 4)) for g in grads)
    assert ant > 0 and cat > 0 and bee <= 1e-5 * ant


def test_their_own_objects_stay_in_the_soft_ground_truth(tmp_path, monkeypatch):
    of_some(tmp_path, ('ant', 'cat'))
    runner = start(config(tmp_path, tmp_path / 'run'))
    labels = []
    again = LossPass.again

    def seen(self, truth, *key):
        labels.append(self.untaught)
        return again(self, truth, *key)

    monkeypatch.setattr(LossPass, 'again', seen)
    losses(runner, 1)
    assert labels == [(1,)]


def of_some(folder, known):
    """A file that says which classes its teacher knows, and finds no others."""
    found = json.loads(teacher_file(folder).read_text())
    names = dict(enumerate(CLASSES, 1))
    rows = [row | dict(category_name=names[row['category_id']]) for row in found]
    content = dict(results=[r for r in rows if r['category_name'] in known], classes=list(known))
    (folder / 'teacher.json').write_text(json.dumps(content))
