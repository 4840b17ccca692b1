import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmrazor.models.task_modules.recorder import MethodInputsRecorder

from mmkd.recorders.method_inputs_copy_recorder import MethodInputsCopyRecorder

SOURCE = f'{__name__}.Head.loss'


class Head:
    """Overwrites its ground truth, as MMYOLO's does."""

    def loss(self, x, batch_data_samples, scale=1):
        if isinstance(batch_data_samples, dict):
            batch_data_samples['bboxes_labels'][:, 2:] /= scale
        else:
            for sample in batch_data_samples:
                boxes = sample.gt_instances.bboxes
                getattr(boxes, 'tensor', boxes).mul_(0)
        return 'called'


def record(recorder, *args, **kwargs):
    recorder = recorder(SOURCE)
    recorder.initialize()
    with recorder:
        assert Head().loss(*args, **kwargs) == 'called'
    return recorder.get_record_data()


def test_boxes_of_a_dict_are_those_before_the_call():
    boxes = torch.arange(12.0).view(2, 6)
    x, samples, scale = record(
        MethodInputsCopyRecorder, (), {'bboxes_labels': boxes.clone()}, scale=8
    )
    assert torch.equal(samples['bboxes_labels'], boxes)
    assert x == () and scale == 8
    _, samples, _ = record(MethodInputsRecorder, (), {'bboxes_labels': boxes.clone()}, scale=8)
    assert not torch.equal(samples['bboxes_labels'], boxes)  # why the recorder exists


@pytest.mark.parametrize('box_type', [torch.clone, HorizontalBoxes])
def test_boxes_of_data_samples_are_those_before_the_call(box_type):
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    sample = DetDataSample(metainfo={'img_shape': (8, 8)})
    sample.gt_instances = InstanceData(bboxes=box_type(boxes.clone()), labels=torch.ones(1))
    _, samples = record(MethodInputsCopyRecorder, (), batch_data_samples=[sample])
    kept = samples[0].gt_instances.bboxes
    assert torch.equal(getattr(kept, 'tensor', kept), boxes)
    assert samples[0].img_shape == (8, 8)
    assert isinstance(samples[0], DetDataSample)


def test_maps_keep_their_graph_and_the_rest_has_none():
    feature = torch.zeros(1, 2, 3, 3, requires_grad=True) * 2
    boxes = torch.zeros(1, 6, requires_grad=True) * 1
    (maps, samples) = record(MethodInputsCopyRecorder, (feature,), {'bboxes_labels': boxes})
    assert maps[0] is feature
    assert not samples['bboxes_labels'].requires_grad


def test_survives_mmyolos_head():
    pytest.importorskip('mmyolo')
    from mmyolo.models import YOLOv5Head

    module = {
        'type': 'mmyolo.YOLOv5HeadModule',
        'num_classes': 2,
        'in_channels': [8] * 3,
    }
    with DefaultScope.overwrite_default_scope('mmyolo'):
        head = YOLOv5Head(module)
    x = tuple(torch.randn(1, 8, 64 // s, 64 // s) for s in (8, 16, 32))
    labels = torch.tensor([[0.0, 1.0, 8.0, 12.0, 40.0, 50.0]])
    data = {
        'bboxes_labels': labels.clone(),
        'img_metas': [{'batch_input_shape': (64, 64)}],
    }
    source = 'mmyolo.models.dense_heads.yolov5_head.YOLOv5Head.loss'
    recorder = MethodInputsCopyRecorder(source)
    recorder.initialize()
    with recorder:
        head.loss(x, data)
    _, samples = recorder.get_record_data()
    assert torch.equal(samples['bboxes_labels'], labels)
    assert not torch.equal(data['bboxes_labels'], labels)
