"""A new loss is one file: checks, log, doctor, cache and contract ask the loss itself."""

import inspect
import sys

import pytest
import torch
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS

from mmkd import losses
from mmkd.algorithms.loss_watch import excused
from mmkd.cache.record import plan_fields
from mmkd.doctor.report import Section
from mmkd.doctor.step import check_losses, check_statistics, take_step
from tests.losses import test_contract
from tests.losses.contract import LossCase, shape_faults
from tests.losses.ssd_inputs import NUM_CLASSES, maps
from tests.tiny import raw_batch, tiny_pair, tiny_ssd

NEW_LOSS = '''
from mmrazor.registry import MODELS
from torch import nn

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import flatten_levels, paired_levels
from mmkd.losses.statistic import Statistic


@MODELS.register_module()
class SureClasses(nn.Module):
    """The square of the classes' difference where the teacher is sure of an object."""

    needs_equal = ('classes', 'priors')
    softmax_scores = ('preds_S', 'preds_T')
    teacher_reads = {'preds_T': 'softmax'}
    idle_without = 'sure'
    statistics = {'sure': Statistic('share of sure priors', 'Lower score_thr.')}

    def __init__(self, num_classes, score_thr=0.5, loss_weight=1.0):
        super().__init__()
        self.num_classes, self.score_thr, self.loss_weight = num_classes, score_thr, loss_weight
        self.logs = {}

    def forward(self, preds_S, preds_T):
        width = self.num_classes + 1
        levels_S, levels_T = paired_levels(preds_S, preds_T, 'classes and priors')
        student, teacher = (
            flatten_levels(levels, width).float().softmax(-1) for levels in (levels_S, levels_T)
        )
        sure = (teacher[..., -1] < 1 - self.score_thr).float()
        self.logs = {'sure': sure.mean()}
        total = (sure * (student - teacher).square().sum(-1)).sum()
        return self.loss_weight * total / across_ranks(sure.sum(), total)
'''


@pytest.fixture(scope='module', autouse=True)
def new_loss(tmp_path_factory):
    """Put the file into mmkd/losses for a while."""
    folder = tmp_path_factory.mktemp('losses')
    (folder / 'sure_classes.py').write_text(NEW_LOSS)
    with pytest.MonkeyPatch.context() as patch, DefaultScope.overwrite_default_scope('mmdet'):
        patch.setattr(losses, '__path__', [*losses.__path__, str(folder)])
        found = losses._registered()
        yield found['SureClasses']
        MODELS._module_dict.pop('SureClasses')
        sys.modules.pop('mmkd.losses.sure_classes')


def pair_with(loss=None, **changes):
    """The tiny pair, taught by the new loss alone."""
    config = tiny_pair(**changes)
    distiller = config['distiller']
    settings = dict(type='SureClasses', **{'num_classes': 3, 'score_thr': 0.2, **(loss or {})})
    mapping = distiller['loss_forward_mappings']['loss_soft']
    distiller['distill_losses'] = dict(loss_sure=settings)
    distiller['loss_forward_mappings'] = dict(
        loss_sure={key: mapping[key] for key in ('preds_S', 'preds_T')}
    )
    torch.manual_seed(0)
    return MODELS.build(config)


def test_a_file_in_the_folder_is_a_loss_of_mmkd(new_loss):
    assert new_loss.__module__ == 'mmkd.losses.sure_classes'
    assert MODELS.get('SureClasses') is new_loss
    assert 'SureClasses' not in losses.__all__, 'the file is not there for good'


@pytest.mark.parametrize(
    'changes, told',
    [
        (dict(teacher=tiny_ssd(classes=5)), 'loss_sure .SureClasses. needs equal classes'),
        (dict(loss=dict(num_classes=4)), 'loss_sure.num_classes must be the num_classes of'),
    ],
)
def test_the_checks_before_a_run_know_it(changes, told):
    with pytest.raises(ValueError, match=told):
        pair_with(**changes)


def test_a_head_without_a_softmax_is_refused():
    student, teacher = tiny_ssd(), tiny_ssd()
    for model in (student, teacher):
        model['bbox_head'] = dict(
            type='RetinaHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1
        )
        model['neck'] = dict(
            type='FPN', in_channels=[16, 32, 64], out_channels=16, num_outs=5, start_level=0
        )
    with pytest.raises(ValueError, match='classes of one softmax in each row, since SureClasses'):
        pair_with(architecture=student, teacher=teacher)


def test_the_log_and_the_doctor_know_it():
    pair = pair_with()
    step = take_step(pair, raw_batch())
    assert [key for key in step.losses if key.startswith('distill.')] == [
        'distill.loss_sure',
        'distill.sure_sure',
    ]
    section = Section('Statistics', ('statistic', 'value', 'meaning'))
    check_statistics(section, pair, step)
    share = step.losses['distill.sure_sure'].item()
    assert section.rows == [['distill.sure_sure', share, 'share of sure priors']] and share > 0
    assert not section.findings and 'distill.sure_sure' not in step.terms


def test_the_doctor_tells_its_remedy_and_that_it_is_excused():
    pair = pair_with(loss=dict(score_thr=1.0))
    step = take_step(pair, raw_batch())
    statistics, terms = Section('Statistics', ()), Section('Losses', ())
    check_statistics(statistics, pair, step)
    assert [(f.found, f.change) for f in statistics.findings] == [
        ('distill.sure_sure is 0 on this batch.', 'Lower score_thr.')
    ]
    check_losses(terms, pair, step)
    assert excused(pair.distiller.distill_losses['loss_sure']) and not terms.findings


def test_the_cache_keeps_what_it_reads_by_its_codec():
    pair = pair_with()
    [field] = plan_fields(pair.distiller, pair.student)
    assert (field['codec'], field['width']) == ('sparse_softmax', 4)


def inputs(seed):
    width = NUM_CLASSES + 1
    return {'preds_S': maps(seed, width, 2.0), 'preds_T': maps(seed + 100, width, 2.0)}


def unsure():
    teacher = maps(100, NUM_CLASSES + 1)
    for level in teacher:
        level.unflatten(1, (-1, NUM_CLASSES + 1))[:, :, -1] = 50.0
    return inputs(0) | {'preds_T': teacher}


CONTRACT = {
    name: test
    for name, test in vars(test_contract).items()
    if name.startswith('test_') and next(iter(inspect.signature(test).parameters)) == 'case'
}
OTHERS = {'seed': 0, 'dtype': torch.bfloat16}


@pytest.mark.parametrize('test', CONTRACT.values(), ids=CONTRACT)
def test_the_contract_holds_it(test, new_loss):
    faults = shape_faults('must agree in classes and priors', r'must be a \(B, C, H, W\) map')
    case = LossCase(
        build=lambda **options: new_loss(NUM_CLASSES, **options),
        inputs=inputs,
        empty=unsure,
        faults=faults,
        log_keys=('sure',),
    )
    names = [name for name in inspect.signature(test).parameters if name != 'case']
    if names == ['fault', 'match']:
        for fault, match in faults:
            test(case, fault, match)
    else:
        test(case, **{name: OTHERS[name] for name in names})
