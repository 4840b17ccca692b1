"""Patches of mmdet's detectors and heads: what they mend, and that they are still needed."""

import pytest
import torch
from mmdet.models.dense_heads import GuidedAnchorHead
from mmdet.models.detectors import SingleStageDetector, TridentFasterRCNN
from mmdet.models.detectors.base_detr import DetectionTransformer
from mmdet.registry import MODELS

from tests.export.roi_kinds import built
from tests.heads.dense_cases import CASES, build, features
from tests.heads.models import small
from tests.tiny import raw_batch

pytestmark = pytest.mark.usefixtures('mmdet_scope')


@pytest.mark.parametrize(
    ('base', 'name'),
    [
        (SingleStageDetector, 'retinanet/retinanet_r18_fpn_1x_coco'),
        (DetectionTransformer, 'detr/detr_r50_8xb2-150e_coco'),
    ],
)
def test_hooks_of_the_head_are_called(base, name):
    model = MODELS.build(small(name)).eval()
    data = model.data_preprocessor(raw_batch(1))
    seen: list = []
    model.bbox_head.register_forward_hook(lambda *args: seen.append(args[-1]))
    with torch.no_grad():
        outputs = model(**data, mode='tensor')
        assert len(seen) == 1 and seen[0] is outputs
        unpatched = base._forward.__wrapped__(model, data['inputs'], data['data_samples'])
    assert len(seen) == 1, 'mmdet calls the hooks itself: remove the patch'
    for one, other in zip(outputs, unpatched, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize('name', ['GuidedAnchorHead', 'GARetinaHead', 'GARPNHead'])
def test_a_batch_goes_through_guided_anchors(name):
    head, maps = build(CASES[name], name), features(CASES[name])
    with torch.no_grad():
        found = head(maps)
        for i in range(len(maps[0])):
            alone = head(tuple(level[i : i + 1] for level in maps))
            for kind, own in zip(found, alone, strict=True):
                for level, expected in zip(kind, own, strict=True):
                    torch.testing.assert_close(level[i : i + 1], expected)
        with pytest.raises(AssertionError):  # once mmcv takes a batch: does mmdet give all masks?
            GuidedAnchorHead.forward.__wrapped__(head, maps)


def test_an_image_of_all_branches_is_found_alone_in_a_batch():
    model = built('branches')
    data = model.data_preprocessor(raw_batch(2))
    with torch.no_grad():
        together = model.predict(data['inputs'], data['data_samples'])
        assert len(together) == 2
        for i, found in enumerate(together):
            own = found.pred_instances.clone()
            [alone] = model.predict(data['inputs'][i : i + 1], data['data_samples'][i : i + 1])
            assert len(own) > 5 and torch.equal(own.labels, alone.pred_instances.labels)
            torch.testing.assert_close(own.bboxes, alone.pred_instances.bboxes)
        unpatched = TridentFasterRCNN.predict.__wrapped__(model, *data.values())
    assert len(unpatched) == 6, 'mmdet gives each image once: is the patch still needed?'
