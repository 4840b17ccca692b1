"""A detector that predicts what its data set has: on sound data it must score 1."""

import time
from pathlib import Path

import torch

import mmkd  # noqa: F401  (first: it makes mmdet importable, and registers everything)

# isort: split
from mmdet.models.detectors.base import BaseDetector
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmkd.runner.evaluate import evaluate

RESIZE = dict(type='Resize', scale=(64, 48), keep_ratio=False)
PACK = dict(
    type='PackDetInputs',
    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
)
#: As mmdet's own VOC config: boxes are loaded after the image is resized.
PIPELINE = [
    dict(type='LoadImageFromFile'),
    RESIZE,
    dict(type='LoadAnnotations', with_bbox=True),
    PACK,
]
PREPROCESSOR = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)


@MODELS.register_module()
class Oracle(BaseDetector):
    """Predicts the instances of a data set, in the coordinates of the original image, at score 1.

    Args:
        dataset (dict): config of the data set.
        crowds (bool): whether it also predicts what is to be ignored. Defaults to False.
        data_preprocessor (dict): of mmdet.
    """

    def __init__(self, dataset: dict, data_preprocessor: dict, crowds: bool = False) -> None:
        super().__init__(data_preprocessor=data_preprocessor)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        loaded = DATASETS.build(dataset)
        self.known = {
            info['img_id']: [i for i in info['instances'] if crowds or not i['ignore_flag']]
            for info in map(loaded.get_data_info, range(len(loaded)))
        }

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        assert torch.isfinite(batch_inputs).all() and rescale
        found = []
        for sample in batch_data_samples:
            known = self.known[sample.img_id]
            boxes = torch.tensor([i['bbox'] for i in known], dtype=torch.float32).reshape(-1, 4)
            labels = torch.tensor([i['bbox_label'] for i in known], dtype=torch.long)
            scores = torch.ones(len(known))
            found.append(InstanceData(bboxes=boxes, labels=labels, scores=scores))
        return self.add_pred_to_datasample(batch_data_samples, found)

    def loss(self, batch_inputs, batch_data_samples):
        raise NotImplementedError

    def _forward(self, batch_inputs, batch_data_samples=None):
        raise NotImplementedError

    def extract_feat(self, batch_inputs):
        raise NotImplementedError


def coco_config(root, **dataset) -> Config:
    """The evaluation of a COCO data set as ``write_coco`` makes it, split 'test'."""
    return config(
        dict(
            type='CocoDataset',
            ann_file='annotations/test.json',
            data_prefix=dict(img='JPEGImages/'),
            **dataset,
        ),
        dict(type='CocoMetric', ann_file=f'{root}/annotations/test.json'),
        root,
    )


def voc_config(root, **dataset) -> Config:
    """The evaluation of a VOC data set as ``write_voc`` makes it, split 'test'."""
    return config(
        dict(
            type='VOCDataset',
            ann_file='ImageSets/Main/test.txt',
            data_prefix=dict(sub_data_root=''),
            **dataset,
        ),
        dict(type='VOCMetric', metric='mAP'),
        root,
    )


def config(dataset: dict, evaluator: dict, root) -> Config:
    shared = dict(
        data_root=f'{root}/',
        test_mode=True,
        serialize_data=False,  # it collects garbage for a second
        pipeline=PIPELINE,
        metainfo=dict(classes=('ant', 'bee', 'cat')),
    )
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset={**shared, **dataset},
    )
    return Config(
        dict(
            default_scope='mmdet',
            test_dataloader=loader,
            test_evaluator=evaluator,
            test_cfg=dict(type='TestLoop'),
        )
    )


def measure(cfg: Config, folder, crowds: bool = False) -> dict:
    """What ``mmkd test`` finds for the oracle."""
    cfg = Config(cfg.to_dict())
    cfg.model = dict(
        type='Oracle',
        dataset=cfg.test_dataloader.dataset,
        data_preprocessor=PREPROCESSOR,
        crowds=crowds,
    )
    cfg.work_dir = str(Path(folder, 'runs'))
    cfg.log_level = 'ERROR'
    cfg.experiment_name = f'oracle_{time.monotonic_ns()}'
    checkpoint = Path(folder, 'oracle.pth')
    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), meta={}), checkpoint)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return evaluate(cfg, str(checkpoint))


def mean_ap(figures: dict) -> float:
    """The mAP among an evaluation's figures."""
    [value] = [v for k, v in figures.items() if k.endswith(('bbox_mAP', 'pascal_voc/mAP'))]
    return value
