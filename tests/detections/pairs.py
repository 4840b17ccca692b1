"""A pair whose teacher is a file of detections, small enough to be trained in a test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from tests.tiny import method, tiny_ssd, write_coco

CLASSES = ('ant', 'bee', 'cat')


def teacher_file(folder: Path, images: int = 8) -> Path:
    """Images with their annotations, and what a teacher detects there: the objects, and more."""
    content = json.loads(write_coco(folder, 'train', images, CLASSES, seed=1).read_text())
    rng = np.random.default_rng(0)
    rows = []
    for one in content['annotations']:
        x, y, w, h = one['bbox']
        moved = [x + float(rng.normal()), y, w, h + float(rng.normal())]
        place = dict(image_id=one['image_id'], category_id=one['category_id'])
        rows.append(dict(place, bbox=moved, score=float(rng.uniform(0.4, 1))))
        rows.append(dict(place, bbox=[y, x / 2, w / 2, h], score=float(rng.uniform(0, 0.4))))
    path = folder / 'teacher.json'
    path.write_text(json.dumps(rows))
    return path


def config(folder: Path, work_dir: Path, name: str = 'soft_ground_truth', **changes: Any) -> Config:
    """Three epochs of four steps, with mosaics; ``changes`` are merged in."""
    recipe = method(name).to_dict()
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
    images = dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=CLASSES),
    )
    mixed = [
        dict(type='Mosaic', img_scale=(64, 64)),
        dict(type='PhotoMetricDistortion'),
        dict(type='RandomFlip', prob=0.5),
        dict(type='Resize', scale=(64, 64), keep_ratio=False),
        dict(type='PackDetInputs'),
    ]
    model = dict(
        _scope_='mmrazor',
        type='DetectionDistill',
        architecture=tiny_ssd(),
        teacher=str(folder / 'teacher.json'),
        distiller=recipe['distiller'],
        **({'balance': recipe['balance']} if 'balance' in recipe else {}),
    )
    cfg = Config(
        dict(
            default_scope='mmdet',
            work_dir=str(work_dir),
            model=model,
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(
                    type='MultiImageMixDataset',
                    dataset=dict(**images, pipeline=load),
                    pipeline=mixed,
                ),
            ),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=9),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='SGD', lr=0.01, momentum=0.9),
                clip_grad=dict(max_norm=5),
            ),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            randomness=dict(seed=3),
            log_level='WARNING',
        )
    )
    cfg.merge_from_dict(changes)
    return cfg
