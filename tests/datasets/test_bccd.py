"""The real data set in both its forms, where it is at hand: ../shared/data/bccd."""

import copy
import json

import pytest
import torch
from mmdet.evaluation import CocoMetric, VOCMetric
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmkd.datasets.data_checks import check_data
from mmkd_cli.main import main
from tests.tiny import ROOT

FOLDER = ROOT.parent / 'shared/data/bccd'
pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason='needs ../shared/data/bccd'),
    pytest.mark.usefixtures('mmdet_scope'),
]


@pytest.fixture(scope='module')
def forms():
    """The validation set in COCO and in VOC form."""
    configs = [Config.fromfile(ROOT / f'configs/ssd_r18w8_{f}.py') for f in ('bccd', 'bccd_voc')]
    for config in configs:
        for phase in ('train', 'val', 'test'):
            config[f'{phase}_dataloader'].dataset.data_root = f'{FOLDER}/'
            evaluator = config.get(f'{phase}_evaluator') or {}
            if 'ann_file' in evaluator:
                evaluator.ann_file = evaluator.ann_file.replace('data/bccd', str(FOLDER))
        check_data(config, ('train', 'val', 'test'))
    return [DATASETS.build({**c.val_dataloader.dataset, '_scope_': 'mmdet'}) for c in configs]


def test_both_forms_hold_the_same_boxes(forms):
    coco, voc = (
        {sample['img_id']: sample for sample in map(form.get_data_info, range(87))}
        for form in forms
    )
    assert len(coco) == len(voc) == 87
    by_name = {sample['img_path'].split('/')[-1]: sample for sample in coco.values()}
    for sample in voc.values():
        other = by_name[sample['img_path'].split('/')[-1]]
        assert [i['bbox'] for i in sample['instances']] == [i['bbox'] for i in other['instances']]
        assert [i['bbox_label'] for i in sample['instances']] == [
            i['bbox_label'] for i in other['instances']
        ]


def test_coco_form_is_made_from_voc_form(tmp_path):
    for part in ('JPEGImages', 'Annotations', 'ImageSets'):
        (tmp_path / part).symlink_to(FOLDER / part)
    command = ['data', 'voc2coco', str(tmp_path), '--splits', 'val']
    command += ['--classes', 'RBC', 'WBC', 'Platelets']
    assert main(command) == 0
    made, kept = (
        json.loads((folder / 'annotations/val.json').read_text()) for folder in (tmp_path, FOLDER)
    )
    names = [{image['id']: image['file_name'] for image in c['images']} for c in (made, kept)]
    boxes = [
        sorted((by_id[a['image_id']], a['category_id'], *a['bbox']) for a in c['annotations'])
        for by_id, c in zip(names, (made, kept), strict=True)
    ]
    assert boxes[0] == boxes[1] and len(boxes[0]) == 1137
    with pytest.raises(SystemExit, match='must not exist yet'):
        main(command)


def test_evaluators_agree_on_ap50(forms):
    """Of the same detections, VOC's area AP at IoU 0.5 and COCO's AP50 differ by interpolation."""
    figures = []
    for form, metric in zip(
        forms,
        (
            CocoMetric(ann_file=f'{FOLDER}/annotations/val.json', metric='bbox'),
            VOCMetric(metric='mAP', eval_mode='area'),
        ),
        strict=True,
    ):
        metric.dataset_meta = copy.deepcopy(form.metainfo)
        for index in range(len(form)):
            info = form.get_data_info(index)
            metric.process({}, [detections(info)])
        figures.append(metric.evaluate(len(form)))
    coco, voc = figures
    assert 0.5 < voc['pascal_voc/mAP'] < 0.95
    assert coco['coco/bbox_mAP_50'] == pytest.approx(voc['pascal_voc/mAP'], abs=0.015)


def detections(info: dict) -> dict:
    """Made-up ones: the ground truth moved and scored at random, a fifth lost or doubled."""
    generator = torch.Generator().manual_seed(int(info['img_path'][-9:-4]))
    boxes = torch.tensor([i['bbox'] for i in info['instances']], dtype=torch.float32)
    labels = torch.tensor([i['bbox_label'] for i in info['instances']])
    keep = torch.rand(len(boxes), generator=generator) > 0.2
    boxes = torch.cat([boxes[keep], boxes[: len(boxes) // 5]])
    labels = torch.cat([labels[keep], labels[: len(labels) // 5]])
    boxes = boxes + 6 * torch.randn(boxes.shape, generator=generator)
    scores = torch.rand(len(boxes), generator=generator)
    ground_truth = InstanceData(
        bboxes=torch.tensor([i['bbox'] for i in info['instances']], dtype=torch.float32),
        labels=torch.tensor([i['bbox_label'] for i in info['instances']]),
    )
    return dict(
        img_id=info['img_id'],
        ori_shape=(info['height'], info['width']),
        pred_instances=dict(bboxes=boxes, labels=labels, scores=scores),
        gt_instances=ground_truth,
        ignored_instances=InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        ),
    )
