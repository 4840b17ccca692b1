"""A loss that would teach something else than meant is refused before the run, no sound one is."""

import warnings
from pathlib import Path

import mmrazor
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from torch import nn

from mmkd.losses import ObjScaledBoxCls
from mmkd.rules.distiller_rules import DIFFERENCE
from tests.tiny import raw_batch, tiny_pair, tiny_ssd, tiny_yolov5, tiny_yolov5_pair
from tests.zoo import pair, small

pytestmark = pytest.mark.usefixtures('mmdet_scope')

KL = dict(type='KLDivergence', tau=1.0)
CWD = dict(type='ChannelWiseDivergence')
L2 = dict(type='L2Loss')
FEATURES = ('s_feature', 't_feature')
OBJ = dict(type='ObjScaledBoxCls', num_classes=3)


@MODELS.register_module(force=True)
class OwnHead(MODELS.get('RetinaHead')):
    """A user's head: a subclass."""


@MODELS.register_module(force=True)
class OwnRows(nn.Module):
    """A user's loss, which may find itself which rows belong together."""

    matches_rows = False

    def __init__(self, matches_rows=False):
        super().__init__()
        self.matches_rows = matches_rows

    def forward(self, preds_S, preds_T):
        return preds_S.sum() * 0.0


def build(*args, **kwargs):
    config = pair(*args, **kwargs) if len(args) > 1 else args[0]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # MMRazor's own, of names
        return MODELS.build(config)


def softmax_head(name):
    """A head whose classes are a softmax with the background."""
    return small(name, loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False))


# Names


@pytest.mark.parametrize('name, rename', [('kd', 'loss_kd'), ('Loss_KD', 'loss_kd')])
def test_a_name_without_loss(name, rename):
    told = f'distill_losses.{name} is not back-propagated.*"{name}". Rename it to {rename}, in loss'
    with pytest.raises(ValueError, match=told):
        build('retinanet', 'retinanet', L2, 'neck', FEATURES, name=name, data_idx=0)


@pytest.mark.parametrize('name', ['loss', 'kd_loss', 'gloss', 'closses'])
def test_a_name_with_loss_anywhere(name):
    """mmengine looks for the letters, wherever they are."""
    model = build('retinanet', 'retinanet', L2, 'neck', FEATURES, name=name, data_idx=0)
    losses = model(**model.data_preprocessor(raw_batch(), training=True), mode='loss')
    assert model.parse_losses(losses)[1][f'distill.{name}'] > 0


def test_a_loss_that_is_off_may_have_any_name():
    build(
        'retinanet', 'retinanet', dict(L2, loss_weight=0), 'neck', FEATURES, name='kd', data_idx=0
    )


def test_no_statistic_is_added_to_the_loss():
    config = tiny_pair()
    model = build(ConfigDict(config)).train()
    model.distiller.distill_losses.loss_soft.forward = lambda **_: torch.zeros(())
    model.distiller.distill_losses.loss_soft.logs = dict(
        loss_box=torch.ones(()), loss=torch.ones(())
    )
    losses = model(**model.data_preprocessor(raw_batch(), training=True), mode='loss')
    assert losses['distill.soft_box'] == losses['distill.soft_value'] == 1
    assert [k for k in losses if 'loss' in k and k.startswith('distill')] == [
        'distill.loss_soft',
        'distill.loss_bounded',
    ]


# Domain


@pytest.mark.parametrize(
    'name, source, told',
    [
        ('retinanet', 'bbox_head.retina_cls', 'scores are sigmoids.*ChannelWiseDivergence'),
        ('gfl', 'bbox_head.gfl_cls', 'scores are sigmoids'),
        ('fcos', 'bbox_head.conv_cls', 'scores are sigmoids'),
        ('atss', 'bbox_head.atss_cls', 'scores are sigmoids'),
        ('yolox', 'bbox_head.multi_level_conv_cls.1', 'scores are sigmoids'),
        ('faster_rcnn', 'rpn_head.rpn_cls', 'scores are sigmoids'),
        ('retinanet', 'bbox_head.retina_reg', 'coordinates of boxes.*L1Loss'),
        ('gfl', 'bbox_head.gfl_reg', '17 bins of each of 4 sides.*cls_out_channels=17'),
        ('fcos', 'bbox_head.conv_centerness', 'one number for each prior'),
        ('yolox', 'bbox_head.multi_level_conv_obj.0', 'one number for each prior'),
        ('yolov3', 'bbox_head.convs_pred.0', 'boxes, objectness and classes.*ObjScaledBoxCls'),
    ],
)
def test_a_softmax_over_what_has_none(name, source, told):
    with pytest.raises(
        ValueError, match=rf'loss_kd\.preds_S must be the classes.*{source}.*{told}'
    ):
        build(name, name, KL, source, record_idx=0)


def test_a_softmax_over_sigmoids_in_rows_and_in_a_subclass():
    """One class would give exactly 0, and beside another term nobody would say so."""
    flatten = dict(type='FlattenCls', cls_out_channels=1)
    own = small('retinanet', classes=1, type='OwnHead')
    for source, extra in (('bbox_head', dict(data_idx=0)), ('bbox_head.retina_cls', {})):
        with pytest.raises(ValueError, match='OwnHead, whose scores are sigmoids'):
            build(own, own, KL, source, connector=flatten, record_idx=0, **extra)


@pytest.mark.parametrize(
    'loss, arguments',
    [
        (dict(type='DISTLoss'), ('logits_S', 'logits_T')),
        (dict(type='mmdet.KnowledgeDistillationKLDivLoss'), ('pred', 'soft_label')),
    ],
)
def test_each_loss_with_a_softmax(loss, arguments):
    with pytest.raises(ValueError, match=f'loss_kd.{arguments[0]} must be the classes'):
        build('gfl', 'gfl', loss, 'bbox_head.gfl_cls', arguments, record_idx=0)


def test_a_softmax_over_priors_and_classes():
    with pytest.raises(ValueError, match=r'the 4 of each of 4 priors.*cls_out_channels=4'):
        build(tiny_ssd(), tiny_ssd(), KL, 'bbox_head.cls_convs.0')
    wide = dict(type='FlattenCls', cls_out_channels=16)
    with pytest.raises(ValueError, match=r'rows of 16. Set its cls_out_channels=4'):
        build(tiny_ssd(), tiny_ssd(), KL, 'bbox_head', connector=wide, data_idx=0)


@pytest.mark.parametrize(
    'make',
    [
        # softmax heads, in rows: the head's whole output, and one level of it
        lambda: pair(
            tiny_ssd(), tiny_ssd(), KL, 'bbox_head', data_idx=0,
            connector=dict(type='FlattenCls', cls_out_channels=4),
        ),
        lambda: pair(
            tiny_ssd(), tiny_ssd(), KL, 'bbox_head.cls_convs.0',
            connector=dict(type='FlattenCls', cls_out_channels=4),
        ),
        # a distribution over distances, side by side (LD)
        lambda: pair(
            'gfl', 'gfl', KL, 'bbox_head.gfl_reg', record_idx=0,
            connector=dict(type='FlattenCls', cls_out_channels=17),
        ),
        lambda: pair(
            'gfl', 'gfl', KL, 'bbox_head', data_idx=1,
            connector=dict(type='FlattenCls', cls_out_channels=17),
        ),
        # features of necks and of towers
        lambda: pair('retinanet', 'fcos', KL, 'neck', data_idx=0),
        lambda: pair('retinanet', 'retinanet', KL, 'bbox_head.cls_convs.0', record_idx=1),
        lambda: pair('gfl', 'gfl', KL, 'bbox_head.cls_convs.0.conv', record_idx=1),
        # a softmax over the cells of a map, and none
        lambda: pair('retinanet', 'retinanet', CWD, 'bbox_head.retina_cls', record_idx=0),
        lambda: pair('gfl', 'gfl', L2, 'bbox_head.gfl_reg', FEATURES, record_idx=4),
        # one softmax per cell
        lambda: pair(*[softmax_head('fcos')] * 2, KL, 'bbox_head.conv_cls', record_idx=0),
        # the user's own connector may bring anything into rows
        lambda: pair(
            'retinanet', 'retinanet', KL, 'bbox_head.retina_cls', record_idx=0,
            connector=dict(
                type='TorchFunctionalConnector', function_name='softmax', func_args=dict(dim=1)
            ),
        ),
    ],
)  # fmt: skip
def test_sound_softmaxes_take_a_step(make):
    model = build(make()).train()
    losses = model(**model.data_preprocessor(raw_batch(), training=True), mode='loss')
    assert losses['distill.loss_kd'] > 0


def test_losses_of_softmax_heads_on_a_sigmoid_head():
    """WeightedSoftCls would take the last class for the background."""
    soft = dict(type='TeacherScaledCls', num_classes=2)
    with pytest.raises(ValueError, match='sigmoids, without the background'):
        build('retinanet', 'retinanet', soft, 'bbox_head', data_idx=0)
    with pytest.raises(
        ValueError, match=r'which are coordinates of boxes\. Map it to the class maps'
    ):
        build(tiny_ssd(), tiny_ssd(), soft, 'bbox_head', data_idx=1)


def test_the_classes_of_a_loss_are_the_heads():
    """Of 4 * (3 + 1) channels, 1 + 1 would fit, too, and mix priors."""
    soft = dict(type='TeacherScaledCls', num_classes=1)
    with pytest.raises(
        ValueError, match=r'num_classes of SSDHead.*3, but got 1. Set num_classes=3'
    ):
        build(tiny_ssd(), tiny_ssd(), soft, 'bbox_head', data_idx=0)


@pytest.mark.parametrize(
    'generator, coder, told',
    [
        ({}, {}, None),
        (dict(min_sizes=[9, 16, 32, 48]), {}, r'loss_kd\.prior_generator must make the priors'),
        ({}, dict(target_stds=[1.0] * 4), r"loss_kd\.bbox_coder must be that of the student's SSD"),
    ],
)
def test_the_priors_and_coder_of_a_loss_are_the_heads(generator, coder, told):
    head = tiny_ssd()['bbox_head']
    config = pair(tiny_ssd(), tiny_ssd(), {}, 'bbox_head', data_idx=1)
    config.distiller.distill_losses.loss_kd = dict(
        type='TeacherScaledReg',
        box_loss='giou',
        prior_generator=dict(head['anchor_generator'], **generator),
        bbox_coder=dict(head['bbox_coder'], **coder),
    )
    config.distiller.loss_forward_mappings.loss_kd.scores_T = dict(
        recorder='record', from_student=False, data_idx=0
    )
    if told is None:
        build(config)
    else:
        with pytest.raises(ValueError, match=told):
            build(config)


@pytest.mark.parametrize('name', ['fcos', 'atss'])
def test_centerness_is_no_objectness(name):
    with pytest.raises(
        ValueError, match='third map is centerness: it is not trained on background'
    ):
        build(name, name, dict(OBJ, box_loss='l2'), 'bbox_head')


def test_a_softmax_has_no_objectness():
    with pytest.raises(ValueError, match=r'SSDHead, whose scores are a softmax\. Take TeacherSc'):
        build(tiny_ssd(), tiny_ssd(), dict(OBJ, box_loss='l2'), 'bbox_head')


@pytest.mark.parametrize(
    'name, coder, told',
    [
        ('retinanet', None, r"got 'yolov5'.*DeltaXYWHBBoxCoder.*has none for this head"),
        ('yolox', 'yolov5', r"got 'yolov5'.*coder of YOLOX. Set bbox_coder='yolox'"),
        ('yolox', None, None),  # taken from the head
        ('yolox', 'yolox', None),
    ],
)
def test_the_coder_of_a_loss_is_the_heads(name, coder, told):
    loss = dict(OBJ, **(dict(bbox_coder=coder) if coder else {}))
    if told is None:
        build(name, name, loss, 'bbox_head')
    else:
        with pytest.raises(ValueError, match=rf'loss_kd\.bbox_coder must name.*{told}'):
            build(name, name, loss, 'bbox_head')


def test_the_coder_does_not_matter_where_raw_numbers_are_compared():
    build('retinanet', 'retinanet', dict(OBJ, box_loss='l2'), 'bbox_head')
    build('retinanet', 'retinanet', dict(OBJ, box_weight=0.0), 'bbox_head')
    assert ObjScaledBoxCls(3).bbox_coder == 'yolov5'


def test_yolov3_and_yolov5_and_their_coders():
    pytest.importorskip('mmyolo')
    split = dict(type='SplitPredMaps', num_classes=3)
    with pytest.raises(ValueError, match=r"YOLOBBoxCoder. Set bbox_coder='yolov3'"):
        loss = dict(OBJ, bbox_coder='yolov5')
        build('yolov3', 'yolov3', loss, 'bbox_head', connector=split)
    built = build('yolov3', 'yolov3', OBJ, 'bbox_head', connector=split)
    assert built.distiller.distill_losses['loss_kd'].bbox_coder == 'yolov3', 'that of the head'
    build('yolov3', 'yolov3', dict(OBJ, bbox_coder='yolov3'), 'bbox_head', connector=split)
    build(ConfigDict(tiny_yolov5_pair()))
    config = ConfigDict(tiny_yolov5_pair())
    config.distiller.distill_losses.loss_box.bbox_coder = 'yolox'
    with pytest.raises(ValueError, match=r"YOLOv5BBoxCoder. Set bbox_coder='yolov5'"):
        build(config)
    config = pair(
        *(dict(tiny_yolov5(), _scope_='mmyolo') for _ in range(2)),
        KL,
        'bbox_head.head_module.convs_pred.0',
    )
    with pytest.raises(ValueError, match='boxes, objectness and classes of all priors'):
        build(config)


def test_boxes_in_strides_are_no_boxes_in_pixels():
    """FCOS with norm_on_bbox: student and its own copy would differ by 8, 16, 32 per level."""
    own = small('fcos', norm_on_bbox=True)
    with pytest.raises(ValueError, match=r'distances in strides while training.*in pixels in eval'):
        build(own, own, dict(type='PKDLoss'), 'bbox_head', data_idx=1)
    build(own, own, L2, 'bbox_head.conv_reg', FEATURES, record_idx=0)
    build('fcos', 'fcos', dict(type='PKDLoss'), 'bbox_head', data_idx=1)


# Rows


@pytest.mark.parametrize(
    'name, source, kind, drawn',
    [
        ('faster_rcnn', 'roi_head.bbox_head.fc_cls', 'ModuleOutputs', 'proposals'),
        ('faster_rcnn', 'roi_head.bbox_head.fc_reg', 'ModuleInputs', 'proposals'),
        ('faster_rcnn', 'roi_head.bbox_roi_extractor', 'ModuleOutputs', 'proposals'),
        ('mask_rcnn', 'roi_head.mask_head.conv_logits', 'ModuleOutputs', 'proposals'),
        ('detr', 'bbox_head.fc_cls', 'ModuleOutputs', 'queries'),
        ('detr', 'decoder', 'ModuleOutputs', 'queries'),
        ('deformable_detr', 'bbox_head.cls_branches.1', 'ModuleOutputs', 'queries'),
        (
            'retinanet',
            'mmdet.models.dense_heads.retina_head.RetinaHead.predict_by_feat',
            'MethodOutputs',
            'detections',
        ),
        ('retinanet', 'mmcv.ops.nms.batched_nms', 'FunctionOutputs', 'detections'),
        (
            'faster_rcnn',
            'mmdet.models.roi_heads.bbox_heads.bbox_head.BBoxHead.forward',
            'MethodOutputs',
            'proposals',
        ),
        ('deformable_detr', 'bbox_head.reg_branches.1.4', 'ModuleOutputs', 'queries'),
    ],
)
def test_what_each_model_draws_for_itself_has_no_common_rows(name, source, kind, drawn):
    with pytest.raises(ValueError, match=rf'loss_kd \(L2Loss\).*hold {drawn}, which student and'):
        build(name, name, L2, source, FEATURES, kind=kind, record_idx=0)


@pytest.mark.parametrize(
    'name, source, kind, extra',
    [
        ('faster_rcnn', 'roi_head.bbox_roi_extractor', 'ModuleInputs', dict(data_idx=0)),
        ('faster_rcnn', 'rpn_head.rpn_cls', 'ModuleOutputs', {}),
        ('faster_rcnn', 'neck', 'ModuleOutputs', dict(data_idx=0)),
        ('detr', 'encoder', 'ModuleOutputs', {}),
        ('deformable_detr', 'bbox_head.cls_branches.2', 'ModuleOutputs', {}),  # of the encoder
        ('deformable_detr', 'bbox_head.reg_branches.2.4', 'ModuleOutputs', {}),
        (
            'faster_rcnn',
            'mmdet.models.dense_heads.rpn_head.RPNHead.loss_and_predict',
            'MethodInputs',
            dict(data_idx=0),
        ),
    ],
)
def test_what_both_see_of_the_same_image_has(name, source, kind, extra):
    build(name, name, L2, source, FEATURES, kind=kind, record_idx=0, **extra)


def test_a_loss_of_ones_own_may_match_rows(caplog):
    MMLogger.get_current_instance().addHandler(caplog.handler)
    own, source = dict(type='mmdet.OwnRows'), 'roi_head.bbox_head.fc_cls'
    build('faster_rcnn', 'faster_rcnn', dict(own, matches_rows=True), source)
    assert 'belong together' not in caplog.text
    build('faster_rcnn', 'faster_rcnn', own, source)
    assert 'matches_rows = True in its class' in caplog.text


def test_a_delivery_may_hand_rows_over():
    config = pair('faster_rcnn', 'faster_rcnn', L2, 'roi_head.bbox_head.fc_cls', FEATURES)
    config.distiller.distill_deliveries = dict(
        proposals=dict(
            type='MethodOutputs',
            max_keep_data=1,
            method_path='mmdet.models.dense_heads.rpn_head.RPNHead.predict_by_feat',
        )
    )
    build(config)


# What must be equal


def test_points_of_another_offset():
    differ = DIFFERENCE['priors']
    heads = [build(small('fcos')).bbox_head for _ in range(2)]
    assert differ(*heads) == ''
    heads[0].prior_generator.offset = 0
    assert differ(*heads) == 'their offset are 0 (student) and 0.5 (teacher)'


def test_heads_that_are_no_bbox_head_are_compared():
    teacher = small('faster_rcnn')
    teacher.rpn_head.anchor_generator.scales = [4]
    flatten = dict(type='FlattenCls', cls_out_channels=1)
    told = r'equal priors.*architecture\.rpn_head and model\.teacher\.rpn_head.*base anchors of lev'
    for other, refused in ((teacher, True), (small('faster_rcnn'), False)):
        config = pair('faster_rcnn', other, L2, 'rpn_head', FEATURES, connector=flatten, data_idx=0)
        if refused:
            with pytest.raises(ValueError, match=told):
                build(config)
        else:
            build(config)


# MMRazor's own configs

RAZOR = Path(mmrazor.__file__).parent / '.mim/configs/distill/mmdet'
SMALL = dict(faster='faster_rcnn', frcnn='faster_rcnn', retina='retinanet', fcos='fcos', gfl='gfl')


def stand_in(model: dict) -> str:
    """The small detector in the place of the one that a config names; RepPoints needs CUDA."""
    text = str(model.get('cfg_path') or model.get('type')).lower()
    names = dict(mask='mask_rcnn', **SMALL, reppoints='retinanet')
    return next(value for key, value in names.items() if key in text)


@pytest.mark.parametrize('path', sorted(RAZOR.rglob('*.py')), ids=lambda path: path.stem)
def test_the_distillers_that_mmrazor_ships(path):
    """The swin teacher's pyramid begins a level earlier: there resizing must be asked for."""
    model = Config.fromfile(path).model
    distiller = model.distiller
    for connector in (distiller.get('connectors') or {}).values():
        for key in ('in_channels', 'student_channels', 'teacher_channels'):
            connector.update({key: 16} if key in connector else {})
    student, teacher = (small(stand_in(model[key])) for key in ('architecture', 'teacher'))
    pair = ConfigDict(
        _scope_='mmrazor',
        type='DetectionDistill',
        architecture=student,
        teacher=teacher,
        distiller=distiller,
    )
    algorithm = build(pair).train()
    if 'swin' in path.stem:
        with pytest.raises(ValueError, match=r'loss_pkd_fpn0.*resize_stu=True or False'):
            algorithm.loss(*step(algorithm))
        for loss in distiller.distill_losses.values():
            loss.resize_stu = True
        algorithm = build(pair).train()
    losses = algorithm.loss(*step(algorithm))
    for name in distiller.distill_losses:
        assert losses[f'distill.{name}'] > 0


def step(algorithm):
    data = algorithm.data_preprocessor(raw_batch(size=160), training=True)
    return data['inputs'], data['data_samples']
