"""Every kind of detector that mmdet and MMYOLO ship, from their own configs, at reduced size.

A backbone of few channels, one convolution in a tower, two layers in a transformer, ten queries,
three classes, images of 128 pixels: what a kind is made of stays, and a step takes 0.1 seconds.
"""

import copy
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope

from mmkd.algorithms.build_detector import build_detector, init_at_random
from mmkd.config.pair_config import set_classes
from tests.tiny import write_coco

CLASSES = ('ant', 'bee', 'cat')
SIZE = (128, 128)

#: What a kind is called, and the config that it is made of.
KINDS = {
    'RetinaNet': 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
    'FCOS': 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'ATSS': 'mmdet::atss/atss_r50_fpn_1x_coco.py',
    'GFL': 'mmdet::gfl/gfl_r50_fpn_1x_coco.py',
    'PAA': 'mmdet::paa/paa_r50_fpn_1x_coco.py',
    'FSAF': 'mmdet::fsaf/fsaf_r50_fpn_1x_coco.py',
    'FoveaBox': 'mmdet::foveabox/fovea_r50_fpn_4xb4-1x_coco.py',
    'FreeAnchor': 'mmdet::free_anchor/freeanchor_r50_fpn_1x_coco.py',
    'AutoAssign': 'mmdet::autoassign/autoassign_r50-caffe_fpn_1x_coco.py',
    'GA-RetinaNet': 'mmdet::guided_anchoring/ga-retinanet_r50_fpn_1x_coco.py',
    'SABL-RetinaNet': 'mmdet::sabl/sabl-retinanet_r50_fpn_1x_coco.py',
    'VFNet': 'mmdet::vfnet/vfnet_r50_fpn_1x_coco.py',
    'TOOD': 'mmdet::tood/tood_r50_fpn_1x_coco.py',
    'DDOD': 'mmdet::ddod/ddod_r50_fpn_1x_coco.py',
    'RepPoints': 'mmdet::reppoints/reppoints-moment_r50_fpn_1x_coco.py',
    'YOLOF': 'mmdet::yolof/yolof_r50-c5_8xb8-1x_coco.py',
    'CenterNet': 'mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py',
    'CenterNet-update': 'mmdet::centernet/centernet-update_r50-caffe_fpn_ms-1x_coco.py',
    'YOLOv3': 'mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py',
    'SSDLite': 'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
    'YOLOX': 'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
    'RTMDet': 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'RTMDet-Ins': 'mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py',
    'Faster R-CNN': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'Mask R-CNN': 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'Cascade R-CNN': 'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
    'Libra R-CNN': 'mmdet::libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py',
    'Sparse R-CNN': 'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',
    'DETR': 'mmdet::detr/detr_r50_8xb2-150e_coco.py',
    'Conditional DETR': 'mmdet::conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
    'DAB-DETR': 'mmdet::dab_detr/dab-detr_r50_8xb2-50e_coco.py',
    'Deformable DETR': 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    'DINO': 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    'DDQ': 'mmdet::ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py',
    'YOLOv5': 'mmyolo::yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco.py',
    'YOLOv6': 'mmyolo::yolov6/yolov6_n_syncbn_fast_8xb32-300e_coco.py',
    'YOLOv7': 'mmyolo::yolov7/yolov7_tiny_syncbn_fast_8x16b-300e_coco.py',
    'YOLOv8': 'mmyolo::yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py',
    'PPYOLOE': 'mmyolo::ppyoloe/ppyoloe_s_fast_8xb32-300e_coco.py',
    'YOLOX of MMYOLO': 'mmyolo::yolox/yolox_tiny_fast_8xb8-300e_coco.py',
    'RTMDet of MMYOLO': 'mmyolo::rtmdet/rtmdet_tiny_syncbn_fast_8xb32-300e_coco.py',
}

# Of towers, transformers, proposals and heads: other numbers than those of the config.
NUMBERS = dict(
    stacked_convs=1,
    num_convs=1,
    fc_out_channels=16,
    conv_out_channels=32,
    feedforward_channels=64,
    ffn_channels=64,
    num_queries=10,
    num_proposals=10,
    num_feats=32,
    max_per_img=10,
    num=16,
)
WIDTHS = {256: 64, 2048: 64}  # two channels a group of mmdet's GroupNorms
DIMS = 64  # of a transformer; that of Conditional DETR is 256 in mmdet's own code


def small_config(kind: str, data: Path, width: int = 8) -> Config:
    """A kind's config at reduced size, on a data set of the classes above.

    Args:
        kind: of ``KINDS``.
        data: folder with annotations/train.json and val.json, and JPEGImages.
        width: channels of the first stage of a ResNet; others are as wide in proportion.
    """
    whole = get_config(KINDS[kind])
    model = _small_model(copy.deepcopy(whole.model), width)
    set_classes(model, len(CLASSES))
    hooks = [hook for hook in whole.get('custom_hooks', []) if hook.type == 'SetEpochInfoHook']
    return Config(
        dict(
            default_scope=whole.default_scope,
            model=model,
            custom_hooks=hooks,
            find_unused_parameters=whole.get('find_unused_parameters', False),
            **_data_of(data, whole, _has_masks(model)),
            **RUN,
        )
    )


def _small_model(model, width: int):
    if model.type != 'ConditionalDETR':
        _reduce(model, WIDTHS)
        if 'decoder' in model:
            model.bbox_head.embed_dims = DIMS
    else:
        _reduce(model, {})
    backbone = model.backbone
    if 'widen_factor' in backbone and backbone.type != 'MobileNetV2':
        factor = width / 64
        _set(model, dict(widen_factor=factor, deepen_factor=0.33))
        if 'widen_factor' not in model.neck:  # mmdet's
            model.neck.in_channels = [int(c * factor) for c in (256, 512, 1024)]
    elif backbone.type == 'ResNet':
        indices = backbone.get('out_indices', (0, 1, 2, 3))
        model.backbone = dict(
            type='ResNet',
            depth=18,
            base_channels=width,
            stem_channels=width,
            out_indices=indices,
        )
        channels = [width * 2**i for i in indices]
        necks = model.neck if isinstance(model.neck, list) else [model.neck]
        single = isinstance(necks[0].in_channels, int)
        necks[0].in_channels = channels[-1] if single else channels
    return model


def _reduce(node, widths: dict) -> None:
    """Fewer channels, layers and queries, and no weights of other trainings, in each part."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(key, str) and key in NUMBERS and isinstance(value, int):
            if widths or key != 'num_feats':
                node[key] = min(value, NUMBERS[key])
        elif key == 'random_size_range':
            node[key] = (128, 160)
        elif key == 'init_cfg' and isinstance(value, dict) and value.get('type') == 'Pretrained':
            node[key] = None
        elif key in ('encoder', 'decoder') and isinstance(value, dict) and 'num_layers' in value:
            value['num_layers'] = 2
            _reduce(value, widths)
        elif isinstance(value, dict | list | tuple):
            _reduce(value, widths)
        elif isinstance(key, str) and key.split('_')[-1] in ('channel', 'channels', 'dims'):
            node[key] = widths.get(value, value)


def _set(node, values: dict) -> None:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if key in values:
            node[key] = values[key]
        elif isinstance(value, dict | list | tuple):
            _set(value, values)


def _has_masks(model) -> bool:
    return 'Ins' in str(model.bbox_head.type if 'bbox_head' in model else '') or bool(
        model.get('roi_head', {}).get('mask_head')
    )


RUN = dict(
    val_cfg=dict(type='ValLoop'),
    test_cfg=dict(type='TestLoop'),
    train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1, val_begin=2),
    optim_wrapper=dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=1e-4),
        clip_grad=dict(max_norm=10.0),
    ),
    default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
)


def _data_of(data: Path, whole: Config, masks: bool) -> dict:
    """The data sets of both packages' pipelines, without their augmentations."""
    yolo = whole.default_scope == 'mmyolo'
    resize = (
        [dict(type='YOLOv5KeepRatioResize', scale=SIZE), dict(type='LetterResize', scale=SIZE)]
        if yolo
        else [dict(type='Resize', scale=SIZE, keep_ratio=True)]
    )
    load = dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)
    pack, keys = (
        'mmdet.PackDetInputs',
        ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'pad_param', 'border'),
    )
    # CenterNet's own padding, whose border it takes off again
    own = [t for t in whole.test_dataloader.dataset.pipeline if t.type == 'RandomCenterCropPad']
    pipelines = dict(
        train=[dict(type='LoadImageFromFile'), load, *resize, dict(type=pack)],
        val=[
            dict(type='LoadImageFromFile', to_float32=bool(own)),
            *(own or resize),
            dict(type=pack, meta_keys=keys),
        ],
    )
    found = {}
    for phase in ('train', 'val', 'test'):
        split = 'train' if phase == 'train' else 'val'
        found[f'{phase}_dataloader'] = dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dict(
                type='YOLOv5CocoDataset' if yolo else 'CocoDataset',
                data_root=f'{data}/',
                ann_file=f'annotations/{split}.json',
                data_prefix=dict(img='JPEGImages/'),
                metainfo=dict(classes=CLASSES),
                serialize_data=False,  # it collects garbage for 0.3 seconds
                pipeline=pipelines[split],
                **(dict(test_mode=True) if split == 'val' else {}),
            ),
        )
        if phase != 'train':
            found[f'{phase}_evaluator'] = dict(
                type='mmdet.CocoMetric',
                ann_file=f'{data}/annotations/{split}.json',
                metric='bbox',
            )
    if yolo:
        found['train_dataloader']['collate_fn'] = whole.train_dataloader.collate_fn
    return found


def write_data(folder: Path) -> None:
    """Four images of 160 x 120 pixels and two of validation, with boxes and polygons."""
    for split, images in (('train', 4), ('val', 2)):
        path = write_coco(folder, split, images, CLASSES)
        content = json.loads(path.read_text())
        for annotation in content['annotations']:
            x, y, w, h = annotation['bbox']
            annotation['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        path.write_text(json.dumps(content))


def write_config(config: Config, path: Path) -> None:
    """A config as a file; mmengine's own form takes seconds to lay out."""
    path.write_text(''.join(f'{key} = {value!r}\n' for key, value in config.to_dict().items()))


def write_weights(config: Config, path: Path) -> None:
    """Random weights of a detector, as a training would save them."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = build_detector(config.model)
        init_at_random(model)
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
