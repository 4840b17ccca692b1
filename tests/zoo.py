"""mmdet's own detectors, made small: 64-px images take milliseconds."""

import copy
import functools
from typing import Any

from mmengine.config import ConfigDict
from mmengine.hub import get_config

from tests.tiny import method, tiny_ssd, tiny_yolov5

_CONFIGS = dict(
    retinanet='retinanet/retinanet_r50_fpn_1x_coco.py',
    gfl='gfl/gfl_r50_fpn_1x_coco.py',
    fcos='fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    atss='atss/atss_r50_fpn_1x_coco.py',
    faster_rcnn='faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    mask_rcnn='mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    yolox='yolox/yolox_s_8xb8-300e_coco.py',
    yolov3='yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py',
    detr='detr/detr_r50_8xb2-150e_coco.py',
    dino='dino/dino-4scale_r50_8xb2-12e_coco.py',
    conditional_detr='conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
    dab_detr='dab_detr/dab-detr_r50_8xb2-50e_coco.py',
    deformable_detr='deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py',
)
_CHANNELS = 16


@functools.cache
def _whole(name: str) -> ConfigDict:
    return get_config(f'mmdet::{_CONFIGS[name]}').model


def small(name: str, classes: int = 3, **head: Any) -> ConfigDict:
    """The config of a detector of mmdet, on a ResNet-18 of 8 channels where it has a ResNet.

    Args:
        name: a key of ``_CONFIGS``.
        classes: its number of classes.
        head: changes of its ``bbox_head``.
    """
    model = _whole(name).to_dict()
    if name == 'yolox':
        model['backbone'].update(widen_factor=0.125)
        model['neck'].update(in_channels=[32, 64, 128], out_channels=_CHANNELS)
        model['data_preprocessor'].pop('batch_augments')
    elif name != 'yolov3':
        narrow(model['backbone'], model['neck'])
    else:
        model['backbone'].pop('init_cfg')
    for part in (model.get('bbox_head'), model.get('rpn_head')):
        if part is not None and name != 'yolov3':
            wide = 'in_channels' in part
            part.update(dict(in_channels=_CHANNELS) if wide else {})
            part.update(dict(feat_channels=_CHANNELS) if 'feat_channels' in part else {})
            if 'stacked_convs' in part:
                part['stacked_convs'] = 1
                part['norm_cfg'] = dict(type='GN', num_groups=4)
    if 'bbox_head' in model:
        model['bbox_head'].update(num_classes=classes, **head)
    if 'roi_head' in model:
        roi = model['roi_head']
        roi['bbox_roi_extractor']['out_channels'] = _CHANNELS
        roi['bbox_head'].update(in_channels=_CHANNELS, fc_out_channels=8, num_classes=classes)
        if 'mask_head' in roi:
            roi['mask_roi_extractor']['out_channels'] = _CHANNELS
            roi['mask_head'].update(
                in_channels=_CHANNELS, conv_out_channels=8, num_convs=1, num_classes=classes
            )
    if 'detr' in name or name == 'dino':
        model.update(num_queries=5, test_cfg=dict(max_per_img=5))
        for part in ('encoder', 'decoder'):
            model[part]['num_layers'] = 2
    return ConfigDict(model)


def pair(
    student: Any,
    teacher: Any,
    loss: dict,
    source: str,
    arguments: tuple[str, str] = ('preds_S', 'preds_T'),
    kind: str = 'ModuleOutputs',
    name: str = 'loss_kd',
    connector: dict | None = None,
    **record: Any,
) -> ConfigDict:
    """A pair of detectors (names of :func:`small`, or configs) with one loss.

    Args:
        student: what is taught.
        teacher: what teaches.
        loss: its config.
        source: what the recorders of both tap.
        arguments: of the loss, the student's and the teacher's.
        kind: of the recorders.
        name: of the loss.
        connector: through which both records go.
        record: of both mappings: ``record_idx``, ``data_idx``.
    """
    models = [small(model) if isinstance(model, str) else model for model in (student, teacher)]
    recorders = dict(record=dict(type=kind, source=source))
    through = dict(connector='through') if connector else {}
    return ConfigDict(
        _scope_='mmrazor',
        type='DetectionDistill',
        architecture=models[0],
        teacher=models[1],
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=recorders,
            teacher_recorders=dict(recorders),
            connectors=dict(through=connector) if connector else None,
            distill_losses={name: loss},
            loss_forward_mappings={
                name: {
                    argument: dict(recorder='record', from_student=own, **through, **record)
                    for argument, own in zip(arguments, (True, False), strict=True)
                }
            },
        ),
    )


def narrow(backbone: dict, neck: dict) -> None:
    """A ResNet-18 of 8 channels in place of a larger one."""
    stages = backbone.get('out_indices', (0, 1, 2, 3))
    backbone.update(depth=18, base_channels=8)
    for key in ('init_cfg', 'style'):
        backbone.pop(key, None)
    backbone['norm_cfg'] = dict(type='BN', requires_grad=True)
    neck['in_channels'] = [8 * 2**stage for stage in stages]
    if neck['type'] == 'FPN':
        neck['out_channels'] = _CHANNELS


def taught(student: str, teacher: str, *methods: str, **changes: Any) -> ConfigDict:
    """A pair of two detectors, taught by one or several methods of ``configs/``.

    Args:
        student: what is taught, by a name of :func:`detector`.
        teacher: what teaches.
        methods: by the name of the file; the names of their parts are prefixed with it.
        changes: of the pair.
    """
    distiller: dict[str, Any] = dict(type='ConfigurableDistiller')
    for name in methods:
        recipe = copy.deepcopy(_method(name))
        for part in ('student_recorders', 'teacher_recorders', 'connectors', 'distill_losses'):
            found = {f'{name}_{key}': value for key, value in recipe.get(part, {}).items()}
            distiller.setdefault(part, {}).update(found)
        mappings = recipe['loss_forward_mappings']
        for mapping in mappings.values():
            for record in mapping.values():
                for key in ('recorder', 'connector'):
                    if key in record:
                        record[key] = f'{name}_{record[key]}'
        named = {f'{name}_{key}': value for key, value in mappings.items()}
        distiller.setdefault('loss_forward_mappings', {}).update(named)
    return ConfigDict(
        _scope_='mmrazor',
        type='DetectionDistill',
        architecture=detector(student),
        teacher=detector(teacher),
        distiller=distiller,
        **changes,
    )


def detector(name: str) -> ConfigDict:
    """A detector by name: those of :func:`small`, 'ssd', and MMYOLO's 'yolov5' and 'yolov8'."""
    if name == 'ssd':
        return ConfigDict(tiny_ssd())
    if not name.startswith('yolov') or name == 'yolov3':
        return ConfigDict(small(name), _scope_='mmdet')
    model = ConfigDict(tiny_yolov5(), _scope_='mmyolo')
    if name == 'yolov8':
        module = {k: v for k, v in model.bbox_head.head_module.items() if k != 'type'}
        head = dict(type='YOLOv8Head', head_module=dict(module, type='YOLOv8HeadModule', reg_max=8))
        model.bbox_head = ConfigDict(head)
        model.train_cfg = dict(assigner=dict(type='BatchTaskAlignedAssigner', num_classes=3))
    return model


@functools.cache
def _method(name: str) -> dict:
    return method(name).to_dict()['distiller']
