"""What a loss is really fed: records, levels, shapes; and what it asserts."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from mmkd.algorithms.loss_watch import LossWatch, paired_arguments
from mmkd.config.config_errors import explain
from mmkd.losses import FineGrainedImitation
from tests.tiny import raw_batch, tiny_pair, tiny_ssd
from tests.zoo import pair, small

pytestmark = pytest.mark.usefixtures('mmdet_scope')

FEATURES = ('s_feature', 't_feature')
PKD = dict(type='PKDLoss')


class OwnLoss(nn.Module):
    """Of a user: the shapes are its own affair, as long as nothing is repeated unseen."""

    def forward(self, preds_S, preds_T):
        return preds_S.sum()


class Allowing(OwnLoss):
    accepts_other_shapes = True


def losses(config, size=64):
    model = MODELS.build(config).train()
    data = model.data_preprocessor(raw_batch(size=size), training=True)
    return model.loss(data['inputs'], data['data_samples'])


def feed(loss, own, other, arguments=('preds_S', 'preds_T'), settings=None):
    """Call a loss with what two sides give it, under watch."""
    distiller = SimpleNamespace(
        distill_losses=dict(loss_kd=loss),
        loss_forward_mappings=dict(
            loss_kd={
                key: dict(recorder='r', from_student=student)
                for key, student in zip(arguments, (True, False), strict=True)
            }
        ),
        **{
            f'{s}_recorders': SimpleNamespace(get_recorder=recorder) for s in ('student', 'teacher')
        },
    )
    watch = LossWatch(distiller, dict(distill_losses=dict(loss_kd=settings or {})))
    distiller.compute_distill_losses = lambda: loss(
        **dict(zip(arguments, (own, other), strict=True))
    )
    return watch.compute(distiller)


def recorder(name):
    return SimpleNamespace(data_buffer=[0], source='neck')


def razor(kind, **settings):
    return MODELS.build(dict(type=f'mmrazor.{kind}', **settings))


# Records


@pytest.mark.parametrize('name, source', [('gfl', 'gfl_cls'), ('retinanet', 'retina_reg')])
def test_a_module_that_levels_share_needs_the_index_of_the_level(name, source):
    """Without it the first level alone is taught: strides 16 and more would not be."""
    config = pair(name, name, dict(type='L2Loss'), f'bbox_head.{source}', FEATURES)
    told = rf'loss_kd\.s_feature must say by record_idx.*student_recorders\.record has 5.*{source}'
    with pytest.raises(ValueError, match=told):
        losses(config)
    config.distiller.loss_forward_mappings.loss_kd.s_feature.record_idx = 1
    with pytest.raises(ValueError, match=r'loss_kd\.t_feature must say.*Add record_idx \(0 to 4\)'):
        losses(config)
    config.distiller.loss_forward_mappings.loss_kd.t_feature.record_idx = 1
    assert losses(config)['distill.loss_kd'] > 0, 'levels may be left out on purpose'


def test_a_module_that_is_called_once_needs_none():
    config = pair(tiny_ssd(), tiny_ssd(), dict(type='L2Loss'), 'bbox_head.cls_convs.1', FEATURES)
    assert losses(config)['distill.loss_kd'] > 0


def test_a_record_or_an_item_that_does_not_exist():
    config = pair('retinanet', 'retinanet', dict(type='L2Loss'), 'bbox_head', FEATURES, data_idx=2)
    told = (
        r's_feature\.data_idx must be that of an item, but got 2, and student_recorders\.record '
        r'\("bbox_head"\) gives tuple of \[.*while the student trains'
    )
    with pytest.raises(ValueError, match=told):
        losses(config)
    for side in ('s_feature', 't_feature'):
        config.distiller.loss_forward_mappings.loss_kd[side] = dict(
            recorder='record', from_student=side == 's_feature', record_idx=side == 't_feature'
        )
    told = r't_feature\.record_idx .* got True?1?.*\("bbox_head"\) has 1: .*teacher is in eval'
    with pytest.raises(ValueError, match=told):
        losses(config)


# Shapes, by what the loss is known to need


def test_levels_of_other_strides_are_not_resized_unseen():
    config = pair('retinanet', 'retinanet', PKD, 'neck', data_idx=0)
    config.distiller.loss_forward_mappings.loss_kd.preds_S.data_idx = 1
    told = r'loss_kd \(PKDLoss\).*preds_S \(2, 16, 4, 4\) from student_recorders.record data_idx=1'
    with pytest.raises(ValueError, match=rf'{told}.*teacher_recorders.*resize_stu=True or False'):
        losses(config)
    for asked in (True, False):
        config.distiller.distill_losses.loss_kd.resize_stu = asked
        assert losses(config)['distill.loss_kd'] > 0


def test_a_loss_that_knows_of_shapes_is_told_the_connector_that_would_fit():
    class Imitation(FineGrainedImitation):
        def forward(self, preds_S, preds_T):
            return super().forward(
                preds_S, preds_T, [torch.ones(1, 1, 8, 8), torch.ones(1, 1, 4, 4)]
            )

    own = [torch.ones(1, 2, 8, 8), torch.ones(1, 4, 4, 4)]
    other = [torch.ones(1, 6, 8, 8), torch.ones(1, 8, 4, 4)]
    told = r'FeatureAdapter.*in_channels=\[2, 4\], out_channels=\[6, 8\]'
    with pytest.raises(ValueError, match=f'must agree in channels and strides.*{told}') as failed:
        feed(Imitation(), own, other)
    assert str(failed.value).count('FeatureAdapter') == 1
    feed(Imitation(), own, [torch.ones_like(level) for level in own])


def test_no_level_is_dropped():
    teacher = small('retinanet')
    teacher.neck.num_outs = 4
    teacher.bbox_head.anchor_generator.strides = [8, 16, 32, 64]
    with pytest.raises(
        ValueError, match=r'PKDLoss.*must get maps that fit each other.*level by lev'
    ):
        losses(pair('retinanet', teacher, PKD, 'neck'))
    assert losses(pair('retinanet', 'fcos', PKD, 'neck'))['distill.loss_kd'] > 0


def test_kl_is_not_taken_of_repeated_rows():
    """KLDivergence of (8, 4) and (1, 4) was below 0."""
    kl = razor('KLDivergence')
    with pytest.raises(ValueError, match=r'preds_S \(8, 4\) .*preds_T \(1, 4\)'):
        feed(kl, torch.randn(8, 4), torch.randn(1, 4))
    assert feed(kl, torch.randn(8, 4), torch.randn(8, 4)) > 0


MAP = (2, 8, 6, 4)


@pytest.mark.parametrize(
    'loss, arguments, own, other, fits',
    [
        ('L2Loss', FEATURES, MAP, (2, 1, 6, 4), False),
        ('L1Loss', FEATURES, MAP, (2, 8, 1, 4), False),
        ('ChannelWiseDivergence', None, MAP, (1, 8, 6, 4), False),
        ('ABLoss', FEATURES, MAP, (2, 8, 6, 1), False),
        ('OFDLoss', FEATURES, MAP, (8, 6, 4), False),
        ('DISTLoss', ('logits_S', 'logits_T'), (8, 4), (4,), False),
        ('PKDLoss', None, MAP, (2, 8, 6, 2), False),  # it looks at the height alone
        ('ATLoss', FEATURES, MAP, (2, 3, 6, 4), True),  # it averages over channels
        ('ATLoss', FEATURES, MAP, (2, 8, 3, 4), False),
        ('DistanceWiseRKD', None, MAP, (2, 3, 5, 7), True),  # it compares within a batch
        ('DistanceWiseRKD', None, MAP, (1, 8, 6, 4), False),
    ],
)
def test_shapes_of_mmrazors_losses(loss, arguments, own, other, fits):
    call = lambda: feed(  # noqa: E731
        razor(loss), torch.randn(own), torch.randn(other), arguments or ('preds_S', 'preds_T')
    )
    if fits:
        assert torch.isfinite(call())
    else:
        with pytest.raises(ValueError, match='must get maps that fit each other'):
            call()


def test_a_loss_that_resizes_by_the_height_alone():
    asked = dict(resize_stu=True)
    maps = torch.randn(2, 8, 6, 4), torch.randn(2, 8, 6, 2)
    with pytest.raises(ValueError, match='must get maps that fit'):
        feed(razor('PKDLoss', **asked), *maps, settings=asked)
    assert feed(razor('PKDLoss', **asked), maps[0], torch.randn(2, 8, 3, 2), settings=asked) > 0


def test_fbkd_is_fed_tuples_of_other_lengths():
    with torch.no_grad():
        fed = [
            MODELS.build(dict(type=f'mmrazor.FBKD{side}Connector', in_channels=8))(torch.randn(MAP))
            for side in ('Student', 'Teacher')
        ]
        assert feed(razor('FBKDLoss'), *fed, ('s_input', 't_input')) > 0
        with pytest.raises(ValueError, match='must get maps that fit'):
            feed(razor('FBKDLoss'), fed[0], (*fed[1][:-1], torch.randn(2, 1, 6, 4)),
                 ('s_input', 't_input'))  # fmt: skip


shapes = st.lists(st.integers(1, 3), min_size=1, max_size=4).map(tuple)


@given(shapes, shapes)
def test_a_loss_of_ones_own_gets_nothing_that_would_be_repeated(own, other):
    maps = torch.zeros(own), torch.zeros(other)
    try:
        repeated = own != other and (maps[0] + maps[1]).numel() > 0
    except RuntimeError:
        repeated = False  # torch would say so itself, unless the loss brings them to one shape
    assert feed(Allowing(), *maps) == 0
    if repeated:
        with pytest.raises(ValueError, match='must get maps that fit'):
            feed(OwnLoss(), *maps)
    else:
        assert feed(OwnLoss(), *maps) == 0


def test_how_a_loss_of_ones_own_says_that_it_may():
    with pytest.raises(ValueError, match='accepts_other_shapes = True in its class says so'):
        feed(OwnLoss(), torch.zeros(MAP), torch.zeros(2, 1, 6, 4))


def test_a_loss_of_ones_own_gets_as_many_levels():
    levels = [torch.zeros(1, 2, 3, 3)] * 3
    with pytest.raises(ValueError, match='must get maps that fit'):
        feed(OwnLoss(), levels, levels[:2])


def test_labels_and_masks_are_no_pair():
    own, other = dict(from_student=True), dict(from_student=False)
    assert paired_arguments(dict(preds_S=own, preds_T=other, mask=other)) == [
        ('preds_S', 'preds_T')
    ]
    assert paired_arguments(dict(s_feats=own, t_feats=other)) == [('s_feats', 't_feats')]
    assert paired_arguments(dict(student=own, teacher=other, gt_labels=own)) == [
        ('student', 'teacher')
    ]
    assert paired_arguments(dict(featS=own, featT=other)) == [('featS', 'featT')]
    assert paired_arguments(dict(pred=own, target=other)) == [('pred', 'target')]
    assert paired_arguments(dict(feature=own, attention=other)) == []
    assert paired_arguments(dict(stride=own, step=other)) == []


# Assertions


def test_an_assertion_without_words_names_key_and_shapes():
    """mmdet's SmoothL1Loss asserts equal sizes, and says no more."""
    loss = dict(type='mmdet.SmoothL1Loss')
    config = pair('retinanet', 'retinanet', loss, 'neck', ('pred', 'target'), data_idx=0)
    config.distiller.loss_forward_mappings.loss_kd.target.data_idx = 1
    fed = r'pred \(2, 16, 8, 8\) from student_recorders.record data_idx=0, target \(2, 16, 4, 4\)'
    told = r'AssertionError came of it: assert pred.size\(\) == target.size\(\)'
    with pytest.raises(ValueError, match=rf'SmoothL1Loss\) must be fed.*{fed}.*{told}') as caught:
        losses(config)
    run = Config(dict(model=config)).to_dict()
    led = 'model.distiller.distill_losses.loss_kd (SmoothL1Loss) must be fed'
    assert explain(caught.value, run).startswith(led)


def test_rows_where_maps_belong():
    config = pair(
        'retinanet', 'retinanet', PKD, 'neck', data_idx=0,
        connector=dict(type='FlattenCls', cls_out_channels=16),
    )  # fmt: skip
    with pytest.raises(ValueError, match=r'PKDLoss.*got preds_S \(128, 16\) from .*IndexError'):
        losses(config)


def test_a_watched_model_can_be_copied_and_pickled():
    """EMA copies the model."""
    model = MODELS.build(tiny_pair())
    twin = copy.deepcopy(model)
    assert twin.loss_watch is not model.loss_watch
    [hook] = twin.distiller.distill_losses.loss_soft._forward_pre_hooks.values()
    assert hook.watch is twin.loss_watch
    pickle.loads(pickle.dumps(model.distiller.distill_losses.loss_soft))
