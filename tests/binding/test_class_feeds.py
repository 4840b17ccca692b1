"""Pairs whose models know other classes: what is mapped, left out, refused, and left as it is."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mmkd.binding.class_feeds import tell
from mmkd.doctor.models import check_classes
from mmkd.doctor.report import Section
from tests.tiny import method, raw_batch, tiny_pair, tiny_ssd, tiny_yolov5

pytestmark = pytest.mark.usefixtures('mmdet_scope')

TEACHER, STUDENT = ('cat', 'car', 'truck', 'bus'), ('bike', 'vehicle', 'car')
SAID = dict(truck='vehicle', bus='vehicle')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('weights')


def built(folder, recipe='prediction_rows', teacher=TEACHER, classes=STUDENT, said=None, **changes):
    """A pair of tiny SSDs, whose teacher's file names its classes."""
    path = folder / f'{"_".join(teacher)}.pth'
    model = tiny_ssd(len(teacher), width=16, std=1.0)
    if not path.exists():
        torch.manual_seed(0)
        weights = MODELS.build(model).state_dict()
        torch.save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=teacher))), path)
    distiller = method(recipe).to_dict()['distiller'] if isinstance(recipe, str) else recipe
    changes = dict(dict(class_map=said, classes=classes), **changes)
    student = changes.pop('student', tiny_ssd(len(classes or STUDENT)))
    pair = dict(teacher=model, teacher_ckpt=str(path), architecture=student, distiller=distiller)
    pair = {**pair, 'student_loss_weights': None, **changes}
    return MODELS.build(ConfigDict(tiny_pair(**pair)))


def step(pair):
    """The distillation terms of a batch, and the gradient at the student's class layers."""
    torch.manual_seed(1)
    pair.train()
    for module in pair.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    data = pair.data_preprocessor(raw_batch(), True)
    terms = pair.loss(data['inputs'], data['data_samples'])
    terms = {key: value for key, value in terms.items() if key.startswith('distill.')}
    sum(value for key, value in terms.items() if 'loss' in key).backward()
    return terms, [p.grad for p in pair.student.bbox_head.cls_convs.parameters()]


ROWS = ['prediction_rows', 'soft_ground_truth', 'score_imitation', 'cross_head']
DISAGREEMENT = method('prediction_rows').to_dict()['distiller']
DISAGREEMENT['distill_losses'] = dict(loss_rows=dict(type='DisagreementRows'))


@pytest.mark.parametrize('recipe', [*ROWS, DISAGREEMENT])
def test_losses_of_predictions_leave_out_what_has_no_partner(recipe, folder, logged):
    pair = built(folder, recipe, said=SAID)
    assert 'teacher does not know bike' in logged() and 'student does not know cat' in logged()
    terms, gradients = step(pair)
    assert all(bool(torch.isfinite(term)) for term in terms.values())
    if recipe not in ROWS[1:]:  # of the others the student's class layer learns nothing, or by hand
        for gradient in gradients:  # (A * (3 + 1), ...): bike has no part in it
            bike = gradient.unflatten(0, (-1, 4))[:, 0]
            assert not bike.abs().max() > 1e-9 and bool(gradient.any())


def test_score_maps_are_of_the_classes_that_both_have(folder):
    pair = built(folder, 'score_imitation', said=SAID)
    assert pair.distiller.teacher_recorders.get_recorder('scores').classes == [1, 2, 3]
    apart = built(folder, 'score_imitation', teacher=('x', 'y'))  # features alone: it may be
    assert apart.distiller.teacher_recorders.get_recorder('scores').classes is None


@pytest.mark.parametrize('recipe', ['prediction_rows', 'soft_ground_truth', 'ssd_chen2017'])
def test_another_order_teaches_what_the_same_order_teaches(recipe, folder):
    """A teacher whose classes are permuted together with its weights is the same teacher."""
    names, order = ('a', 'b', 'c'), [2, 0, 1]
    plain = built(folder, recipe, teacher=names, classes=names)
    assert plain.class_maps == {'teacher': None}
    path = folder / 'permuted.pth'
    weights = {k: v.clone() for k, v in plain.teacher.state_dict().items()}
    for key, value in weights.items():
        if key.startswith('bbox_head.cls_convs'):
            weights[key] = value.unflatten(0, (-1, 4))[:, [*order, 3]].flatten(0, 1)
    meta = dict(dataset_meta=dict(classes=[names[i] for i in order]))
    torch.save(dict(state_dict=weights, meta=meta), path)
    other = built(folder, recipe, teacher=names, classes=names, teacher_ckpt=str(path))
    assert other.class_maps['teacher'].places == tuple(order)
    other.student.load_state_dict(plain.student.state_dict())
    found = step(other)[0]
    for key, value in step(plain)[0].items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('changes', [dict(), dict(classes=None), dict(teacher_ckpt_strict=False)])
def test_equal_classes_change_nothing(changes, folder):
    names = STUDENT
    before = built(folder, teacher=names, classes=None)
    pair = built(folder, teacher=names, **changes)
    assert pair.class_maps == {'teacher': None} and not list(pair.distiller.connectors)
    pair.student.load_state_dict(before.student.state_dict())
    found = step(pair)[0]
    for key, value in step(before)[0].items():
        assert torch.equal(found[key], value)


def test_ground_truth_of_classes_that_the_teacher_does_not_know_stays(folder):
    pair = built(folder, 'soft_ground_truth', said=SAID)
    seen = []
    head = pair.student.bbox_head
    own = type(head).loss_by_feat

    def watch(cls, box, truth, *args, **kwargs):
        seen.append(truth)
        return own(head, cls, box, truth, *args, **kwargs)

    head.loss_by_feat = watch
    step(pair)
    plain, taught = seen
    bikes = 0
    for first, second in zip(plain, taught, strict=True):
        boxes = first.bboxes[first.labels == 0]
        bikes += len(boxes)
        assert torch.equal(second.bboxes[second.labels == 0], boxes)
        assert set(second.labels.tolist()) <= {0, 1, 2}
    assert bikes


def test_class_maps_need_a_partner_for_each_class(folder):
    terms, _ = step(built(folder, 'ssd_chen2017', classes=('vehicle', 'cat', 'car'), said=SAID))
    assert float(terms['distill.loss_soft']) > 0
    message = (
        r"loss_soft.preds_T are the teacher's class maps.*teaches nothing of bike. Take a method"
    )
    with pytest.raises(ValueError, match=message):
        built(folder, 'ssd_chen2017', said=SAID)


def flattened(loss: str) -> dict:
    head = dict(head=dict(type='ModuleOutputs', source='bbox_head'))
    take = dict(recorder='head', data_idx=0, connector='flat')
    return dict(
        type='ConfigurableDistiller',
        student_recorders=head,
        teacher_recorders=head,
        connectors=dict(flat=dict(type='FlattenCls')),
        distill_losses=dict(loss_kl=dict(type=loss)),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(take, from_student=True), preds_T=dict(take, from_student=False)
            )
        ),
    )


def test_connectors_of_a_config_get_the_classes_of_their_side(folder):
    pair = built(folder, flattened('KLDivergence'), classes=('vehicle', 'cat', 'car'), said=SAID)
    flat, [_, of_teacher] = (
        pair.distiller.connectors[name] for name in ('flat', 'loss_kl_preds_T_classes')
    )
    assert flat.cls_out_channels == of_teacher.cls_out_channels == 4
    assert float(step(pair)[0]['distill.loss_kl']) > 0


def test_sigmoid_maps_with_objectness(folder):
    recipe = method('yolov5_output').to_dict()['distiller']
    torch.manual_seed(0)
    model = dict(tiny_yolov5(0.125, classes=4), _scope_='mmyolo')
    path = folder / 'yolo.pth'
    weights = MODELS.build(model).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=TEACHER))), path)
    pair = dict(
        architecture=dict(tiny_yolov5(), _scope_='mmyolo'),
        teacher=model,
        teacher_ckpt=str(path),
        distiller=recipe,
        classes=('vehicle', 'cat', 'car'),
        class_map=SAID,
    )
    pair = MODELS.build(ConfigDict(tiny_pair(student_loss_weights=None, **pair)))
    assert list(pair.distiller.connectors) == ['loss_output_preds_T_classes']
    link = pair.distiller.connectors['loss_output_preds_T_classes']
    assert not link.softmax and not link.activated


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(classes=('x', 'y')), r'class in common.*\(cat, car, truck, bus\).*\(x, y\)'),
        (dict(said=dict(lorry='vehicle')), r'no "lorry"'),
        (dict(said=dict(truck='vehicel')), r'no "vehicel". Nearest: vehicle'),
        (dict(said=SAID, classes=None), 'class_map needs the names.*of the student are not known'),
        (dict(said=SAID, teacher_ckpt=None), 'class_map needs.*of the teacher are not known'),
        (dict(classes=None), 'needs equal classes of student and teacher'),
    ],
)
def test_what_cannot_be_mapped_is_refused(changes, message, folder):
    with pytest.raises(ValueError, match=message):
        built(folder, **changes)


def test_another_number_of_names_than_of_scores_is_not_trusted(folder, logged):
    built(folder, teacher=STUDENT)
    path = folder / 'more.pth'
    saved = torch.load(folder / 'bike_vehicle_car.pth', weights_only=False)
    torch.save(dict(saved, meta=dict(dataset_meta=dict(classes=TEACHER))), path)
    pair = built(folder, teacher=STUDENT, teacher_ckpt=str(path))
    assert pair.class_maps == {'teacher': None}
    assert 'scores 3 classes, but 4 are named for it' in logged()


def test_the_data_have_the_last_word(folder):
    pair = built(folder, said=SAID)
    pair.check_data_origin({}, STUDENT)  # another order than the teacher's, and other names
    with pytest.raises(ValueError, match=r'model.classes must be .*\(car, bike\).*\(bike, vehicle'):
        pair.check_data_origin({}, ('car', 'bike'))


def test_the_doctor_prints_the_map(folder):
    section = Section('Classes')
    check_classes(section, built(folder, said=SAID))
    assert section.rows == [['bike', None], ['vehicle', ['truck', 'bus']], ['car', ['car']]]
    assert len(section.notes) == len(tell(built(folder, said=SAID).class_maps['teacher'])) == 2
    assert not any(built(folder, teacher=STUDENT).class_maps.values())


def test_a_lean_teacher_teaches_the_same(folder):
    pair = built(folder, said=SAID, lean_teacher=dict())
    exact = built(folder, said=SAID)
    pair.student.load_state_dict(exact.student.state_dict())
    found = step(pair)[0]
    for key, value in step(exact)[0].items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5)
