"""An export finds what PyTorch finds, and the check sees where it does not."""

import os

import cv2
import numpy as np
import onnxruntime as ort
import pytest
import torch

from mmkd.export import onnx_file, rows_graph
from mmkd.export.export_onnx import Settings, _of_boxes, make_files, prove, with_nms
from mmkd.export.not_exportable import NotExportableError
from mmkd.export.reference import Found
from mmkd.export.same_detections import unmatched
from mmkd.export.trained import open_trained
from mmkd_onnx import load
from tests.export.conftest import save, truth_by

DETECTORS = ('ssd', 'yolov5')
THOROUGH = os.environ.get('HYPOTHESIS_PROFILE') == 'thorough'


@pytest.fixture(scope='session')
def made(opened_ssd, opened_yolov5, ssd, yolov5, tmp_path_factory):
    """Both detectors, their exports, and their files."""
    found = {}
    for name, trained, path in (
        ('ssd', opened_ssd, ssd),
        ('yolov5', opened_yolov5, yolov5),
    ):
        files = make_files(trained)
        file = tmp_path_factory.mktemp('made') / f'{name}.onnx'
        file.write_bytes(files.content)
        truth_by(load(file), path.parent)
        found[name] = trained, files, file, path
    return found


def steps(trained, files, **options):
    return {step.name: step for step in prove(trained, files, **options).steps}


@pytest.mark.parametrize('name', DETECTORS)
def test_all_three_steps_pass(made, name):
    trained, files, _, _ = made[name]
    found = steps(trained, files)
    assert {name: step.passed for name, step in found.items()} == dict(
        rows=True, detections=True, mAP=True
    )
    assert found['detections'].figures['detections'] > 10
    assert found['detections'].figures['ties'] <= 2
    assert found['mAP'].figures['pytorch'] > 70
    assert found['rows'].figures['pixels'] == 0


@pytest.mark.parametrize('name', DETECTORS)
def test_nms_in_the_graph_finds_the_same(made, name):
    trained, files, _, _ = made[name]
    metadata = {**files.metadata, 'outputs': 'detections'}
    suppressed = files._replace(content=with_nms(files.rows, metadata), metadata=metadata)
    found = steps(trained, suppressed)
    assert all(step.passed for step in found.values()), found
    assert found['detections'].figures['detections'] > 10


@pytest.mark.parametrize('name', DETECTORS)
def test_detections_of_the_graph_are_filled_up(made, name, tmp_path):
    _, files, _, path = made[name]
    file = tmp_path / 'nms.onnx'
    file.write_bytes(with_nms(files.rows, files.metadata))
    detect, rows = load(file), load(made[name][2])
    image = cv2.imread(str(path.parent / 'images/1.png'))  # it fills the input, see docs/export.md
    inputs = np.stack([detect.prepare(i).data['inputs'] for i in (image, np.full_like(image, 9))])
    [out] = detect.raw(inputs)
    most = files.metadata['thresholds']['max_per_image']
    assert out.shape == (2, most, 6) and out.dtype == np.float32
    empty = out[..., 5] < 0
    assert (out[empty] == [0, 0, 0, 0, 0, -1]).all()
    assert (np.diff(out[..., 4], axis=1) <= 0).all()  # the surest first, the filling last
    own = rows(image)
    assert np.allclose(np.sort(own.scores), np.sort(detect(image).scores), atol=1e-5)


def test_nms_of_an_older_opset_finds_the_same(opened_ssd):
    import onnx

    made = {opset: make_files(opened_ssd, Settings(nms=True, opset=opset)) for opset in (17, 18)}
    sessions = [ort.InferenceSession(files.content) for files in made.values()]
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    older, newer = (session.run(None, {'image': images})[0] for session in sessions)
    assert onnx.load_from_string(made[17].content).opset_import[0].version == 17
    assert np.allclose(older, newer, atol=1e-3) and (older[..., 5] >= 0).sum() > 20


def test_a_graph_that_is_left_in_another_opset_is_told(opened_ssd, monkeypatch):
    """As by torch's newer exporter, of which it is a warning."""
    own = onnx_file._export
    monkeypatch.setattr(onnx_file, '_export', lambda *args: own(*args[:3], 18, args[4]))
    with pytest.raises(NotExportableError, match=r'asked for, 17, but .* makes .* in 18 alone'):
        make_files(opened_ssd, Settings(opset=17))


def broken(monkeypatch, fault) -> None:
    """A fault of the exporter."""
    own = rows_graph.RowsGraph.__init__
    forward = rows_graph.RowsGraph.forward

    def init(self, *args):
        own(self, *args)
        if fault == 'mean':
            self.mean = self.mean + 5.0
        if fault == 'channels':
            self.swap = not self.swap

    def decoded(self, image):
        boxes, scores = forward(self, image)
        return boxes + (0.05 if fault == 'decode' else 0.0), scores

    monkeypatch.setattr(rows_graph.RowsGraph, '__init__', init)
    monkeypatch.setattr(rows_graph.RowsGraph, 'forward', decoded)


@pytest.mark.parametrize(
    ('name', 'fault'),
    [('ssd', 'mean'), ('ssd', 'channels'), ('ssd', 'decode'), ('yolov5', 'channels')],
)
def test_a_fault_of_the_graph_is_caught(made, name, fault, monkeypatch):
    trained = made[name][0]
    broken(monkeypatch, fault)
    found = steps(trained, make_files(trained), map_images=0)
    assert found['rows'].passed is False


@pytest.mark.parametrize(
    ('fault', 'step'),
    [('resize', 'rows'), ('iou', 'detections'), ('labels', 'detections'), ('scores', 'mAP')],
)
def test_a_fault_of_the_metadata_is_caught(made, fault, step, monkeypatch):
    trained, files, _, _ = made['ssd']
    metadata = {**files.metadata}
    rules = dict(metadata['thresholds'])
    if fault == 'resize':
        rule = metadata['preprocessing']
        wrong = [{**rule['steps'][0], 'interpolation': 'nearest'}]
        metadata['preprocessing'] = {**rule, 'steps': wrong}
    elif fault == 'iou':
        rules['iou'] = 0.9
    elif fault == 'labels':
        rules['multi_label'] = False
    else:
        rules['score'] = 0.4
    metadata['thresholds'] = rules
    from mmkd.export.export_onnx import need
    from mmkd.export.onnx_file import finished

    again = finished(need('onnx', '').load_from_string(files.rows), metadata)
    wrong = files._replace(rows=again, content=again, metadata=metadata)
    assert steps(trained, wrong)[step].passed is False


# It takes ten seconds of a YOLOv5, so that only a thorough run tries both.
@pytest.mark.parametrize('name', DETECTORS if THOROUGH else DETECTORS[:1])
def test_torchs_newer_exporter_makes_the_same(made, name):
    trained = made[name][0]
    files = make_files(trained, Settings(exporter='dynamo'))
    assert prove(trained, files, map_images=0).passed
    import onnx

    domains = {entry.domain for entry in onnx.load_from_string(files.content).opset_import}
    assert domains <= {'', 'pkg.onnxscript.torch_lib.common', 'pkg.onnxscript.torch_lib'}


@pytest.mark.parametrize('name', DETECTORS)
def test_no_operator_is_of_another_domain(made, name):
    """Neither mmcv's, nor what stands in for them."""
    import onnx

    model = onnx.load_from_string(made[name][1].content)
    assert {node.domain for node in model.graph.node} == {''}
    assert not any(t.data_location for t in model.graph.initializer)


def test_float16_is_proven_by_its_map(made):
    trained, files, _, _ = made['ssd']
    half = make_files(trained, Settings(half=True))
    found = steps(trained, half)
    assert found['rows'].passed is None and 1e-5 < found['rows'].figures['score'] < 0.05
    assert found['mAP'].figures['allowed'] == 0.3
    assert 'at most (allowed in float32 1e-04)' in found['rows'].told
    figures = found['detections'].figures
    counts = f'of {figures["detections"]} in PyTorch and {figures["of_the_file"]} of the file: '
    assert found['detections'].told.startswith(counts) and figures['of_the_file'] > 4
    assert len(half.content) < 0.6 * len(files.content)


def test_a_size_and_float32_pixels_of_ones_own(made):
    trained = made['yolov5'][0]
    files = make_files(trained, Settings(size=(96, 64), input='float32'))
    assert files.metadata['preprocessing']['size'] == [96, 64]
    found = steps(trained, files, own_size=False, map_images=0)
    assert found['rows'].passed and found['detections'].passed


@pytest.fixture(scope='module')
def centernet(tmp_path_factory):
    """A CenterNet, whose images lie in the middle of the input and keep their size."""
    model = dict(
        type='CenterNet',
        data_preprocessor=dict(
            type='DetDataPreprocessor', mean=[120, 110, 100], std=[60, 55, 50], bgr_to_rgb=True
        ),
        backbone=dict(type='ResNet', depth=18, base_channels=8),
        neck=dict(
            type='CTResNetNeck',
            in_channels=64,
            num_deconv_filters=(16, 8, 8),
            num_deconv_kernels=(4, 4, 4),
            use_dcn=False,
        ),
        bbox_head=dict(type='CenterNetHead', num_classes=3, in_channels=8, feat_channels=8),
        test_cfg=dict(topk=20, local_maximum_kernel=3, max_per_img=20),
    )
    return open_trained(str(save(model, tmp_path_factory.mktemp('centre'), 'middle', 'mmdet')))


@pytest.mark.parametrize('nms', [False, True])
def test_a_centernet_finds_its_local_maxima(centernet, nms):
    files = make_files(centernet, Settings(size=(64, 96), nms=nms))
    [step] = files.metadata['preprocessing']['steps']
    assert step['step'] == 'letterbox' and step['size'] == [64, 96] and not step['allow_scale_up']
    assert files.metadata['thresholds']['peaks'] == dict(kernel=3, size=[16, 24])
    found = steps(centernet, files, own_size=False)
    assert {name: step.passed for name, step in found.items()} == dict(
        rows=True, detections=True, mAP=True
    )
    assert found['detections'].figures['detections'] == 4 * 20


def test_a_file_of_one_size_is_told_it_where_images_keep_theirs(centernet):
    with pytest.raises(ValueError, match=r'RandomCenterCropPad .* Give --size H W'):
        make_files(centernet)


@pytest.mark.parametrize(
    ('given', 'measured'),
    [
        (['bbox', 'segm'], ['bbox']),
        ('segm', ['bbox']),
        ('bbox', 'bbox'),
        (None, None),
    ],
)
def test_masks_are_not_measured(given, measured):
    """A file gives boxes, and the metric of Mask R-CNN asks for both."""
    own = dict(type='CocoMetric') if given is None else dict(type='CocoMetric', metric=given)
    assert _of_boxes(own).get('metric') == measured


def detections(*rows) -> Found:
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Found(values[:, :4], values[:, 4], values[:, 5].astype(int))


RULES = dict(score=0.05, iou=0.5, max_per_image=3, class_agnostic=False)
ONE = (0, 0, 10, 10, 0.9, 0)


@pytest.mark.parametrize(
    ('own', 'other', 'expected'),
    [
        ([ONE], [ONE], (0, 0)),
        ([ONE], [], (1, 0)),
        ([], [ONE], (1, 0)),
        ([ONE], [(0, 0, 10, 10, 0.9, 1)], (2, 0)),  # another class
        ([ONE], [(0, 0, 10, 10, 0.8, 0)], (2, 0)),  # another score
        ([ONE], [(0, 0, 10, 11, 0.9, 0)], (2, 0)),  # another box
        ([ONE, ONE], [ONE], (1, 0)),  # one to one
        ([ONE, (0, 0, 10, 10, 0.0505, 1)], [ONE], (0, 0)),  # at the score's threshold
        ([ONE, (0, 0, 10, 5, 0.8, 0)], [ONE], (0, 1)),  # overlaps by 0.5, the threshold
        ([ONE, (0, 0, 10, 5, 0.8, 1)], [ONE], (1, 0)),  # that of another class
        # Of three, the last two are equally sure: rounding decides which is the third.
        (
            [ONE, (20, 0, 30, 10, 0.8, 0), (40, 0, 50, 10, 0.5, 0)],
            [ONE, (20, 0, 30, 10, 0.8, 0), (60, 0, 70, 10, 0.5, 0)],
            (0, 2),
        ),
    ],
)
def test_detections_are_matched_one_to_one(own, other, expected):
    assert unmatched(detections(*own), detections(*other), RULES) == expected


def test_torch_is_what_it_is_compared_with(made):
    """The reference takes the detector's own preprocessor and its own prediction."""
    trained = made['ssd'][0]
    called = []
    handle = trained.model.data_preprocessor.register_forward_hook(lambda *_: called.append(1))
    try:
        prove(trained, made['ssd'][1], map_images=0)
    finally:
        handle.remove()
    assert len(called) == 2 * 4 and torch.is_grad_enabled()
