"""The pairs that benchmarks measure, untrained, and batches as a data loader gives them."""

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmrazor.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]
PAIRS = {  # config, image size, batch size, objects per image
    'ssd': ('ssd_kd_vgg_to_mbv2_reference', 300, 4, 6),
    'yolov5': ('yolov5_kd_m_to_s_reference', 640, 2, 8),
}
CLASSES = {'ssd': 20, 'yolov5': 80}


def build(
    name: str,
    device: str,
    type_: str = 'DetectionDistill',
    classes: int | None = None,
    **changes: Any,
) -> Any:
    """The pair of a config, untrained; the same student and teacher at each call."""
    config = Config.fromfile(ROOT / f'configs/{PAIRS[name][0]}.py')
    model = copy.deepcopy(config.model)
    model.update(type=type_, teacher_ckpt=None, **{'lean_teacher': None, **changes})
    model.teacher = Config.fromfile(model.teacher).model
    for detector in (model.architecture, model.teacher):
        detector.init_cfg = detector.backbone.init_cfg = None
        detector['_scope_'] = config.default_scope
        if name == 'ssd' and classes:
            detector.bbox_head.num_classes = classes
    if type_ == 'SingleTeacherDistill':
        model.pop('student_loss_weights', None)
        model.pop('lean_teacher')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        built = MODELS.build(model)
        torch.manual_seed(0)
        built.architecture.init_weights()
        torch.manual_seed(1)
        built.teacher.init_weights()
    if name == 'ssd':
        make_confident(built.teacher, classes or CLASSES[name])
    built.train()  # SingleTeacherDistill's returns nothing
    return built.to(device)


@torch.no_grad()
def make_confident(teacher: Any, classes: int) -> None:
    """Give an untrained SSD a trained one's logits: of a spread of 1.5, and sure of background."""
    features = teacher.eval().extract_feat(torch.randn(1, 3, 300, 300))
    for convs, feature in zip(teacher.bbox_head.cls_convs, features, strict=True):
        convs[-1].weight *= 1.5 / convs(feature).std()
        convs[-1].bias.view(-1, classes + 1)[:, -1] += 7


def make_batch(name: str, size: int, images: int, objects: int, classes: int) -> dict:
    """What a data loader gives: random images and boxes."""
    rng = np.random.default_rng(0)
    inputs, samples, rows = [], [], []
    for image in range(images):
        coarse = rng.integers(0, 255, (3, size // 20, size // 20), dtype=np.uint8)
        inputs.append(torch.from_numpy(np.kron(coarse, np.ones((1, 20, 20), np.uint8))))
        sides = rng.uniform(0.1, 0.5, (objects, 2)) * size
        corners = rng.uniform(0, 1, (objects, 2)) * (size - sides)
        boxes = torch.from_numpy(np.concatenate([corners, corners + sides], 1)).float()
        labels = torch.from_numpy(rng.integers(0, classes, objects))
        sample = DetDataSample(
            metainfo=dict(img_shape=(size, size), batch_input_shape=(size, size))
        )
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(sample)
        rows.append(torch.cat([torch.full((objects, 1), image), labels[:, None], boxes], 1))
    if name == 'yolov5':
        return dict(inputs=torch.stack(inputs), data_samples=dict(bboxes_labels=torch.cat(rows)))
    return dict(inputs=inputs, data_samples=samples)
