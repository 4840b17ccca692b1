"""Weights of another number of classes are told as such, before a run."""

import pytest
import torch
from mmengine.config import ConfigDict

from mmkd.algorithms.build_detector import build_detector
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.config.pair_config import set_classes
from tests import zoo

pytestmark = pytest.mark.usefixtures('mmdet_scope')
NAMES = ('ant', 'bee', 'cat', 'dog', 'elk', 'fox', 'gnu')


def detector(name: str, classes: int):
    model = zoo.detector(name)
    if name == 'yolov5':
        pytest.importorskip('mmyolo')
        model.bbox_head.head_module.num_classes = classes
    else:
        set_classes(model, classes)
    return build_detector(ConfigDict(model))


def saved(model, path, **meta) -> str:
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return str(path)


@pytest.mark.parametrize('name', ['ssd', 'retinanet', 'faster_rcnn', 'mask_rcnn', 'detr', 'yolov5'])
def test_both_numbers_are_told_with_the_remedies(name, tmp_path):
    model = detector(name, 3)
    path = saved(detector(name, 7), tmp_path / 'zoo.pth', dataset_meta=dict(classes=NAMES))
    named = r'score 7 \(ant, bee, cat, dog, elk, \.\.\.\): all keys fit but the \d+ of class layers'
    with pytest.raises(ValueError, match=named) as error:
        load_detector(model, path, 'teacher_ckpt', classes=('x', 'y', 'z'))
    said = str(error.value)
    assert said.startswith('teacher_ckpt must hold weights for the 3 classes of the config (x, y,')
    assert 'teacher_ckpt_strict=False would leave them random' in said
    assert '"mmkd pair" without --teacher-ckpt' in said and 'a class_map' in said
    bare = saved(detector(name, 7), tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match=r'score 7: all.*checkpoint of 3 classes, or set num_cl'):
        load_detector(model, bare, 'student_ckpt')


def test_names_that_are_not_those_of_the_layers_do_not_count(tmp_path):
    path = saved(detector('ssd', 7), tmp_path / 'x.pth', dataset_meta=dict(classes=NAMES[:4]))
    with pytest.raises(ValueError, match=r'score 7: all keys'):
        load_detector(detector('ssd', 3), path, 'teacher_ckpt')


def test_what_differs_in_more_is_told_by_its_keys(tmp_path):
    """Other priors, or layers that are missing, are no matter of classes."""
    other = zoo.small('retinanet')
    other.bbox_head.anchor_generator.update(octave_base_scale=4, scales_per_octave=5)
    for model, kind in ((other, 'of another shape'), (zoo.small('fcos'), 'missing')):
        path = saved(build_detector(model), tmp_path / f'{kind}.pth')
        with pytest.raises(ValueError, match=f'teacher_ckpt must hold exactly .*{kind}'):
            load_detector(detector('retinanet', 3), path, 'teacher_ckpt')
