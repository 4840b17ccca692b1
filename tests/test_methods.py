"""Each method teaches small pairs of mmdet's own detectors for two steps, balanced."""

import copy

import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmrazor.registry import MODELS

from tests.tiny import method, raw_batch
from tests.zoo import small

# Per method: student, teacher, and what of the method the pair states.
CHANNELS = dict(in_channels=[16] * 5, out_channels=[16] * 5)
NECKS = dict(
    student_recorders=dict(feature=dict(source='neck')),
    teacher_recorders=dict(feature=dict(source='neck')),
)
ADAPTED = dict(NECKS, connectors=dict(adapter=CHANNELS))
TWICE = dict(
    NECKS,
    connectors=dict(
        adapter=[
            dict(type='FeatureAdapter', act_cfg=dict(type='ReLU'), **CHANNELS),
            dict(type='FeatureAdapter', **CHANNELS),
        ]
    ),
)
MASKED = dict(NECKS, connectors=dict(masked=CHANNELS))
STANDARD = dict(
    NECKS,
    connectors=dict(adapter=[dict(type='FeatureAdapter', **CHANNELS), dict(type='StandardLevels')]),
)
PAIRS = [
    ('pkd', 'fcos', 'retinanet', ADAPTED),
    ('cwd', 'retinanet', 'fcos', STANDARD),
    ('mgd', 'gfl', 'atss', MASKED),
    ('score_imitation', 'faster_rcnn', 'faster_rcnn', ADAPTED),
    ('score_imitation_reference', 'retinanet', 'fcos', TWICE),
    ('bckd', 'gfl', 'gfl', {}),
    ('ld', 'gfl', 'gfl', dict(distill_losses=dict(loss_sides=dict(score_thr=0.0)))),
    ('crosskd', 'retinanet', 'retinanet', {}),
    ('crosskd', 'gfl', 'atss', {}),
    ('cross_head', 'fcos', 'gfl', ADAPTED),
    ('matched_queries', 'detr', 'deformable_detr', {}),
    ('soft_ground_truth', 'retinanet', 'faster_rcnn', {}),
    ('soft_ground_truth', 'mask_rcnn', 'fcos', {}),
    ('soft_ground_truth', 'deformable_detr', 'retinanet', {}),
]


def build(name, student, teacher, changes):
    recipe = ConfigDict(method(name).to_dict())
    recipe.distiller = Config._merge_a_into_b(ConfigDict(changes), recipe.distiller)
    torch.manual_seed(0)
    pair = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='DetectionDistill',
            architecture=small(student),
            teacher=small(teacher),
            balance=recipe.get('balance'),
            distiller=recipe.distiller,
        )
    )
    pair.student.init_weights()
    return pair.train()


def batch_of(student):
    batch = raw_batch()
    if student == 'mask_rcnn':
        for sample in batch['data_samples']:
            masks = torch.ones(len(sample.gt_instances.bboxes), 64, 64, dtype=torch.uint8)
            sample.gt_instances.masks = BitmapMasks(masks.numpy(), 64, 64)
    return batch


def step(pair, optimizer, batch):
    data = pair.data_preprocessor(copy.deepcopy(batch), training=True)
    total, logged = pair.parse_losses(pair.loss(data['inputs'], data['data_samples']))
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return {key: value.item() for key, value in logged.items()}


@pytest.mark.parametrize(
    ('name', 'student', 'teacher', 'changes'),
    PAIRS,
    ids=[f'{name}-{teacher}-{student}' for name, student, teacher, _ in PAIRS],
)
def test_two_steps(name, student, teacher, changes):
    pair = build(name, student, teacher, changes)
    batch = batch_of(student)
    trained = [p for p in pair.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3)
    first = step(pair, optimizer, batch)
    terms = [key for key in first if key.startswith('distill.loss')]
    assert terms and all(first[key] > 0 for key in terms), first
    reached = [p.grad is not None for p in trained]
    assert all(reached), 'DDP waits for a gradient of each parameter'
    assert all(p.grad.isfinite().all() for p in trained)

    # A run that resumes goes on alike; the copy that EMA averages is the student's.
    resumed = build(name, student, teacher, changes)
    resumed.load_state_dict(pair.state_dict())
    resumed.teacher.load_state_dict(pair.teacher.state_dict())
    assert copy.deepcopy(pair).teacher is pair.teacher
    found = []
    for model in (pair, resumed):
        torch.manual_seed(1)
        own = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        found.append(step(model, own, batch))
    assert found[0] == found[1] and found[0] != first

    data = pair.data_preprocessor(batch, training=True)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        losses = pair.loss(data['inputs'], data['data_samples'])
    assert all(losses[key].isfinite() for key in terms)
