"""Weights mean what their config says: a file's meta against the model that they go into."""

import re
from copy import deepcopy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.checkpoints.weight_meaning import differences
from mmkd.config.key_finder import dicts
from tests.tiny import tiny_pair, tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def tiny_dense(head: str = 'GFLHead', **changes) -> dict:
    """A detector of mmdet's dense heads on a ResNet-18 of 8 channels."""
    kinds = dict(
        GFLHead=dict(
            anchor_generator=dict(
                type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1,
                strides=[8, 16, 32],
            ),
            reg_max=7,
            norm_cfg=None,
        ),
        RetinaHead=dict(
            anchor_generator=dict(
                type='AnchorGenerator', ratios=[0.5, 1.0, 2.0], octave_base_scale=4,
                scales_per_octave=3, strides=[8, 16, 32],
            ),
        ),
        FCOSHead=dict(
            strides=[8, 16, 32], norm_on_bbox=True, centerness_on_reg=True, norm_cfg=None
        ),
    )  # fmt: skip
    return dict(
        type='SingleStageDetector',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
        ),
        backbone=dict(
            type='ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3), style='pytorch'
        ),
        neck=dict(
            type='FPN', in_channels=[16, 32, 64], out_channels=8, num_outs=3,
            add_extra_convs='on_output',
        ),
        bbox_head={
            'type': head, 'num_classes': 3, 'in_channels': 8, 'feat_channels': 8,
            'stacked_convs': 1, **kinds[head], **changes,
        },
    )  # fmt: skip


def text(model: dict, **config) -> str:
    """A training's config as mmengine writes it into a checkpoint."""
    config = Config(dict(model=deepcopy(model), **config), format_python_code=False)
    return config.pretty_text


def changed(model: dict, path: str, value) -> dict:
    """A copy of ``model`` with one setting changed."""
    model = deepcopy(model)
    *parents, last = path.split('.')
    node = model
    for key in parents:
        node = node[key]
    node[last] = value
    return model


def compare(trained: dict, used: dict) -> list[str]:
    found, notes = differences(MODELS.build(ConfigDict(used)), dict(cfg=text(trained)))
    assert not notes
    assert all(one.clear for one in found)
    return [one.what for one in found]


SSD, GFL, RETINA, FCOS = (
    tiny_ssd(), tiny_dense(), tiny_dense('RetinaHead'), tiny_dense('FCOSHead')
)  # fmt: skip
PRIORS = 'bbox_head.prior_generator.base_anchors'
CODER = dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2])


@pytest.mark.parametrize(
    'model, path, value, what',
    [
        (SSD, 'bbox_head.anchor_generator.min_sizes', [9.6, 19.2, 38.4, 57.6], PRIORS),
        (SSD, 'bbox_head.anchor_generator.ratios', [[3], [3], [3], [3]], PRIORS),
        (SSD, 'bbox_head.bbox_coder.target_stds', [1.0] * 4, 'bbox_head.bbox_coder.stds'),
        (SSD, 'bbox_head.bbox_coder.target_means', [0.5] * 4, 'bbox_head.bbox_coder.means'),
        (SSD, 'bbox_head.bbox_coder.type', 'LegacyDeltaXYWHBBoxCoder', 'bbox_head.bbox_coder.type'),
        (SSD, 'backbone.style', 'caffe', None),  # a ResNet-18 has no such thing
        (SSD, 'backbone.strides', (1, 1, 2, 2), 'backbone.strides'),
        (SSD, 'backbone.norm_cfg', dict(type='BN', eps=0.001), 'backbone.bn1.eps'),
        (RETINA, 'bbox_head.anchor_generator.octave_base_scale', 5, PRIORS),
        (RETINA, 'bbox_head.anchor_generator.center_offset', 0.5, PRIORS),
        (RETINA, 'bbox_head.anchor_generator.strides', [4, 8, 16], 'strides'),
        (RETINA, 'bbox_head.bbox_coder', CODER, 'bbox_head.bbox_coder.stds'),
        (RETINA, 'neck.upsample_cfg', dict(mode='bilinear'), 'neck.upsample_cfg'),
        (GFL, 'bbox_head.reg_max', 8, 'bbox_head.reg_max'),
        (FCOS, 'bbox_head.norm_on_bbox', False, 'bbox_head.norm_on_bbox'),
        (FCOS, 'bbox_head.centerness_on_reg', False, 'bbox_head.centerness_on_reg'),
        (FCOS, 'bbox_head.strides', [4, 8, 16], 'strides'),
        (FCOS, 'data_preprocessor.mean', [0.0] * 3, 'mean'),
        (FCOS, 'data_preprocessor.std', [1.0] * 3, 'std'),
        (FCOS, 'data_preprocessor.bgr_to_rgb', False, 'bgr_to_rgb'),
    ],
)
def test_each_setting_that_weights_rely_on(model, path, value, what):
    found = compare(changed(model, path, value), model)
    if what is None:
        assert not found
    else:
        assert any(name.split(' ')[0].endswith(what) for name in found), found


@pytest.mark.parametrize(
    'path, value',
    [
        ('data_preprocessor.mean', [123.68, 116.28, 103.53]),  # as float32 in five digits
        ('data_preprocessor.pad_size_divisor', 32),
        ('backbone.frozen_stages', 1),
        ('backbone.norm_eval', True),
        ('backbone.with_cp', True),
        ('backbone.init_cfg', dict(type='Pretrained', checkpoint='torchvision://resnet18')),
        ('backbone.norm_cfg', dict(type='SyncBN', requires_grad=True)),
        ('bbox_head.loss_cls', dict(type='FocalLoss', use_sigmoid=True, gamma=1.5)),
        ('bbox_head.loss_bbox', dict(type='SmoothL1Loss', beta=0.11, loss_weight=2.0)),
        ('bbox_head.bbox_coder', dict(type='DeltaXYWHBBoxCoder', clip_border=False)),
        ('train_cfg', dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.4))),
        ('test_cfg', dict(nms_pre=10, score_thr=0.3, nms=dict(type='nms', iou_threshold=0.9))),
        ('init_cfg', dict(type='Pretrained', checkpoint='http://x.invalid/y.pth')),
    ],
)
def test_what_weights_do_not_rely_on(path, value):
    assert compare(changed(RETINA, path, value), RETINA) == []


@settings(max_examples=12)
@given(st.floats(0.5, 2.0))
def test_priors_of_another_size_are_seen_and_rounding_is_not(factor):
    sizes = [8.0, 16.0, 32.0, 48.0]
    other = [size * factor for size in sizes]
    trained = changed(SSD, 'bbox_head.anchor_generator.min_sizes', other)
    trained['bbox_head']['anchor_generator']['max_sizes'] = [s * factor for s in (16, 32, 48, 64)]
    used = changed(SSD, 'bbox_head.anchor_generator.min_sizes', sizes)
    assume(abs(factor - 1) < 0.001 or abs(factor - 1) > 0.01)
    assert (PRIORS in ''.join(compare(trained, used))) == (abs(factor - 1) > 0.01)


def save(tmp_path, model: dict, **meta) -> str:
    path = str(tmp_path / 'file.pth')
    torch.save(dict(state_dict=MODELS.build(ConfigDict(model)).state_dict(), meta=meta), path)
    return path


def test_priors_20_percent_off_are_an_error_for_teacher_and_student(tmp_path, logged):
    sizes = [9.6, 19.2, 38.4, 57.6]
    trained = changed(SSD, 'bbox_head.anchor_generator.min_sizes', sizes)
    path = save(tmp_path, SSD, cfg=text(trained))
    told = (
        r'must hold weights that mean .*base_anchors.*but its checkpoint was trained with .*'
        r'take the checkpoint of this config\.'
    )
    for side, key in (('teacher', 'teacher'), ('student', 'architecture')):
        with pytest.raises(ValueError, match=f'{side}_ckpt {told} To .*set {side}_ckpt_strict='):
            MODELS.build(ConfigDict(tiny_pair(**{key: SSD, f'{side}_ckpt': path})))
    with pytest.raises(ValueError, match=f'checkpoint {told}$'):
        load_detector(MODELS.build(SSD), path, 'checkpoint')
    assert 'was trained with' not in logged()
    loose = dict(teacher_ckpt=path, teacher_ckpt_strict=False)
    pair = MODELS.build(ConfigDict(tiny_pair(teacher=SSD, **loose)))
    assert pair.teacher.loaded_weights.differences[0].what.startswith(PRIORS)
    assert 'teacher_ckpt: the teacher has bbox_head.prior_generator.base_anchors' in logged()


def test_a_slightly_different_mean_is_a_warning():
    model = MODELS.build(ConfigDict(FCOS))
    caffe = changed(FCOS, 'data_preprocessor.mean', [122.7717, 115.9465, 102.9801])
    [found] = differences(model, dict(cfg=text(caffe)))[0]
    assert not found.clear and found.in_file == [122.772, 115.947, 102.98]


def test_the_students_part_of_a_distillation_is_compared(tmp_path):
    pair = tiny_pair(architecture=SSD, teacher=tiny_ssd(width=16, std=1.0))
    model = MODELS.build(ConfigDict(SSD))
    assert differences(model, dict(cfg=text(pair, default_scope='mmdet'))) == ((), ())
    pair['architecture'] = changed(SSD, 'bbox_head.bbox_coder.target_stds', [1.0] * 4)
    assert len(differences(model, dict(cfg=text(pair)))[0]) == 1
    pair['architecture'] = 'mmdet::ssd/ssd300_coco.py'
    found, [note] = differences(model, dict(cfg=text(pair)))
    assert not found and 'only named ("mmdet::ssd/ssd300_coco.py")' in note


def test_the_meta_of_mmdet_2():
    """Its config is Python in plain assignments, its normalisation a step of the pipeline."""
    model_2 = {**FCOS, 'pretrained': 'torchvision://resnet18'}
    del model_2['data_preprocessor']
    old = (
        'img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[STD], to_rgb=True)\n'
        "test_pipeline = [dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug',\n"
        "    img_scale=(1333, 800), transforms=[dict(type='Normalize', **img_norm_cfg)])]\n"
        f'data = dict(test=dict(pipeline=test_pipeline))\nmodel = {model_2!r}\n'
    )
    model = MODELS.build(ConfigDict(FCOS))
    right, wrong = ('58.395, 57.12, 57.375'), ('1.0, 1.0, 1.0')
    for std, count in ((right, 0), (wrong, 1)):
        config = old.replace('STD', std)
        found, notes = differences(model, dict(config=config, CLASSES=('a',), mmdet_version='2.28'))
        assert len(found) == count and not notes


def test_the_anchors_of_an_ultralytics_file():
    """Kept in float16; tools/convert_yolov5.py writes them."""
    pytest.importorskip('mmyolo')
    from tests.tiny import tiny_yolov5

    model = MODELS.build(ConfigDict(tiny_yolov5(), _scope_='mmyolo'))
    priors = model.bbox_head.prior_generator
    anchors = [[[float(torch.tensor(v).half()) for v in pair] for pair in level]
               for level in priors.base_sizes]  # fmt: skip
    strides = tuple(stride[0] for stride in priors.strides)
    assert differences(model, dict(anchors=anchors, strides=strides)) == ((), ())
    anchors[1][2][0] *= 1.2
    [found] = differences(model, dict(anchors=anchors, strides=(8, 16, 64)))[0][:1]
    assert found.what == 'bbox_head.prior_generator.anchors'
    assert len(differences(model, dict(anchors=anchors, strides=(8, 16, 64)))[0]) == 2
    other = changed(tiny_yolov5(), 'bbox_head.prior_generator', dict(
        type='mmdet.YOLOAnchorGenerator', strides=[8, 16, 32],
        base_sizes=[[(12, 16), (19, 36), (40, 28)]] * 3))  # fmt: skip
    [found] = differences(model, dict(cfg=text(other, default_scope='mmyolo')))[0]
    assert found.what.startswith('bbox_head.prior_generator.base_anchors')


@pytest.mark.parametrize(
    'meta',
    [
        {},
        dict(cfg=3),
        dict(cfg=''),
        dict(cfg='model = ('),
        dict(cfg='model = make()'),
        dict(cfg='model = dict(bbox_head=make(), type="SSD")'),
        dict(cfg='model = dict(bbox_head=dict(type="Unknown"), neck=3, backbone=[1])'),
        dict(cfg='model = dict(bbox_head=dict(type="SSDHead", no_such_argument=1))'),
        dict(cfg='model = "x.py"\ndefault_scope = 3'),
        dict(cfg='model = dict(data_preprocessor=dict(mean="a", std=[0, 0, 0]))'),
        dict(cfg='model = dict(backbone=dict(type="SSDVGG"))'),
        dict(anchors=[[1]], strides='8', dataset_meta=3),
        dict(dataset_meta=dict(classes={0: 'a', 'b': 1}), CLASSES=5),
    ],
)
def test_meta_that_tells_nothing_is_no_fault(tmp_path, meta):
    model = changed(SSD, 'data_preprocessor', dict(type='DetDataPreprocessor'))
    found, _ = differences(MODELS.build(ConfigDict(model)), meta)
    assert not found or 'anchors' in meta


@pytest.mark.parametrize(
    'kind, arguments',
    [
        ('os.mkdir', dict(path='{file}')),
        ('mmkd.fileio.atomic_writes.write_atomic', dict(path='{file}')),
        ('evil.Head', {}),
        ('evil', {}),
        ('mmengine.fileio.dump', dict(file='{file}.json')),
        ('BertModel', dict(name='{file}')),
        ('mmdet.KnowledgeDistillationSingleStageDetector', dict(teacher_config='evil.py')),
    ],
)
def test_only_registered_types_of_the_model_are_built(tmp_path, monkeypatch, kind, arguments):
    """In any place of the file's config: nothing is imported, opened or called."""
    (tmp_path / 'evil.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    arguments = {k: v.format(file=tmp_path / 'ran') for k, v in arguments.items()}
    hostile = dict(type=kind, **arguments)
    model = MODELS.build(ConfigDict(SSD))
    for path in ('bbox_head', 'bbox_head.loss_cls', 'bbox_head.bbox_coder', 'neck.norm_cfg'):
        found, notes = differences(model, dict(cfg=text(changed(SSD, path, hostile))))
        assert len(notes) == 1 and kind in notes[0] and not found
    for lines in ('custom_imports = dict(imports=["evil"])\n', '_base_ = "evil.py"\n'):
        assert differences(model, dict(cfg=lines + text(SSD))) == ((), ())
    assert [path.name for path in tmp_path.iterdir()] == ['evil.py']


def test_a_pure_python_config_names_its_types_by_path(tmp_path):
    """``type='mmdet.models...'``: looked up among what is registered, not imported."""
    used = changed(RETINA, 'backbone.norm_cfg', dict(type='BN2d'))
    lazy = tmp_path / 'lazy.py'
    lazy.write_text(
        'from mmdet.models import FPN, DetDataPreprocessor, ResNet, RetinaHead, FocalLoss\n'
        'from mmdet.models import SingleStageDetector\n'
        'from mmdet.models.task_modules import AnchorGenerator\n'
        'from torch.nn import BatchNorm2d\n'
        + re.sub(r"'type': '(\w+)'", r"'type': \1", f'model = {used!r}\n').replace(
            'BN2d', 'BatchNorm2d'
        )
    )
    dotted = Config.fromfile(lazy, format_python_code=False).pretty_text
    assert "'mmdet.models.RetinaHead'" in dotted
    model = MODELS.build(ConfigDict(used))
    assert differences(model, dict(cfg=dotted)) == ((), ())
    unquoted = re.sub(r"type='((?:mmdet|torch)\.[\w.]+)'", r'type=\1', dotted)
    assert differences(model, dict(cfg=unquoted)) == ((), ())
    [found] = differences(model, dict(cfg=dotted.replace('scale=4', 'scale=5')))[0][:1]
    assert PRIORS in found.what


def test_comparing_draws_no_random_number():
    model = MODELS.build(ConfigDict(SSD))
    state = torch.get_rng_state()
    differences(model, dict(cfg=text(SSD)))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    'name',
    [
        'ssd/ssd300_coco',
        'retinanet/retinanet_r50_fpn_1x_coco',
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
        'atss/atss_r50_fpn_1x_coco',
        'gfl/gfl_r50_fpn_1x_coco',
        'yolox/yolox_tiny_8xb8-300e_coco',
        'rtmdet/rtmdet_tiny_8xb32-300e_coco',
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
        'detr/detr_r50_8xb2-150e_coco',
    ],
)
def test_mmdets_own_configs_load_their_own_checkpoints(name):
    config = Config(get_config(f'mmdet::{name}.py').to_dict(), format_python_code=False)
    meta = dict(cfg=config.pretty_text)
    for node in dicts(config.model):
        node.pop('init_cfg', None)
    assert differences(MODELS.build(config.model), meta) == ((), ())
