"""What a detector measures on the image, not on the input, a file measures there, too."""

import copy

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.export.export_onnx import Settings, make_files, prove
from mmkd.export.input_rule import input_rule
from mmkd.export.int8.export_int8 import opened
from mmkd.export.reference import Found
from mmkd.export.same_detections import unmatched
from tests.export.conftest import config_for, scene

#: Height, width, and what is left of them in an input of 64 x 64.
SHAPES = {(160, 100): (64, 40), (30, 47): (41, 64)}
RULES = {
    'clip': {},
    'min_bbox_size': dict(min_bbox_size=9),
    'max_num': dict(nms=dict(type='nms', iou_threshold=0.45, max_num=7)),
    'score_threshold': dict(nms=dict(type='nms', iou_threshold=0.45, score_threshold=0.4)),
    'offset': dict(nms=dict(type='nms', iou_threshold=0.3, offset=1), score_thr=0.2),
}


def with_rules(trained, **rules):
    """A detector with another ``test_cfg``."""
    model = copy.deepcopy(trained.model)
    model.bbox_head.test_cfg = ConfigDict({**model.bbox_head.test_cfg, **rules})
    return trained._replace(model=model)


def by_mmdet(model, file, image, shape) -> Found:
    """What mmdet's own ``predict`` finds, in pixels of the image, told of it as by its pipeline."""
    prepared = file.prepare(image).data
    told = dict(img_shape=shape, ori_shape=image.shape[:2], pad_shape=(64, 64), img_id=0)
    sides = np.array(shape) / image.shape[:2]
    sample = DetDataSample(metainfo=dict(told, scale_factor=tuple(sides[::-1])))
    data = dict(inputs=[torch.from_numpy(prepared['inputs'])], data_samples=[sample])
    with DefaultScope.overwrite_default_scope('mmdet'), torch.no_grad():
        [found] = model.predict(**_in_order(model.data_preprocessor(data, False)))
    own = found.pred_instances
    return Found(own.bboxes.numpy(), own.scores.numpy(), own.labels.numpy())


def _in_order(data):
    return dict(batch_inputs=data['inputs'], batch_data_samples=data['data_samples'])


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('name', RULES)
def test_a_file_finds_what_mmdet_finds_in_the_image(opened_ssd, name, shape):
    trained = with_rules(opened_ssd, **RULES[name])
    file = opened(make_files(trained).content)
    image = scene(np.random.default_rng(2), shape, 3, 4)[0]
    found = file(image)
    own = by_mmdet(trained.model, file, image, SHAPES[shape])
    other = Found(found.boxes, found.scores, found.labels)
    assert unmatched(own, other, file.metadata.thresholds)[0] == 0 and len(own.scores) > 1
    plain = dict(file.metadata.thresholds) | dict(min_side=0.0, score=0.0, max_per_image=300)
    for rule in ('after', 'offset'):
        plain.pop(rule, None)
    prepared = file.prepare(image).data
    outputs = [output[0] for output in file.raw(prepared['inputs'][None])]
    file.metadata.thresholds.clear()
    file.metadata.thresholds.update(plain)
    told = file.chosen(outputs, None if name == 'clip' else prepared['placed'])
    without = Found(prepared['placed'].back(told[0]), *told[1:])
    assert unmatched(own, without, plain)[0] > 0  # so that the rule matters here


@pytest.mark.parametrize('name', RULES)
def test_the_parity_holds(opened_ssd, name):
    trained = with_rules(opened_ssd, **RULES[name])
    rows, detections, _ = prove(trained, make_files(trained), map_images=0).steps
    assert rows.passed and detections.passed and detections.figures['detections'] > 4


def test_a_detector_that_does_not_clip_finds_the_same(opened_ssd):
    trained = with_rules(opened_ssd)
    trained.model.bbox_head.bbox_coder.clip_border = False
    files = make_files(trained)
    assert not files.metadata['thresholds']['clip_first']
    steps = prove(trained, files, map_images=0).steps
    assert steps[2].told == 'not measured: left out'
    assert steps[1].passed and steps[1].figures['detections'] > 4


def test_the_parity_of_a_file_with_nms_is_that_of_its_input(opened_ssd):
    files = make_files(opened_ssd, Settings(nms=True))
    assert (
        opened(files.content).prepare(np.zeros((32, 64, 3), np.uint8)).data['placed'].bounds is None
    )
    assert all(step.passed is not False for step in prove(opened_ssd, files, map_images=0).steps)


@pytest.mark.parametrize(
    ('name', 'match'),
    [('min_bbox_size', r'min_bbox_size=9 in pixels'), ('offset', r'longer by offset=1 pixel')],
)
def test_what_a_graph_cannot_know_is_refused_before_it_is_made(
    opened_ssd, name, match, monkeypatch
):
    monkeypatch.setattr('mmkd.export.export_onnx.graph_bytes', None)  # is not called
    with pytest.raises(ValueError, match=rf'with --nms .*{match}.*Export it without --nms'):
        make_files(with_rules(opened_ssd, **RULES[name]), Settings(nms=True))


@pytest.mark.parametrize(
    ('pad', 'bounds'),
    [
        (None, (40, 64)),
        (dict(size_divisor=16), (48, 64)),
        (dict(size_divisor=32), (64, 64)),
        (dict(pad_to_square=True), (64, 64)),
        (dict(size=(64, 64)), None),
    ],
)
def test_boxes_are_clipped_to_what_the_pipeline_takes_for_the_image(pad, bounds, tmp_path):
    from mmdet.datasets.transforms import Pad

    from mmkd_onnx.preparation import place

    config = config_for({}, tmp_path, 'ratio', 'mmdet')
    if pad:
        config.test_dataloader.dataset.pipeline.insert(2, dict(type='Pad', **pad))
        config.val_dataloader.dataset.pipeline = config.test_dataloader.dataset.pipeline
    from mmdet.models import DetDataPreprocessor

    rule = input_rule(config, Preprocessing.of(DetDataPreprocessor()), size=(64, 64))
    image = np.zeros((80, 128, 3), np.uint8)
    placed = place(image, rule)
    assert placed.bounds == bounds
    if pad:
        padded = Pad(**pad)(dict(img=np.zeros((40, 64, 3), np.uint8), img_shape=(40, 64)))
        sides = [min(side, 64) for side in padded['img_shape']]
        assert sides == list(placed.bounds or (64, 64))
