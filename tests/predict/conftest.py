"""A tiny student as a training leaves it, its pair, and images with what it finds in them."""

import json
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mmkd import load
from mmkd.export.export_onnx import make_files
from mmkd.export.export_student import export_student
from mmkd.export.trained import open_trained
from tests.tiny import tiny_pair, tiny_ssd, write_coco

CLASSES = ('ant', 'bee', 'cat')

#: mmengine's formatter takes a second; what reads the text must not depend on how it is laid out.
PLAIN = mock.patch.object(
    Config,
    'pretty_text',
    property(lambda self: ''.join(f'{k} = {v!r}\n' for k, v in self.to_dict().items())),
)

PACK = dict(
    type='PackDetInputs',
    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
)


def pair_config(folder: Path, **loader) -> dict:
    """The config of a pair whose test set is ``folder``'s."""
    pipeline = [
        dict(type='LoadImageFromFile', **loader),
        dict(type='Resize', scale=(64, 64), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        PACK,
    ]
    dataset = dict(
        type='CocoDataset',
        data_root=f'{folder}/',
        ann_file='annotations/val.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
        serialize_data=False,
        pipeline=pipeline,
    )
    student = tiny_ssd()
    return dict(
        default_scope='mmdet',
        model=tiny_pair(architecture=student),
        student=student,
        temperature=2.0,
        load=pipeline[:2],
        test_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dataset,
        ),
        test_evaluator=dict(
            type='CocoMetric', ann_file=f'{folder}/annotations/val.json', metric='bbox'
        ),
        test_cfg=dict(type='TestLoop'),
    )


@dataclass(frozen=True)
class Place:
    """A finished run and its data.

    Args:
        folder: holds ``JPEGImages``, ``annotations/val.json``, ``pair.py``, ``epoch_1.pth`` (of the
            pair), ``student.py`` and ``student.pth``.
    """

    folder: Path

    @property
    def images(self) -> list[str]:
        return sorted(map(str, (self.folder / 'JPEGImages').iterdir()))

    def __getattr__(self, name: str) -> str:
        return str(self.folder / name.replace('__', '.'))


@pytest.fixture(scope='session')
def place(tmp_path_factory) -> Place:
    """Its ground truth is part of what the student finds, moved a little: for an mAP above 0."""
    folder = tmp_path_factory.mktemp('run')
    write_coco(folder, 'val', 5, CLASSES, seed=3)
    config = pair_config(folder)
    (folder / 'pair.py').write_text(''.join(f'{k} = {v!r}\n' for k, v in config.items()))
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        student = MODELS.build(ConfigDict(tiny_ssd()))
        student.init_weights()
    state = {f'architecture.{key}': value for key, value in student.state_dict().items()}
    with PLAIN:
        text = Config(config).pretty_text
        meta = dict(cfg=text, dataset_meta=dict(classes=CLASSES), epoch=1)
        torch.save(dict(state_dict=state, meta=meta), folder / 'epoch_1.pth')
        export_student(str(folder / 'epoch_1.pth'), Config(config), folder / 'student.pth')
    place = Place(folder)
    _annotate(folder, load(place.student__pth, device='cpu')(place.images))
    return place


@pytest.fixture(scope='session')
def exported(place) -> str:
    """The student as an ONNX file."""
    for package in ('onnx', 'onnxruntime'):
        pytest.importorskip(package, reason='of the extra "export"')
    file = place.folder / 'student.onnx'
    file.write_bytes(make_files(open_trained(place.student__pth)).content)
    return str(file)


@pytest.fixture(params=['student.pth', 'student.onnx'])
def student(request, place) -> str:
    """The student in each of the forms that prediction takes."""
    if request.param == 'student.onnx':
        return request.getfixturevalue('exported')
    return place.student__pth


def _annotate(folder: Path, found: list) -> None:
    path = folder / 'annotations/val.json'
    content = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    content['annotations'] = annotations = []
    for image, detections in zip(content['images'], found, strict=True):
        for row in rng.permutation(len(detections))[:4]:
            x1, y1, x2, y2 = np.clip(detections.boxes[row] + rng.normal(0, 2, 4), 0, 119).tolist()
            if x2 - x1 > 3 and y2 - y1 > 3:
                one = dict(id=len(annotations) + 1, image_id=image['id'], iscrowd=0)
                one.update(category_id=int(detections.labels[row]) + 1)
                one.update(bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1))
                annotations.append(one)
    path.write_text(json.dumps(content))


@pytest.fixture
def picture(tmp_path) -> str:
    """An image of its own."""
    rng = np.random.default_rng(7)
    path = tmp_path / 'picture.png'
    cv2.imwrite(str(path), rng.integers(0, 255, (90, 120, 3), dtype=np.uint8))
    return str(path)
