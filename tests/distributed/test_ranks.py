"""Two processes with a batch each and one process with both: the same losses, the same step.

BatchNorms are frozen, since their statistics are those of a rank's own images. Nowhere is
``find_unused_parameters`` set: a parameter without a gradient fails the step.
"""

import importlib.util
from functools import partial

import pytest
import torch
from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import Tensor, distributed

from mmkd.algorithms.teacher_forms import choose_form
from mmkd.compat.detectors import normalise_yolov5_over_ranks
from mmkd.distributed.first_rank import on_first_rank
from mmkd.errors import NonFiniteError
from mmkd.targets.batch_targets import batch_targets
from mmkd.teachers.given_detections import FileOfDetections
from tests.processes import start
from tests.tiny import (
    fast_batch,
    freeze_bn,
    method,
    raw_batch,
    tiny_runner,
    tiny_ssd,
    tiny_ssd_with_adapters,
    tiny_yolov5_pair,
)
from tests.zoo import taught


def images(*boxes: int) -> list[dict]:
    """For each rank a batch of one image with so many objects."""
    return [raw_batch(1, boxes=count, seed=seed) for seed, count in enumerate(boxes)]


def joined(batches: list[dict]) -> dict:
    found = {key: [one for b in batches for one in b[key]] for key in batches[0]}
    return {k: torch.stack(v) if isinstance(batches[0][k], Tensor) else v for k, v in found.items()}


def same_objects(batches: list[dict]) -> list[dict]:
    """Other pixels, the same boxes and labels in each."""
    for batch in batches[1:]:
        batch['data_samples'][0].gt_instances = batches[0]['data_samples'][0].gt_instances.clone()
    return batches


def terms_off(model):
    model.distill_factors = dict.fromkeys(model.distiller.distill_losses, 0.0)


def adapter_off(model):
    model.distill_factors = dict(loss_imitation=0.0)


def balanced():
    return dict(tiny_ssd_with_adapters(), balance=dict(shares=0.5, interval=1))


def scaled():
    """The recipe that asks the teacher, not the targets, where the objects are."""
    pair, head = tiny_ssd_with_adapters(), tiny_ssd()['bbox_head']
    distiller = method('ssd_scaled').to_dict()['distiller']
    distiller['connectors'] = pair['distiller']['connectors']
    losses = distiller['distill_losses']
    losses['loss_soft'].update(num_classes=3)
    losses['loss_box'].update(
        prior_generator=head['anchor_generator'], bbox_coder=head['bbox_coder']
    )
    losses['loss_imitation'].update(loss_weight=0.1)
    return dict(pair, distiller=distiller)


def rows():
    """What both predict is recorded and compared as well."""
    pair = tiny_ssd_with_adapters()
    distiller = pair['distiller']
    for side in ('student', 'teacher'):
        distiller[f'{side}_recorders']['rows'] = dict(type='Predictions')
    distiller['distill_losses']['loss_rows'] = dict(type='PredictionRows')
    distiller['loss_forward_mappings']['loss_rows'] = {
        f'preds_{side[0].upper()}': dict(recorder='rows', from_student=side == 'student')
        for side in ('student', 'teacher')
    }
    return pair


def dense():
    """Every method that compares dense heads; what draws at random or uses batch statistics not.

    PKD, CWD and CrossKD's alignment are by definition of the images of a process.
    """
    names = ('bckd', 'ld', 'prediction_rows', 'score_imitation', 'mgd', 'crosskd', 'cross_head')
    pair = taught('gfl', 'gfl', *names, 'soft_ground_truth')
    losses = pair.distiller.distill_losses
    losses.ld_loss_sides.score_thr = 0.0
    losses.soft_ground_truth_loss_taught.update(soft=False, score_thr=0.0)
    losses.crosskd_loss_cross.align = losses.cross_head_loss_cross.align = False
    pair.distiller.connectors.mgd_masked.connector.lambda_mgd = 0.0
    return pair


def queries():
    """A DETR, without dropout, taught by one of another kind.

    Its own classes are divided by the objects of a process.
    """
    methods = ('matched_queries', 'prediction_rows')
    pair = taught('detr', 'deformable_detr', *methods, calculate_student_loss=False)
    for part in (pair.architecture.encoder, pair.architecture.decoder):
        part.layer_cfg.ffn_cfg.ffn_drop = 0.0
        for name in ('self_attn_cfg', 'cross_attn_cfg'):
            if name in part.layer_cfg:
                part.layer_cfg[name].dropout = 0.0
    return pair


def of_file():
    """A teacher that is a file: each batch brings its own detections."""
    found = method('soft_ground_truth').to_dict()['distiller']
    found['distill_losses']['loss_taught'].update(soft=False)
    return dict(
        tiny_ssd_with_adapters(), teacher=FileOfDetections(3, 'teacher.json'), distiller=found
    )


def with_detections(batches: list[dict]) -> list[dict]:
    """The teacher finds the objects, in each image one more."""
    for batch in batches:
        boxes = batch['data_samples'][0].gt_instances.bboxes
        found = torch.cat([boxes, torch.tensor([[4.0, 4, 40, 30]])])
        batch['teacher_detections'] = [(found, torch.eye(3)[torch.arange(len(found)) % 3])]
    return batches


def several(owned: bool = False):
    """A network and a file teach together, or two files, each of which owns classes."""
    found = taught('ssd', 'ssd', 'prediction_rows', 'soft_ground_truth', classes=['a', 'b', 'c'])
    losses = found.distiller.distill_losses
    losses.soft_ground_truth_loss_taught.update(soft=False, score_thr=0.0)
    first, second = (FileOfDetections(3, f'{name}.json') for name in ('first', 'second'))
    found.teacher = [
        dict(model=found.teacher, weight=2.0),
        dict(model=second, name='second'),
    ]
    if owned:
        found.teacher = [
            dict(model=first, name='first', classes=['a']),
            dict(model=second, name='second', classes=['b', 'c']),
        ]
    return found


def of_each(batches: list[dict]) -> list[dict]:
    """Both files find the same."""
    for batch in with_detections(batches):
        found = batch.pop('teacher_detections')
        batch.update(teacher_detections_first=found, teacher_detections_second=found)
    return batches


def unlabelled():
    found = taught('gfl', 'gfl', 'prediction_rows', 'soft_ground_truth', unlabelled='x')
    losses = found.distiller.distill_losses
    losses.soft_ground_truth_loss_taught.update(soft=False, score_thr=0.0)
    return found


def with_others(batches: list[dict]) -> list[dict]:
    """In each batch an image without annotations."""
    for seed, batch in enumerate(batches):
        other = raw_batch(1, boxes=2, seed=10 + seed)
        other['data_samples'][0].gt_instances = other['data_samples'][0].gt_instances[:0]
        for key, values in other.items():
            batch[key] = [*values, *batch[key]]  # it comes first
        batch['unlabelled'] = torch.tensor([True, False])
    return batches


def quantised():
    return dict(tiny_ssd_with_adapters(), quantize=dict(batches=2))


EMPTY = 'ssd, no objects'

# name: (pair, batches, scope, what is done to the model)
CASES = {
    'ssd': (tiny_ssd_with_adapters, images(3, 1), 'mmdet', None),
    'ssd, a rank without objects': (tiny_ssd_with_adapters, images(3, 0), 'mmdet', None),
    EMPTY: (tiny_ssd_with_adapters, images(0, 0), 'mmdet', None),
    'ssd, rows': (rows, images(3, 1), 'mmdet', None),
    'ssd, targets at once': (tiny_ssd_with_adapters, images(3, 0), 'mmdet', batch_targets),
    'ssd, terms off': (tiny_ssd_with_adapters, images(3, 1), 'mmdet', terms_off),
    'ssd, balanced': (balanced, images(3, 1), 'mmdet', None),
    'ssd, balanced, a rank without objects': (balanced, images(3, 0), 'mmdet', None),
    'ssd, scaled': (scaled, images(3, 1), 'mmdet', None),
    'ssd, scaled, a rank without objects': (scaled, images(3, 0), 'mmdet', None),
    'ssd, quantised': (quantised, images(3, 1), 'mmdet', None),
    'ssd, adapter off': (tiny_ssd_with_adapters, images(3, 1), 'mmdet', adapter_off),
    'ssd, a file of detections': (of_file, with_detections(images(3, 0)), 'mmdet', None),
    'several teachers, a rank without objects': (
        several,
        of_each(images(3, 0)),
        'mmdet',
        None,
    ),
    'several teachers, classes of their own': (
        partial(several, True),
        of_each(images(3, 1)),
        'mmdet',
        None,
    ),
    'unlabelled images, a rank without objects': (
        unlabelled,
        with_others(images(3, 0)),
        'mmdet',
        None,
    ),
    'dense': (dense, images(3, 1), 'mmdet', None),
    'dense, a rank without objects': (dense, images(3, 0), 'mmdet', None),
    'queries': (queries, images(3, 0), 'mmdet', None),
    'yolov5': (tiny_yolov5_pair, same_objects(images(3, 1)), 'mmyolo', None),
    'yolov5, unequal': (tiny_yolov5_pair, images(3, 1), 'mmyolo', None),
    'yolov5, unlabelled images': (
        partial(tiny_yolov5_pair, unlabelled='x'),
        with_others(same_objects(images(3, 1))),
        'mmyolo',
        None,
    ),
    'yolov5, a rank without objects': (tiny_yolov5_pair, images(3, 0), 'mmyolo', None),
}


def two_steps(case: str, rank: int | None) -> dict:
    """Weights before and after, and the losses of the first step."""
    pair, batches, scope, change = CASES[case]
    with DefaultScope.overwrite_default_scope(scope):
        torch.manual_seed(0)
        model = MODELS.build(pair())
        if change:
            change(model)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        freeze_bn(model)
        step = model if rank is None else MMDistributedDataParallel(model, broadcast_buffers=False)
        optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))
        losses = []
        for _ in range(2):
            batch = joined(batches) if rank is None else joined(batches[rank : rank + 1])
            batch = {**batch, **(fast_batch(batch) if scope == 'mmyolo' else {})}
            losses.append(step.train_step(batch, optimizer))
    first = {name: value.detach() for name, value in losses[0].items()}
    return dict(before=before, after=model.state_dict(), losses=first)


def trained(images: list[dict], folder, max_skips: int = 0) -> dict:
    """The weights after a training in which the ranks take turns in ``images``."""
    torch.manual_seed(0)
    model = MMDistributedDataParallel(
        MODELS.build(tiny_ssd_with_adapters()), broadcast_buffers=False
    )
    hooks = [dict(type='NonFiniteHook', max_skips=max_skips)]
    tiny_runner(model, images, folder, custom_hooks=hooks).train()
    return {name: p.detach() for name, p in model.module.named_parameters()}


def nan_on_one_rank(folder) -> dict:
    """What both ranks do when the second batch of rank 1 is not finite."""
    good = images(3, 1, 2, 1, 1, 2)
    bad = images(3, 1, 2, 1, 1, 2)
    bad[3]['inputs'][0] = bad[3]['inputs'][0] * float('nan')
    found = {}
    with DefaultScope.overwrite_default_scope('mmdet'):
        found['skipped'] = trained(bad, folder / 'skipped', max_skips=1)
        found['without'] = trained(good[:2] + good[4:], folder / 'without')
        try:
            trained(bad, folder / 'stopped')
        except NonFiniteError as error:
            found['message'] = str(error)
    return found


def form_of_the_teacher(rank: int) -> dict:
    """What a rank takes, each of which has other figures of its own."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = freeze_bn(MODELS.build(tiny_ssd_with_adapters()))
        return choose_form(model, images(3, 1)[rank], 100)[0]


class Unpicklable(ValueError):
    """An error that cannot be handed to another process."""

    def __init__(self, message: str, more: str) -> None:
        super().__init__(message)


def checks_of_the_first(rank: int) -> list:
    """What each rank gets of a check that passes, and of two that do not."""

    def passes() -> str:
        assert rank == 0, 'a file is read once'
        return 'a note'

    def fails() -> str:
        assert rank == 0
        raise FileNotFoundError('ann_file must exist')

    def fails_unpicklably() -> str:
        raise Unpicklable('ann_file must be', 'more')

    found: list = [on_first_rank(passes)]
    for check in (fails, fails_unpicklably):
        try:
            on_first_rank(check)
        except Exception as error:
            found += [(type(error).__name__, str(error))]
    return found


def run_rank(rank: int, folder) -> None:
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    found = {}
    if available('yolov5'):  # first as MMYOLO itself does it
        found['unpatched yolov5'] = two_steps('yolov5, a rank without objects', rank)
        normalise_yolov5_over_ranks()
    found |= {case: two_steps(case, rank) for case in CASES if available(case)}
    found['nan'] = nan_on_one_rank(folder)
    found['checks'] = checks_of_the_first(rank)
    found['form'] = form_of_the_teacher(rank)
    # mmdet's own SSD, without the patch in mmkd/compat/detectors.py
    SSDHead.get_targets = SSDHead.get_targets.__wrapped__
    found['unpatched'] = two_steps('ssd', rank)
    torch.save(found, folder / f'{rank}.pth')
    distributed.destroy_process_group()


def available(case: str) -> bool:
    return 'yolov5' not in case or importlib.util.find_spec('mmyolo') is not None


@pytest.fixture(scope='module')
def ranks(tmp_path_factory) -> list[dict]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp('ranks')
    processes = [start(run_rank, rank, folder) for rank in (0, 1)]
    for process in processes:
        process.join(240)
        assert process.exitcode == 0
    return [torch.load(folder / f'{rank}.pth', weights_only=False) for rank in (0, 1)]


def distance(found: dict, expected: dict) -> float:
    """Largest difference of a weight, as a share of the largest change of one in the two steps."""
    moved = max((v - expected['before'][k]).abs().max() for k, v in expected['after'].items())
    assert moved > 1e-4
    return max((v - expected['after'][k]).abs().max() / moved for k, v in found['after'].items())


def assert_equal_losses(found: list[dict], alone: dict, names: list[str]) -> None:
    for name in names:
        mean = sum(rank['losses'][name] for rank in found) / len(found)
        torch.testing.assert_close(mean, alone['losses'][name], rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize('case', [case for case in CASES if case != EMPTY])
def test_the_losses_and_weights_of_one_process(case, ranks):
    if not available(case):
        pytest.skip('needs the extra [yolo]')
    alone, found = two_steps(case, None), [rank[case] for rank in ranks]
    assert max(distance(rank, alone) for rank in found) < 1e-3
    names = [name for name in alone['losses'] if 'loss' in name]
    assert any(name.startswith('distill.') for name in names)
    assert_equal_losses(found, alone, names)


def test_no_object_on_any_rank(ranks):
    """SSD has no term then, on any number of processes: nothing moves, nothing is NaN."""
    for found in [two_steps(EMPTY, None), *(rank[EMPTY] for rank in ranks)]:
        assert all(value == 0 for name, value in found['losses'].items() if 'loss' in name)
        assert all(torch.equal(v, found['before'][k]) for k, v in found['after'].items())


def test_mmyolos_yolov5_alone_is_not_the_same_on_two_ranks(ranks):
    """Else its patch is no longer needed."""
    if not available('yolov5'):
        pytest.skip('needs the extra [yolo]')
    alone = two_steps('yolov5, a rank without objects', None)
    assert distance(ranks[0]['unpatched yolov5'], alone) > 1e-2


def test_mmdets_ssd_alone_is_not_the_same_on_two_ranks(ranks):
    """Else the patch is no longer needed."""
    assert distance(ranks[0]['unpatched'], two_steps('ssd', None)) > 1e-2


def test_the_first_rank_checks_and_its_error_stops_all(ranks):
    first, second = (found['checks'] for found in ranks)
    assert first[:2] == second[:2] == ['a note', ('FileNotFoundError', 'ann_file must exist')]
    assert first[2] == ('Unpicklable', 'ann_file must be')
    assert second[2] == ('RuntimeError', 'Unpicklable: ann_file must be')


def test_the_ranks_take_one_form_of_the_teacher(ranks):
    assert ranks[0]['form'] == ranks[1]['form'] is not None


def test_one_rank_that_is_not_finite_skips_or_stops_all(ranks):
    first, second = (found['nan'] for found in ranks)
    assert first['message'] == second['message']
    for part in ('iteration 2', 'rank 1: ', 'student.loss_cls = nan', 'image3.jpg'):
        assert part in first['message']
    assert 'image2.jpg' not in first['message']
    for name, value in first['skipped'].items():
        assert torch.equal(value, second['skipped'][name]), name
        torch.testing.assert_close(value, first['without'][name])
