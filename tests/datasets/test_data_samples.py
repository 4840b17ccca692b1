import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from mmkd.datasets.data_samples import boxes_of, ground_truth, metas_of, of_input, rolled


def listed(boxes, wrap=lambda boxes: boxes):
    samples = []
    for number, own in enumerate(boxes):
        sample = DetDataSample(metainfo=dict(img_shape=(16, number)))
        sample.gt_instances = InstanceData(bboxes=wrap(own), labels=torch.zeros(len(own)))
        samples.append(sample)
    return samples


def fast_collated(boxes):
    rows = [
        torch.cat([torch.tensor([[image, 0.0]]).expand(len(own), 2), own], 1)
        for image, own in enumerate(boxes)
    ]
    return dict(bboxes_labels=torch.cat(rows), img_metas=[{}] * len(boxes))


@given(counts=st.lists(st.integers(0, 3), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_each_kind_of_batch_tells_the_same(counts):
    boxes = [torch.rand(count, 4) for count in counts]
    kinds = listed(boxes), tuple(listed(boxes, HorizontalBoxes)), fast_collated(boxes)
    for kind in kinds:
        found, images = ground_truth(kind)
        assert torch.equal(found, torch.cat(boxes))
        assert [found[images == i].tolist() for i in range(len(boxes))] == [
            own.tolist() for own in boxes
        ]
    assert torch.equal(boxes_of(kinds[1][0]), boxes[0])


def test_metainfo_of_each_kind():
    boxes = [torch.rand(1, 4)] * 2
    assert [meta['img_shape'] for meta in metas_of(listed(boxes))] == [(16, 0), (16, 1)]
    assert metas_of(fast_collated(boxes)) == [{}, {}]
    assert metas_of({'bboxes_labels': torch.zeros(0, 6)}) is None and metas_of(None) is None


def test_rolled_samples_go_with_rolled_images():
    samples = listed([torch.rand(1, 4)] * 3)
    images = torch.arange(3).roll(1, 0)
    assert [sample.img_shape[1] for sample in rolled(samples)] == images.tolist()
    dict_of_all = fast_collated([torch.rand(1, 4)])
    assert rolled(dict_of_all) is dict_of_all and rolled(None) is None


@pytest.mark.parametrize(
    ('samples', 'match'),
    [
        ({'img_metas': []}, "must hold 'bboxes_labels'"),
        ([DetDataSample()], 'Only training batches have ground truth'),
        (None, 'must be a list of DetDataSample'),
    ],
)
def test_a_batch_without_ground_truth_is_refused(samples, match):
    with pytest.raises(ValueError, match=match):
        ground_truth(samples)


def test_samples_of_another_models_batch():
    fast = fast_collated([torch.rand(2, 4), torch.rand(0, 4)])
    fast['img_metas'] = [dict(batch_input_shape=torch.Size((32, 32)))] * 2
    for samples in (fast, listed([torch.rand(2, 4), torch.rand(0, 4)])):
        if isinstance(samples, list):
            assert of_input(samples, torch.zeros(2, 3, 32, 32)) == samples  # not told its size
            for sample in samples:
                sample.set_metainfo(dict(batch_input_shape=(32, 32), pad_shape=(32, 32)))
        found = of_input(samples, torch.zeros(2, 3, 64, 32))
        assert [sample.metainfo['batch_input_shape'] for sample in found] == [(64, 32)] * 2
        if isinstance(samples, list):
            assert torch.equal(ground_truth(found)[0], ground_truth(samples)[0])
        assert metas_of(samples)[0]['batch_input_shape'] == (32, 32)  # the student's stay
    assert [sample.img_shape for sample in of_input(fast, torch.zeros(2, 3, 64, 32))] == [
        (32, 32)
    ] * 2
    assert of_input(None, torch.zeros(1, 3, 8, 8)) is None
    assert of_input({'other': 1}, torch.zeros(1, 3, 8, 8)) == {'other': 1}
