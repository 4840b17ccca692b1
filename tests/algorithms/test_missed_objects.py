"""Where the teacher is sure and no box is, the student's own loss sees no negatives."""

import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmengine.logging import MessageHub
from mmrazor.registry import MODELS

from mmkd.heads import describe_head
from mmkd.teachers.given_detections import FileOfDetections
from tests.heads.models import small as of_mmdet
from tests.tiny import freeze_bn, method, raw_batch, tiny_ssd, tiny_yolov5
from tests.zoo import small, taught

MISSED = torch.tensor([[4.0, 4, 30, 40]])


def pair_of(student, scope='mmdet', **changes):
    torch.manual_seed(0)
    distiller = method('soft_ground_truth').to_dict()['distiller']
    found = dict(
        _scope_='mmrazor', type='DetectionDistill', architecture=dict(student, _scope_=scope),
        teacher=FileOfDetections(3, 'teacher.json'), distiller=distiller,
    )  # fmt: skip
    found.update(changes)
    return freeze_bn(MODELS.build(found))


def batch_of(boxes=MISSED, score=0.9, truth=None):
    """One image, with one object of the ground truth, and what the teacher is sure of."""
    batch = raw_batch(1, boxes=1, seed=1)
    own = batch['data_samples'][0].gt_instances
    own.bboxes = torch.tensor([[36.0, 40, 60, 62]]) if truth is None else truth
    scores = torch.zeros(len(boxes), 3)
    scores[:, 1] = score
    return dict(batch, teacher_detections=[(boxes, scores)])


def gradients(pair, batch):
    """Of the own loss, for the head's maps of scores as it makes them; and its terms."""
    data = pair.data_preprocessor(batch, True)
    maps = []

    def keep(module, args, made):
        made.retain_grad()
        maps.append(made)

    for module in classifiers(pair.student.bbox_head):
        module.register_forward_hook(keep)
    terms = pair(**data, mode='loss')
    pair.zero_grad()
    own = {k: v for k, v in terms.items() if k.startswith('student.')}
    pair.parse_losses(own)[0].backward()
    levels = [m.grad for m in maps if m.grad is not None]
    return levels, own


def classifiers(head):
    convs = getattr(head, 'cls_convs', None)
    if type(head).__name__ == 'SSDHead':
        return list(convs)
    return [head.gfl_cls if hasattr(head, 'gfl_cls') else head.retina_cls]


STUDENTS = {'ssd': tiny_ssd, 'gfl': lambda: small('gfl'), 'retinanet': lambda: small('retinanet')}


@pytest.mark.parametrize('name', STUDENTS)
def test_cells_in_such_a_box_have_no_gradient_and_others_theirs(name):
    """By an oracle in plain loops over the cells."""
    without, _ = gradients(pair_of(STUDENTS[name]()), batch_of())
    found, own = gradients(pair_of(STUDENTS[name](), missed_objects=0.6), batch_of())
    assert len(found) == len(without) > 0
    inside = 0
    for level in found:
        height, width = level.shape[-2:]
        for y in range(height):
            for x in range(width):
                cx, cy = (x + 0.5) * 64 / width, (y + 0.5) * 64 / height
                if 4 < cx < 30 and 4 < cy < 40:
                    assert not level[0, :, y, x].any()
                    inside += 1
    assert inside and any(level.any() for level in found)
    total = sum(float(v.sum()) if torch.is_tensor(v) else sum(map(float, v)) for v in own.values())
    assert total > 0


def test_the_loss_is_that_of_a_certain_background():
    """RetinaNet's focal loss of cells that are masked is nothing: the rest stays what it was."""
    pairs = [pair_of(small('retinanet')), pair_of(small('retinanet'), missed_objects=0.6)]
    terms = [
        {
            k: sum(map(float, v)) if isinstance(v, list) else float(v)
            for k, v in gradients(p, batch_of())[1].items()
        }
        for p in pairs
    ]
    assert terms[1]['student.loss_cls'] < terms[0]['student.loss_cls']
    assert terms[1]['student.loss_bbox'] == pytest.approx(terms[0]['student.loss_bbox'])


@pytest.mark.parametrize(
    ('batch', 'why'),
    [
        (dict(score=0.5), 'not sure'),
        (dict(boxes=torch.zeros(0, 4)), 'nothing found'),
        (dict(truth=MISSED.clone()), 'annotated'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_nothing_is_left_out_elsewhere(batch, why):
    own = [
        gradients(pair_of(tiny_ssd(), **changes), batch_of(**batch))[1]
        for changes in ({}, dict(missed_objects=dict(score_thr=0.6, iou_thr=0.5)))
    ]
    for key, value in own[0].items():
        pairs = (
            zip(value, own[1][key], strict=True)
            if isinstance(value, list)
            else [(value, own[1][key])]
        )
        for one, other in pairs:
            torch.testing.assert_close(one, other)


def test_objectness_is_left_out_too():
    pytest.importorskip('mmyolo')
    from tests.tiny import fast_batch

    terms = []
    for changes in ({}, dict(missed_objects=0.6)):
        pair = pair_of(tiny_yolov5(), 'mmyolo', **changes)
        batch = batch_of()
        data = dict(fast_batch(batch), teacher_detections=batch['teacher_detections'])
        terms.append(pair(**pair.data_preprocessor(data, True), mode='loss'))
    assert float(terms[1]['student.loss_obj']) < float(terms[0]['student.loss_obj'])
    assert float(terms[1]['student.loss_bbox']) == pytest.approx(
        float(terms[0]['student.loss_bbox'])
    )


@pytest.mark.parametrize('method_name', ['soft_ground_truth', 'prediction_rows'])
@pytest.mark.parametrize('owned', [None, ['ant']], ids=['shared', 'owned'])
def test_each_of_several_teachers_is_heard(method_name, owned):
    """What any of them is sure of is left out; but not of a class that it does not teach."""
    others = None if owned is None else ['cat']
    pair = pair_of(
        tiny_ssd(),
        missed_objects=0.6,
        classes=['ant', 'bee', 'cat'],
        teacher=[
            dict(model=FileOfDetections(3, 'one.json'), classes=owned),
            dict(model=FileOfDetections(3, 'other.json'), classes=others),
        ],
        distiller=method(method_name).to_dict()['distiller'],
    )
    none, batch = (torch.zeros(0, 4), torch.zeros(0, 3)), batch_of()
    batch.pop('teacher_detections')
    for place, label in itertools.product(range(2), range(3)):
        found = MISSED, 0.9 * torch.eye(3)[label : label + 1]
        given = {
            f'teacher_detections_teacher{i + 1}': [found if i == place else none] for i in range(2)
        }
        made = pair.data_preprocessor({**batch, **given}, True)
        with pair.distiller.teacher_recorders:
            pair.teacher_source(made['inputs'], made['data_samples'])
        [region] = pair.labelled_loss.missed.regions(made['data_samples'], 1)
        assert len(region) == (owned is None or label == 2 * place)


def test_a_single_teacher_is_heard_of_what_it_teaches():
    pair = pair_of(
        tiny_ssd(),
        missed_objects=0.6,
        classes=['ant', 'bee', 'cat'],
        teacher=[dict(model=FileOfDetections(3, 'one.json'), classes=['ant'])],
    )
    for told, heard in (([0.9, 0, 0], 1), ([0, 0.9, 0], 0)):
        data = dict(batch_of(), teacher_detections=[(MISSED, torch.tensor([told]))])
        made = pair.data_preprocessor(data, True)
        with pair.distiller.teacher_recorders:
            pair.teacher_source(made['inputs'], made['data_samples'])
        assert len(pair.labelled_loss.missed.regions(made['data_samples'], 1)[0]) == heard


def test_what_it_needs_is_said():
    for found, match in (
        (taught('detr', 'detr', 'prediction_rows', missed_objects=0.6), 'a dense student'),
        (taught('faster_rcnn', 'gfl', 'prediction_rows', missed_objects=0.6), 'a dense student'),
        (taught('gfl', 'gfl', 'pkd', missed_objects=0.6), "of type 'Predictions'"),
        (taught('gfl', 'gfl', 'prediction_rows', missed_objects=1.5), 'at most 1, but got 1.5'),
        (taught('gfl', 'gfl', 'prediction_rows', missed_objects='0.6'), "1, but got '0.6'"),
        (taught('gfl', 'gfl', 'prediction_rows', missed_objects=dict(iou_thr=True)), 'got True'),
        (taught('gfl', 'gfl', 'prediction_rows', missed_objects=dict(score=1)), 'but has score'),
    ):
        with pytest.raises(ValueError, match=match):
            MODELS.build(found)


@pytest.mark.parametrize('setting', [True, {}, dict(iou_thr=0.5)])
def test_without_numbers_those_of_the_page_count(setting):
    pair = MODELS.build(taught('gfl', 'gfl', 'prediction_rows', missed_objects=setting))
    missed = pair.labelled_loss.missed
    assert (missed.score_thr, missed.iou_thr) == (0.6, 0.5)
    for nothing in (None, False):
        none = taught('gfl', 'gfl', 'prediction_rows', missed_objects=nothing)
        assert MODELS.build(none).labelled_loss is None


def narrow(node):
    """With maps of 64 channels in place of 256."""
    if isinstance(node, dict):
        for key, value in node.items():
            known = key in ('in_channels', 'out_channels', 'feat_channels')
            node[key] = 64 if known and value in (96, 256) else narrow(value)
    return node


DENSE = {
    **STUDENTS,
    **{name: lambda name=name: small(name) for name in ('fcos', 'yolox')},
    **{
        name.split('/')[0]: lambda name=name: narrow(of_mmdet(name))
        for name in (
            'paa/paa_r50_fpn_1x_coco',
            'tood/tood_r50_fpn_1x_coco',
            'reppoints/reppoints-moment_r50_fpn_1x_coco',
            'vfnet/vfnet_r50_fpn_1x_coco',
        )
    },
}
#: Of a TOOD, that before and after its assigner changes.
EPOCHS = dict(tood=(0, 4))


@pytest.fixture(scope='module')
def pairs():
    """Of each head a pair without and one with missed objects, of the same weights."""
    return {
        name: [pair_of(made(), **changes) for changes in ({}, dict(missed_objects=0.6))]
        for name, made in DENSE.items()
    }


def of_outputs(pair, batch):
    """Of the own loss, for all maps that the head makes, each by itself; and its terms.

    Of some heads (VFNet, RepPoints, TOOD) boxes are a way to the scores: that is cut.
    """
    head, made = pair.student.bbox_head, []
    forward = head.forward

    def kept(*args, **kwargs):
        outputs = leaves(forward(*args, **kwargs))
        made.extend([*map(tensors, outputs)])
        return outputs

    head.__dict__['forward'] = kept
    try:
        torch.manual_seed(0)
        terms = pair(**pair.data_preprocessor(batch, True), mode='loss')
    finally:
        del head.__dict__['forward']
    own = {k: v for k, v in terms.items() if k.startswith('student.')}
    pair.zero_grad()
    pair.parse_losses(own)[0].backward()
    maps = [[level.grad for level in levels] for levels in made]
    return [levels for levels in maps if any(g is not None for g in levels)], own


def leaves(node):
    if torch.is_tensor(node):
        return node.detach().requires_grad_(node.is_floating_point())
    return type(node)(map(leaves, node)) if isinstance(node, list | tuple) else node


def tensors(node):
    return [node] if torch.is_tensor(node) else [t for one in node for t in tensors(one)]


def boxes_in(size):
    """Boxes in an image, from a few pixels on, at any place."""
    side = st.floats(3, size - 2)

    @st.composite
    def one(draw):
        w, h = draw(side), draw(side)
        return [x := draw(st.floats(0, size - w)), y := draw(st.floats(0, size - h)), x + w, y + h]

    return one()


@pytest.mark.parametrize('name', DENSE)
@example(truth=[29.0, 29, 35, 35], missed=[4.0, 4, 60, 60])  # between cells
@example(truth=[25.0, 25, 31, 31], missed=[4.0, 4, 60, 60])
@settings(max_examples=1, deadline=None)
@given(truth=boxes_in(64), missed=boxes_in(64))
def test_what_is_assigned_to_an_object_is_left_alone(pairs, name, truth, missed):
    """Wherever its centre lies; and no term is raised, as by the entropy of a masked object."""
    batch = dict(truth=torch.tensor([truth]), boxes=torch.tensor([missed]))
    for epoch in EPOCHS.get(name, (0,)):
        MessageHub.get_current_instance().update_info('epoch', epoch)
        check_left_alone(pairs, name, batch)


def check_left_alone(pairs, name, batch):
    (before, terms), (after, left) = [of_outputs(pair, batch_of(**batch)) for pair in pairs[name]]
    for key, value in terms.items():
        one, other = (
            sum(map(float, v)) if isinstance(v, list) else float(v) for v in (value, left[key])
        )
        assert other <= one + 1e-4 * max(one, 1), key
    assert len(before) == len(after)
    known = describe_head(pairs[name][0].student.bbox_head)
    for place, levels in enumerate(before):
        for one, other in zip(levels, after[place], strict=True):
            if place == 0:
                objects = one.unflatten(1, (-1, known.class_channels))
                objects = objects if known.sigmoid else objects[:, :, :-1]
                pulled = (
                    (objects < 0)
                    .any(2)[:, :, None]
                    .expand_as(one.unflatten(1, (-1, known.class_channels)))
                )
                kept = pulled.flatten(1, 2)
            elif place == 2 and known.factor == 'objectness':
                kept = one < 0
            else:
                kept = torch.ones_like(one, dtype=torch.bool)
            torch.testing.assert_close(other[kept], one[kept], rtol=1e-3, atol=1e-6)
