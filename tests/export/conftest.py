"""Detectors with their files: checkpoints with a config in them, and a validation set."""

import json
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.checkpoints.detector_checkpoint import save_checkpoint
from mmkd.export.export_onnx import make_files
from mmkd.export.trained import open_trained
from tests.tiny import scene, tiny_ssd, tiny_yolov5

# What these tests are about is of the extra "export".
PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')
collect_ignore_glob = [] if all(map(find_spec, PACKAGES)) else ['test_*.py']

CLASSES = ('one', 'two', 'three')
META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
YOLO_TEST = dict(
    multi_label=True,
    nms_pre=1000,
    score_thr=0.02,
    nms=dict(type='nms', iou_threshold=0.6),
    max_per_img=300,
)


def pipeline(kind: str) -> list[dict]:
    """As the detectors' own configs have it, for 64-px images."""
    if kind == 'yolo':
        scale = (64, 64)
        resize = [
            dict(type='YOLOv5KeepRatioResize', scale=scale),
            dict(type='LetterResize', scale=scale, allow_scale_up=False, pad_val=dict(img=114)),
        ]
    elif kind == 'middle':
        scale, pad = dict(mean=[0, 0, 0], std=[1, 1, 1], to_rgb=True), ['logical_or', 31]
        resize = [
            dict(
                type='RandomCenterCropPad', ratios=None, border=None, **scale,
                test_mode=True, test_pad_mode=pad, test_pad_add_pix=1,
            )
        ]  # fmt: skip
    else:
        resize = [dict(type='Resize', scale=(64, 64), keep_ratio=kind == 'ratio')]
    meta = META if kind != 'middle' else ('img_id', 'img_path', 'ori_shape', 'img_shape', 'border')
    return [
        dict(type='LoadImageFromFile', to_float32=kind == 'middle'),
        *resize,
        dict(type='mmdet.LoadAnnotations', with_bbox=True),
        dict(type='mmdet.PackDetInputs', meta_keys=meta),
    ]


def config_for(model: dict, root, kind: str, scope: str) -> Config:
    dataset = dict(
        type='mmdet.CocoDataset',
        data_root=f'{root}/',
        ann_file='val.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
        pipeline=pipeline(kind),
    )
    loader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler'), dataset=dataset)
    metric = dict(type='mmdet.CocoMetric', ann_file=f'{root}/val.json', metric='bbox')
    return Config(
        dict(
            default_scope=scope,
            model=model,
            val_dataloader=loader,
            val_evaluator=metric,
            test_dataloader=loader,
            test_evaluator=metric,
        )
    )


def lively(model) -> None:
    """Random weights with which rows differ, and some of which are sure."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 1.5 / parameter[0].numel() ** 0.5)
        elif 'head' in name and name.endswith('bias'):
            torch.nn.init.zeros_(parameter)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)


def save(model: dict, root, kind: str, scope: str, weigh=lively):
    """A checkpoint of a detector with lively weights, its config inside, and images."""
    (root / 'images').mkdir(parents=True)
    rng = np.random.default_rng(0)
    sizes = [(48, 64), (64, 64), (100, 80), (30, 47)]
    for i, size in enumerate(sizes):
        cv2.imwrite(str(root / f'images/{i}.png'), scene(rng, size, 3, 2)[0])
    config = config_for(model, root, kind, scope)
    with DefaultScope.overwrite_default_scope(scope):
        detector = build_detector(model)
    detector.init_weights()
    torch.manual_seed(3)
    weigh(detector)
    meta = dict(cfg=config.pretty_text, dataset_meta=dict(classes=CLASSES))
    save_checkpoint(dict(state_dict=detector.state_dict(), meta=meta), root / 'student.pth')
    write_truth(root, sizes, [])
    return root / 'student.pth'


def write_truth(root, sizes, annotations) -> None:
    images = [dict(id=i, file_name=f'{i}.png', height=h, width=w) for i, (h, w) in enumerate(sizes)]
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'val.json').write_text(json.dumps(content))


def truth_by(detect, root) -> None:
    """The detections of a file become the ground truth, so that its mAP is 1."""
    annotations, sizes = [], []
    for i in range(4):
        image = cv2.imread(str(root / f'images/{i}.png'))
        sizes.append(image.shape[:2])
        found = detect(image)
        for box, label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True):
            x, y, w, h = box[0], box[1], box[2] - box[0], box[3] - box[1]
            if w * h > 1:
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i,
                        category_id=label,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                    )
                )
    write_truth(root, sizes, annotations)


@pytest.fixture(scope='session')
def ssd(tmp_path_factory):
    """The checkpoint of an SSD whose images keep their ratio."""
    model = tiny_ssd()
    model['test_cfg'].update(nms_pre=200, max_per_img=300)
    return save(model, tmp_path_factory.mktemp('ssd'), 'ratio', 'mmdet')


@pytest.fixture(scope='session')
def yolov5(tmp_path_factory):
    """The checkpoint of a YOLOv5."""
    pytest.importorskip('mmyolo')
    model = tiny_yolov5()
    model['bbox_head']['test_cfg'] = YOLO_TEST
    model['test_cfg'] = YOLO_TEST
    return save(model, tmp_path_factory.mktemp('yolov5'), 'yolo', 'mmyolo')


@pytest.fixture(scope='session')
def opened_ssd(ssd):
    return open_trained(str(ssd))


@pytest.fixture(scope='session')
def opened_yolov5(yolov5):
    return open_trained(str(yolov5))


@pytest.fixture(scope='session')
def exported(opened_ssd, tmp_path_factory):
    """The exported file of the SSD."""
    file = tmp_path_factory.mktemp('exported') / 'student.onnx'
    file.write_bytes(make_files(opened_ssd).content)
    return file
