"""A function or an ONNX file teaches while the student is trained."""

import numpy as np
import pytest
import torch

from mmkd.runner.exact_runner import ExactRunner
from mmkd.teachers.given_detections import LiveDetections
from mmkd.teachers.outside_detectors import OnnxDetector
from tests.detections.pairs import config, teacher_file
from tests.detections.test_training import losses, start
from tests.teachers.test_outside_detectors import ROWS, SCORES, TOLD, model

FUNCTION = dict(
    function='tests.detections.live.bright',
    classes=['fly', 'moth'],
    class_map=dict(fly='ant', moth='bee'),
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp('data')
    teacher_file(found)
    return found


def test_a_function_sees_the_images_of_the_student(folder, tmp_path):
    """Whatever the student's preprocessing: BGR, 0 to 255, without padding."""
    cfg = config(folder, tmp_path, **{'model.teacher': None})
    cfg.model.teacher = FUNCTION
    pipeline = cfg.train_dataloader.dataset.pipeline
    del pipeline[1]  # of whole numbers, exactly these come back
    pipeline[2] = dict(type='Resize', scale=(64, 48), keep_ratio=False)
    runner = start(cfg)
    runner.model.data_preprocessor.pad_size_divisor = 64
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    seen = []
    detector = runner.model.teacher.detector
    own = detector.function
    detector.function = lambda images: seen.extend(images) or own(images)
    batch = next(iter(runner.train_loop.dataloader))
    pixels = [image.numpy().transpose(1, 2, 0) for image in batch['inputs']]
    data = runner.model.data_preprocessor(batch, True)
    terms = runner.model.train()(**data, mode='loss')
    assert data['inputs'].shape[-2:] == (64, 64)
    assert all(np.array_equal(a, b) for a, b in zip(seen, pixels, strict=True))
    assert float(terms['distill.loss_taught']) > 0
    assert isinstance(runner.model.teacher, LiveDetections)


def test_its_classes_are_mapped_and_others_left_out(folder, tmp_path):
    cfg = config(folder, tmp_path, **{'model.teacher': None})
    cfg.model.teacher = {**FUNCTION, 'class_map': dict(moth='cat')}
    runner = start(cfg)
    teacher = runner.model.teacher
    with pytest.raises(ValueError, match='were not told'):
        teacher.detect(torch.zeros(1, 3, 8, 8), None)
    teacher.take_classes(('ant', 'bee', 'cat'))
    image = torch.zeros(1, 3, 8, 8)
    image[..., 2:5, 3:7] = 255
    [(boxes, scores)] = teacher.detect(image, None)
    assert boxes.tolist() == [[3, 2, 7, 5]]
    torch.testing.assert_close(scores, torch.tensor([[0, 0, 0.8]]))
    with pytest.raises(ValueError, match=r"teacher's are \(fly, moth\), and the student's"):
        teacher.class_map = {}
        teacher.take_classes(('ant', 'bee', 'cat'))


@pytest.mark.parametrize('softmax', [True, False])
def test_scores_that_exclude_each_other_are_renormalised(tmp_path, softmax):
    """As those of a file and of a network, where a class has no partner."""
    scores = np.array([[0.1, 0.6, 0.3], [0.2, 0.5, 0.3], [0.0, 0.3, 0.7]])  # the last: nothing
    told = {**TOLD, 'classes': ['fly', 'moth', 'sky'], 'iou_thr': None}
    if softmax:
        path = model(
            tmp_path / 'm.onnx',
            dict(boxes=ROWS, scores=np.log(np.c_[scores, 1e-9 + 0 * scores[:, :1]] + 1e-9)),
        )
        told.update(activation='softmax', background='last')
    else:
        path = model(tmp_path / 'm.onnx', dict(boxes=ROWS, scores=scores))
    live = LiveDetections(3, OnnxDetector(path, told), dict(fly='ant', moth='bee'))
    live.take_classes(('ant', 'bee', 'cat'))
    [(boxes, found)] = live.detect(torch.zeros(1, 3, 40, 50), None)
    if not softmax:
        wanted = torch.tensor([[0, 0.3, 0], [0.1, 0.6, 0], [0.2, 0.5, 0]])  # without sky's column
        torch.testing.assert_close(found, wanted)
        return
    wanted = torch.tensor([[0.1 / 0.7, 0.6 / 0.7, 0], [0.2 / 0.7, 0.5 / 0.7, 0], [0, 1, 0]])
    order = found[:, 1].argsort(), wanted[:, 1].argsort()
    torch.testing.assert_close(found[order[0]], wanted[order[1]], rtol=1e-4, atol=1e-4)
    assert len(boxes) == 3


def test_an_onnx_file_teaches(folder, tmp_path):
    path = model(tmp_path / 'teacher.onnx', dict(boxes=ROWS, scores=SCORES))
    cfg = config(folder, tmp_path / 'run', **{'model.teacher': None})
    cfg.model.teacher = dict(onnx=str(path), description={**TOLD, 'classes': ['ant', 'bee']})
    runner = start(cfg)
    [(_, _, terms)] = losses(runner, 1)
    assert float(terms['distill.loss_taught']) > 0
    assert runner.model.teacher.shown == str(path)
    cfg.model.teacher = dict(onnx=str(path), descriptions=1)
    with pytest.raises(ValueError, match='may have class_map and description and providers'):
        ExactRunner.from_cfg(cfg)
    cfg.model.teacher = str(path)
    with pytest.raises(ValueError, match='or come with a description'):
        ExactRunner.from_cfg(cfg)
