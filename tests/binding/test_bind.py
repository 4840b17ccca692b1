"""What a config leaves out is taken from the two models; what it states wrongly is refused."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmrazor.registry import MODELS as RAZOR
from torch import nn

from mmkd.algorithms.build_detector import build_detector
from mmkd.binding import bind
from mmkd.binding.probe import Probe
from mmkd.losses import ObjScaledBoxCls
from tests import zoo
from tests.tiny import method, tiny_pair, tiny_ssd, tiny_yolov5, tiny_yolov5_pair

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def ssd_pair(name='ssd_scaled', source='neck', **changes):
    """Tiny SSDs, whose necks give 16, 32, 64 and 32 channels, and 32, 64, 128 and 32."""
    distiller = method(name).to_dict()['distiller']
    for side in ('student', 'teacher'):
        distiller[f'{side}_recorders']['feature']['source'] = source
    return tiny_pair(distiller=distiller, student_loss_weights=None, **changes)


def build(pair):
    return MODELS.build(ConfigDict(copy.deepcopy(pair)))


def test_an_ssd_pair_states_no_classes_channels_priors_or_coder():
    pair = build(ssd_pair())
    losses, connectors = pair.distiller.distill_losses, pair.distiller.connectors
    head = pair.student.bbox_head
    assert losses['loss_soft'].num_classes == 3
    assert losses['loss_box'].prior_generator is head.prior_generator
    assert losses['loss_box'].bbox_coder is head.bbox_coder
    convs = [(c.in_channels, c.out_channels) for c in connectors['adapter'].convs]
    assert convs == [(16, 32), (32, 64), (64, 128), (32, 32)]
    sizes = [len(level.sizes) for level in connectors['mask'].anchors]
    assert sizes == list(head.prior_generator.num_base_priors)


def test_a_source_that_is_left_out_is_the_neck_or_the_backbone_of_a_model_without_one():
    recorder = dict(type='ModuleOutputs')
    student, teacher = build_detector(tiny_ssd()), build_detector(tiny_ssd())
    student.neck = None
    distiller = dict(student_recorders=dict(f=recorder), teacher_recorders=dict(f=dict(recorder)))
    bound = bind(distiller, student, teacher)
    assert bound['student_recorders']['f']['source'] == 'backbone'
    assert bound['teacher_recorders']['f']['source'] == 'neck'
    assert 'source' not in recorder, 'the config itself is not changed'


def test_a_yolov5_pair_and_what_it_changes_in_the_priors_of_its_head():
    pytest.importorskip('mmyolo')
    pair = tiny_yolov5_pair()
    for part in (*pair['distiller']['distill_losses'].values(), pair['distiller']['connectors']):
        part.pop('num_classes', None)
    pair['distiller']['connectors']['adapter'] = dict(type='FeatureAdapter', kernel_size=3)
    built = build(pair)
    [conv] = built.distiller.connectors['adapter'].convs
    assert (conv.in_channels, conv.out_channels) == (32, 64)
    assert built.distiller.distill_losses['loss_box'].num_classes == 3
    anchors = [[(8, 8)] * 3] * 3
    pair['distiller']['connectors']['mask']['prior_generator'] = dict(base_sizes=anchors)
    mask = build(pair).distiller.connectors['mask']
    assert [level.sizes.tolist() for level in mask.anchors] == [[[8.0, 8.0]] * 3] * 3
    assert mask.anchors[1].stride == (16, 16)


def test_mmrazors_connectors_get_the_channels_of_their_level():
    record = dict(type='ModuleOutputs', source='neck')
    fed = dict(recorder='maps', data_idx=1)
    distiller = dict(
        type='ConfigurableDistiller',
        student_recorders=dict(maps=record),
        teacher_recorders=dict(maps=record),
        connectors=dict(
            conv=dict(type='ConvModuleConnector'),
            mgd=dict(type='MGDConnector'),
            norm_S=[dict(type='ConvModuleConnector'), NORM],
            norm_T=NORM,
        ),
        distill_losses=dict(
            loss_l2=dict(type='L2Loss'),
            loss_mgd=dict(type='MGDLoss'),
            loss_cwd=dict(type='ChannelWiseDivergence'),
        ),
        loss_forward_mappings=dict(
            loss_l2=dict(
                s_feature=dict(fed, from_student=True, connector='conv'),
                t_feature=dict(fed, from_student=False),
            ),
            loss_mgd=dict(
                preds_S=dict(fed, from_student=True, connector='mgd'),
                preds_T=dict(fed, from_student=False),
            ),
            loss_cwd=dict(
                preds_S=dict(fed, from_student=True, connector='norm_S'),
                preds_T=dict(fed, from_student=False, connector='norm_T'),
            ),
        ),
    )
    built = build(tiny_pair(distiller=distiller, student_loss_weights=None)).distiller.connectors
    assert built['conv'].conv_module.conv.weight.shape[:2] == (64, 32)
    assert built['mgd'].align.weight.shape[:2] == (64, 32)
    assert built['norm_S'][1].norm.num_features == built['norm_T'].norm.num_features == 64


NORM = dict(type='NormConnector', norm_cfg=dict(type='BN', affine=False))


def test_channels_that_are_not_those_of_the_maps_are_refused_before_a_run():
    pair = ssd_pair()
    pair['distiller']['connectors']['adapter'].update(in_channels=[16, 32, 64, 64])
    rule = r'connectors\.adapter\.in_channels must be the channels .*\[16, 32, 64, 32\] of '
    with pytest.raises(ValueError, match=rule + r'student_recorders\.feature, but got .*Leave it'):
        build(pair)


def feature_pair(loss, preds=('preds_S', 'preds_T'), connector=None, teachers=None, **link):
    """The third maps of the necks, of 64 and 128 channels, compared behind a connector."""
    record = dict(type='ModuleOutputs', source='neck')
    fed = dict(recorder='maps', data_idx=2)
    theirs = dict(connector='teachers') if teachers else {}
    distiller = dict(
        type='ConfigurableDistiller',
        student_recorders=dict(maps=record),
        teacher_recorders=dict(maps=record),
        connectors=dict(ours=connector or dict(type='FeatureAdapter', **link)),
        distill_losses=dict(loss_maps=loss),
        loss_forward_mappings=dict(
            loss_maps={
                preds[0]: dict(fed, from_student=True, connector='ours'),
                preds[1]: dict(fed, from_student=False, **theirs),
            }
        ),
    )
    if teachers:
        distiller['connectors']['teachers'] = teachers
    return tiny_pair(distiller=distiller, student_loss_weights=None)


@pytest.mark.parametrize(
    ('loss', 'connector', 'argument'),
    [
        (dict(type='PKDLoss'), dict(type='FeatureAdapter', out_channels=64), 'out_channels'),
        (
            dict(type='ChannelWiseDivergence'),
            dict(type='ConvModuleConnector', in_channel=64, out_channel=64),
            'out_channel',
        ),
        (
            dict(type='MGDLoss'),
            dict(type='MGDConnector', student_channels=64, teacher_channels=32),
            'teacher_channels',
        ),
    ],
)
def test_what_a_connector_gives_must_be_the_channels_of_the_teacher(loss, connector, argument):
    rule = rf'connectors\.ours\.{argument} must be the channels of what its output is compared '
    with pytest.raises(ValueError, match=rule + r'with, 128 of teacher_recorders\.maps, but got'):
        build(feature_pair(loss, connector=connector))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(in_channels=8), r"in_channels must be the channels of the student's towers, 16, but"),
        (dict(out_channels=8), r"out_channels must be the channels of the teacher's towers, 16, b"),
        (dict(box_loss='sides'), r"'sides' needs a teacher.*\(GFL\), but got RetinaHead"),
        (dict(), ''),
    ],
)
def test_what_a_loss_states_of_towers_must_be_so(changes, message):
    config = zoo.taught('gfl', 'retinanet', 'crosskd')
    config.distiller.distill_losses.crosskd_loss_cross.update(
        **{'in_channels': 16, 'out_channels': 16, **changes}
    )
    if message:
        with pytest.raises(ValueError, match=message):
            RAZOR.build(config)
    else:  # of equal widths a convolution is stated all the same
        built = RAZOR.build(config).distiller.distill_losses['crosskd_loss_cross']
        assert len(built.adapters) == 2


def test_bins_must_be_equal_before_a_run():
    config = zoo.taught('gfl', 'gfl', 'ld')
    config.teacher.bbox_head.reg_max = 8
    with pytest.raises(ValueError, match=r'equal bins.*have 17 \(student\) and 9 \(teacher\)'):
        RAZOR.build(config)


def test_a_connector_of_each_level_states_the_channels_of_its_levels():
    config = zoo.taught('gfl', 'atss', 'mgd')
    nested = config.distiller.connectors.mgd_masked.connector
    nested.student_channels = 7
    with pytest.raises(ValueError, match=r'connector.student_channels must be the .*, but got 7'):
        RAZOR.build(config)
    nested.student_channels = 16
    RAZOR.build(config)


class OwnConnector(nn.Module):
    """Its channels are not those of the map that it gets; None and a dict mean what it says."""

    def __init__(self, in_channels, out_channels, num_classes, prior_generator):
        super().__init__()
        self.stated = (in_channels, out_channels, num_classes, prior_generator)
        self.conv = nn.Conv2d(in_channels // 2, out_channels, 1)

    def forward(self, maps):
        return self.conv(maps)


@pytest.fixture
def own_parts():
    RAZOR.register_module(module=OwnConnector, force=True)
    yield
    RAZOR.module_dict.pop('OwnConnector')


def test_channels_that_mean_another_thing_or_need_not_be_equal_stay(own_parts):
    adapter = dict(type='FeatureAdapter')
    hidden = [dict(adapter, out_channels=7), dict(adapter, in_channels=7, out_channels=128)]
    same = dict(adapter, in_channels=128, out_channels=7)
    own = dict(in_channels=128, out_channels=128, num_classes=None, prior_generator=dict(a=1))
    build(feature_pair(dict(type='PKDLoss'), connector=hidden))
    build(feature_pair(dict(type='PKDLoss'), teachers=same, out_channels=7))
    build(feature_pair(dict(type='ATLoss'), ('s_feature', 't_feature'), out_channels=7))
    pair = feature_pair(dict(type='PKDLoss'), connector=dict(own, type='OwnConnector'))
    assert build(pair).distiller.connectors['ours'].stated == tuple(own.values())


def test_what_is_stated_stays():
    pair = ssd_pair(source='backbone')
    anchors = [[(2.0, 3.0)]]
    pair['distiller']['connectors']['mask'].update(prior_generator=anchors[0], strides=[8, 16, 32])
    pair['distiller']['connectors']['adapter'].update(
        in_channels=[16, 32, 64], out_channels=[32, 64, 128]
    )
    connectors = build(pair).distiller.connectors
    assert [c.out_channels for c in connectors['adapter'].convs] == [32, 64, 128]
    assert connectors['mask'].anchors[0].sizes.tolist() == [[16.0, 24.0]]


def test_looking_at_the_models_changes_nothing_of_them():
    student, teacher = build_detector(tiny_ssd()), build_detector(tiny_ssd(width=16))
    student.train()
    student.backbone.bn1.eval()
    before = copy.deepcopy(student.state_dict())
    torch.manual_seed(0)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    bound = bind(ssd_pair()['distiller'], student, teacher)
    assert bound['connectors']['adapter']['in_channels'] == [16, 32, 64, 32]
    assert torch.equal(torch.rand(3), drawn)
    assert student.training and not student.backbone.bn1.training
    for key, value in student.state_dict().items():
        assert torch.equal(value.nan_to_num(), before[key].nan_to_num()), key
    assert not student.neck._forward_hooks


@pytest.mark.parametrize(('strides', 'size'), [(None, 128), ([8, 16, 32, 64, 100, 300], 320)])
def test_a_model_runs_once_at_a_size_that_is_large_enough_for_its_coarsest_level(strides, size):
    model = build_detector(tiny_ssd())
    if strides is not None:
        model.bbox_head.prior_generator.strides = [(stride, stride) for stride in strides]
    seen = []
    model.backbone.register_forward_hook(lambda _, images, __: seen.append(images[0].size(-1)))
    probe = Probe(model, dict(maps=dict(type='ModuleOutputs', source='neck')))
    assert probe.channels(dict(recorder='maps')) == [16, 32, 64, 32]
    assert seen == [size]


def test_the_classes_of_the_maps_do_where_none_are_given():
    maps = [[torch.randn(2, n * 3, 4, 4)] for n in (5, 4, 1)]
    other = [[torch.randn(2, n * 3, 4, 4)] for n in (5, 4, 1)]
    assert torch.equal(ObjScaledBoxCls()(maps, other), ObjScaledBoxCls(5)(maps, other))


def test_a_student_of_other_classes_than_a_loss_states_is_still_refused():
    pytest.importorskip('mmyolo')
    pair = tiny_yolov5_pair(teacher=dict(tiny_yolov5(0.125), _scope_='mmyolo'))
    pair['distiller']['distill_losses']['loss_output']['num_classes'] = 80
    with pytest.raises(ValueError, match=r'loss_output\.num_classes must be'):
        build(pair)
