"""Small detectors, batches and data sets, made on the spot."""

import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch

import mmkd  # noqa: F401  (first: it makes mmdet importable, and registers everything)

# isort: split
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData

ROOT = Path(__file__).resolve().parents[1]


def scene(rng: np.random.Generator, size: tuple[int, int], classes: int, boxes: int):
    """An image (H, W, 3) with filled rectangles, their boxes (x1, y1, x2, y2) and labels."""
    height, width = size
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8) // 4
    found, labels = [], []
    for _ in range(boxes):
        w, h = rng.integers(width // 4, width // 2), rng.integers(height // 4, height // 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        label = int(rng.integers(classes))
        image[y : y + h, x : x + w] = 55 + 180 * (label + 1) // classes
        found.append((int(x), int(y), int(x + w), int(y + h)))
        labels.append(label)
    return image, found, labels


def write_voc(folder: Path, split: str, images: int, classes, seed: int = 0, boxes: int = 2):
    """One VOC-shaped folder: JPEGImages, Annotations, ImageSets/Main/<split>.txt."""
    rng = np.random.default_rng(seed)
    for part in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    names = [f'{split}{i:03d}' for i in range(images)]
    for name in names:
        image, found, labels = scene(rng, (120, 160), len(classes), boxes)
        cv2.imwrite(str(folder / f'JPEGImages/{name}.jpg'), image)
        objects = ''.join(
            f'<object><name>{classes[label]}</name><difficult>0</difficult><bndbox>'
            f'<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2 + 1}</xmax><ymax>{y2 + 1}</ymax>'
            '</bndbox></object>'
            for (x1, y1, x2, y2), label in zip(found, labels, strict=True)
        )
        (folder / f'Annotations/{name}.xml').write_text(
            f'<annotation><filename>{name}.jpg</filename><size><width>160</width>'
            f'<height>120</height><depth>3</depth></size>{objects}</annotation>'
        )
    (folder / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names) + '\n')


def write_coco(folder: Path, split: str, images: int, classes, seed: int = 0, boxes: int = 2):
    """COCO JSON annotations/<split>.json and its JPEGImages."""
    rng = np.random.default_rng(seed)
    (folder / 'annotations').mkdir(parents=True, exist_ok=True)
    (folder / 'JPEGImages').mkdir(exist_ok=True)
    records, annotations = [], []
    for i in range(images):
        image, found, labels = scene(rng, (120, 160), len(classes), boxes)
        name = f'{split}{i:03d}.jpg'
        cv2.imwrite(str(folder / 'JPEGImages' / name), image)
        records.append(dict(id=i + 1, file_name=name, height=120, width=160))
        for (x1, y1, x2, y2), label in zip(found, labels, strict=True):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i + 1,
                    category_id=label + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=0,
                )
            )
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    path = folder / f'annotations/{split}.json'
    path.write_text(
        json.dumps(dict(images=records, annotations=annotations, categories=categories))
    )
    return path


def tiny_ssd(classes: int = 3, width: int = 8, std: float = 58.0, rgb: bool = True) -> dict:
    """An SSD on a ResNet-18 of ``width`` channels, for 64-px images: strides 8, 16 and 32."""
    channels = (2 * width, 4 * width, 8 * width)
    return dict(
        type='SingleStageDetector',
        data_preprocessor=dict(
            type='DetDataPreprocessor', mean=[120, 110, 100], std=[std] * 3, bgr_to_rgb=rgb
        ),
        backbone=dict(
            type='ResNet', depth=18, base_channels=width, out_indices=(1, 2, 3), style='pytorch'
        ),
        neck=dict(
            type='SSDNeck',
            in_channels=channels,
            out_channels=(*channels, 32),
            level_strides=(2,),
            level_paddings=(1,),
            l2_norm_scale=None,
        ),
        bbox_head=dict(
            type='SSDHead',
            num_classes=classes,
            in_channels=(*channels, 32),
            anchor_generator=dict(
                type='SSDAnchorGenerator',
                scale_major=False,
                strides=[8, 16, 32, 64],
                ratios=[[2], [2], [2], [2]],
                min_sizes=[8, 16, 32, 48],
                max_sizes=[16, 32, 48, 64],
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
        ),
        train_cfg=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.0,
                ignore_iof_thr=-1,
                gt_max_assign_all=False,
            ),
            sampler=dict(type='PseudoSampler'),
            smoothl1_beta=1.0,
            allowed_border=-1,
            pos_weight=-1,
            neg_pos_ratio=3,
            debug=False,
        ),
        test_cfg=dict(
            nms_pre=100,
            nms=dict(type='nms', iou_threshold=0.45),
            min_bbox_size=0,
            score_thr=0.02,
            max_per_img=20,
        ),
    )


def method(name: str) -> Config:
    """A distillation method's base config."""
    return Config.fromfile(ROOT / f'configs/_base_/methods/{name}.py')


def tiny_pair(**changes) -> dict:
    """A distillation algorithm's config: tiny SSDs of two widths, taught by the SSD recipe."""
    recipe = method('ssd_chen2017').to_dict()
    pair = dict(
        _scope_='mmrazor',
        type='DetectionDistill',
        architecture=tiny_ssd(width=8),
        teacher=tiny_ssd(width=16, std=1.0),
        student_loss_weights=recipe['student_loss_weights'],
        distiller=recipe['distiller'],
    )
    pair.update(changes)
    return pair


def raw_batch(images: int = 2, size: int = 64, boxes: int = 2, seed: int = 0) -> dict:
    """What the dataloader gives: uint8 images and ``DetDataSample`` with ``boxes`` objects each."""
    rng = np.random.default_rng(seed)
    inputs, samples = [], []
    for _ in range(images):
        image, found, labels = scene(rng, (size, size), 3, boxes)
        inputs.append(torch.from_numpy(image).permute(2, 0, 1))
        sample = DetDataSample(
            metainfo=dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0))
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(found, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.long),
        )
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def tiny_ssd_with_adapters() -> dict:
    """A pair of tiny SSDs with every loss of the SSD recipes, so with trained connectors."""
    recipe = method('ssd_imitation').to_dict()
    connectors = recipe['distiller']['connectors']
    connectors['adapter'].update(in_channels=[16, 32, 64], out_channels=[32, 64, 128])
    connectors['mask'].update(
        prior_generator=tiny_ssd()['bbox_head']['anchor_generator'], levels=[0, 1, 2]
    )
    recipe['distiller']['distill_losses']['loss_imitation']['loss_weight'] = 0.1
    return tiny_pair(
        distiller=recipe['distiller'], student_loss_weights=recipe.get('student_loss_weights')
    )


def tiny_yolov5(width: float = 0.0625, classes: int = 3) -> dict:
    """A YOLOv5 of ``width`` times 64, 128, ... channels and one block per stage."""
    channels = [256, 512, 1024]
    common = dict(
        deepen_factor=0.33,
        widen_factor=width,
        norm_cfg=dict(type='BN', momentum=0.03, eps=0.001),
        act_cfg=dict(type='SiLU', inplace=True),
    )
    return dict(
        type='YOLODetector',
        use_syncbn=False,  # it asks for a GPU
        data_preprocessor=dict(
            type='YOLOv5DetDataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True
        ),
        backbone=dict(type='YOLOv5CSPDarknet', **common),
        neck=dict(
            type='YOLOv5PAFPN',
            in_channels=channels,
            out_channels=channels,
            num_csp_blocks=3,
            **common,
        ),
        bbox_head=dict(
            type='YOLOv5Head',
            head_module=dict(
                type='YOLOv5HeadModule',
                num_classes=classes,
                in_channels=channels,
                widen_factor=width,
            ),
        ),
    )


def tiny_yolov5_pair(**changes) -> dict:
    """A pair of tiny YOLOv5s with every loss of the YOLOv5 recipes."""
    distiller = method('yolov5_balanced').to_dict()['distiller']
    distiller['connectors']['adapter'].update(in_channels=32, out_channels=64)
    for name in ('loss_output', 'loss_box'):
        distiller['distill_losses'][name].update(num_classes=3)
    distiller['distill_losses']['loss_imitation']['loss_weight'] = 0.1
    pair = dict(
        _scope_='mmrazor',
        type='DetectionDistill',
        architecture=dict(tiny_yolov5(), _scope_='mmyolo'),
        teacher=dict(tiny_yolov5(0.125), _scope_='mmyolo'),
        distiller=distiller,
    )
    pair.update(changes)
    return pair


def fast_batch(batch: dict) -> dict:
    """A batch of ``raw_batch`` as MMYOLO's fast collate gives it."""
    rows = [
        torch.cat([torch.full((len(boxes), 1), float(i)), labels[:, None].float(), boxes], 1)
        for i, sample in enumerate(batch['data_samples'])
        for boxes, labels in [(sample.gt_instances.bboxes, sample.gt_instances.labels)]
    ]
    return dict(
        inputs=torch.stack(batch['inputs']), data_samples=dict(bboxes_labels=torch.cat(rows))
    )


def freeze_bn(model: torch.nn.Module) -> torch.nn.Module:
    """Put the model in train mode, but for its BatchNorms: their statistics are a rank's own."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def tiny_runner(
    model: torch.nn.Module, images: list[dict], work_dir: Path, runner=None, **changes
) -> Runner:
    """A runner that trains ``model`` on batches of one, in order, and logs each iteration."""
    items = [dict(inputs=b['inputs'][0], data_samples=b['data_samples'][0]) for b in images]
    for i, item in enumerate(items):
        item['data_samples'].set_metainfo(dict(img_path=f'image{i}.jpg'))
    loader = dict(
        dataset=items,
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    settings = dict(
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.01)),
        randomness=dict(seed=0),
        default_scope='mmdet',
        experiment_name=f'{work_dir.name}_{time.monotonic_ns()}',
    )
    return (runner or Runner)(model=model, work_dir=str(work_dir), **{**settings, **changes})
