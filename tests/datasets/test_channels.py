"""Images of one channel and of 16 bits work from the file to the loss, or are refused by name."""

import copy

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch import nn

from mmkd.datasets import channels, image_file
from mmkd.datasets.channels import check_channels, input_channels
from mmkd.datasets.data_checks import check_data
from mmkd.errors import ImageError
from mmkd.teachers.input_translation import InputTranslation
from tests.datasets.test_annotations import CLASSES, loader
from tests.tiny import tiny_pair, tiny_ssd, tiny_yolov5, write_coco

pytestmark = pytest.mark.usefixtures('mmdet_scope')
GREY, UNCHANGED = dict(color_type='grayscale'), dict(color_type='unchanged')


@pytest.fixture
def notes(monkeypatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(channels, '_told', [])
    monkeypatch.setattr(channels, '_tell', found.append)
    monkeypatch.setattr(image_file, '_TOLD', bytearray(2))

    def keep(text, *_, **__):
        if '16 bits' in text:
            found.append(text)

    monkeypatch.setattr('mmengine.logging.print_log', keep)
    return found


def detector(count: int, width: int = 8, **preprocessor) -> dict:
    model = tiny_ssd(width=width)
    settings = dict(mean=[110.0] * count, std=[58.0] * count, bgr_to_rgb=count == 3)
    model['data_preprocessor'].update({**settings, **preprocessor})
    model['backbone']['in_channels'] = count
    return model


def config(root, load, *extra, model=None) -> Config:
    write_coco(root, 'train', 2, CLASSES)
    pipeline = [
        dict(type='LoadImageFromFile', **load),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(64, 64), keep_ratio=False),
        dict(type='RandomFlip', prob=1.0),
        *extra,
        dict(type='PackDetInputs'),
    ]
    made = loader('CocoDataset', root, pipeline=pipeline, serialize_data=False)
    made.model = model
    return made


def rewrite(root, change, suffix='.png'):
    """Write each image anew, lossless and under its old name."""
    for path in (root / 'JPEGImages').iterdir():
        image = change(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
        path.write_bytes(cv2.imencode(suffix, image)[1].tobytes())


def batch(made: Config) -> dict:
    dataset = DATASETS.build(made.train_dataloader.dataset)
    return pseudo_collate([dataset[0], dataset[1]])


def losses(pair: dict, data: dict) -> dict:
    torch.manual_seed(0)
    model = MODELS.build(pair).train()
    found = model(**model.data_preprocessor(data, True), mode='loss')
    predicted = model.eval().test_step(data)
    assert len(predicted) == 2
    return {
        name: float(value.detach()) for name, value in found.items() if name.startswith('distill')
    }


@pytest.mark.parametrize('lean', [None, {}])
@pytest.mark.parametrize(
    'teacher',
    [
        detector(1, 16),
        detector(3, 16, mean=[110.0], std=[58.0], bgr_to_rgb=False),
        detector(3, 16, mean=None, std=None, bgr_to_rgb=False),
        detector(1, 16, mean=None, std=None),
    ],
    ids=['one channel', 'three', 'three, not normalised', 'one, not normalised'],
)
def test_grey_images_are_trained_on_and_tested(tmp_path, teacher, lean):
    student = detector(1)
    made = config(tmp_path, GREY, model=student)
    check_data(made, ('train',))
    found = losses(tiny_pair(architecture=student, teacher=teacher, lean_teacher=lean), batch(made))
    assert all(np.isfinite(list(found.values()))) and found['distill.loss_soft'] > 0


def test_a_teacher_of_colour_images_sees_a_grey_one_as_decoders_give_it():
    """The batch of the grey student becomes what the teacher's preprocessor makes of BGR."""
    image = torch.randint(0, 256, (1, 32, 32), dtype=torch.uint8)
    mean, std = [123.0, 116.0, 103.0], [58.0, 57.0, 60.0]
    for own in (dict(mean=[90.0], std=[40.0]), dict(mean=None, std=None)):
        for settings in (
            dict(mean=mean, std=std, bgr_to_rgb=True),
            dict(),
            dict(mean=[9], std=[2]),
        ):
            student = MODELS.build(dict(type='DetDataPreprocessor', **own))
            teacher = MODELS.build(dict(type='DetDataPreprocessor', **settings))
            seen = InputTranslation(student, teacher, (1, 3))(
                student(dict(inputs=[image]))['inputs']
            )
            expected = teacher(dict(inputs=[image.repeat(3, 1, 1)]))['inputs']
            assert seen.shape == (1, 3, 32, 32)
            torch.testing.assert_close(seen, expected, rtol=1e-5, atol=1e-4)


def test_a_grey_teacher_of_a_colour_student_is_refused():
    pair = tiny_pair(architecture=detector(3), teacher=detector(1, 16))
    with pytest.raises(ValueError, match='the student takes 3 and the teacher 1'):
        MODELS.build(pair)


DEPTHS = {  # what 8 grey bits become, loader, is there a note
    '16 bits': (lambda image: image.astype(np.uint16) * 257, UNCHANGED, False),
    '12 bits': (lambda image: image.astype(np.uint16) * 16, UNCHANGED, False),
    '16 bits as 8': (lambda image: image.astype(np.uint16) * 257, GREY, False),
    '12 bits as 8': (lambda image: image.astype(np.uint16) * 16, GREY, True),
}


@pytest.mark.parametrize('case', DEPTHS)
@pytest.mark.parametrize('to_float32', [False, True])
def test_sixteen_bits(tmp_path, notes, case, to_float32):
    change, load, told = DEPTHS[case]
    top = {'16 bits': 65535, '12 bits': 4080}.get(case, 255)
    student = detector(1, mean=[top / 2], std=[top / 5])
    made = config(tmp_path, dict(load, to_float32=to_float32), model=student)
    rename_to_png(tmp_path, made)
    rewrite(tmp_path, change)
    check_data(made, ('train',))
    data = batch(made)
    found = losses(tiny_pair(architecture=student, teacher=detector(3, 16)), data)
    assert all(value < 50 for value in found.values())
    assert [bool('values up to' in note) for note in notes] == [True] * told
    notes.clear()
    losses(tiny_pair(architecture=detector(1), teacher=detector(1)), data)
    # Normalised as images of 8 bits, those of 16 are far out of range.
    assert ['they are those of other images' in n for n in notes] == [True] * (case == '16 bits')


def rename_to_png(root, made):
    path = root / 'annotations/train.json'
    path.write_text(path.read_text().replace('.jpg', '.png'))
    for image in list((root / 'JPEGImages').iterdir()):
        image.rename(image.with_suffix('.png'))


@pytest.mark.parametrize('color_type', ['color', 'grayscale'])
def test_pillow_cuts_sixteen_bits_off(tmp_path, notes, color_type):
    made = config(tmp_path, dict(color_type=color_type, imdecode_backend='pillow'))
    rename_to_png(tmp_path, made)
    rewrite(tmp_path, lambda image: image.astype(np.uint16) * 257)
    with pytest.raises(ImageError, match=r'keep its values.*train000\.png" has 16 bits.*unchanged'):
        batch(made)
    rewrite(tmp_path, lambda image: image.astype(np.uint16))
    assert len(batch(made)['inputs']) == 2


def test_images_with_other_channels_are_named(tmp_path):
    made = config(tmp_path, UNCHANGED)
    rewrite(tmp_path, lambda image: image)
    for settings, match in (
        (dict(bgr_to_rgb=True), r'the channels of .*, 3, but .*train000\.jpg" has 1'),
        (dict(bgr_to_rgb=False), r'the channels of .*, 3, but .*train000\.jpg" has 1'),
    ):
        model = MODELS.build(detector(3, **settings))
        with pytest.raises(ImageError, match=match):
            model.data_preprocessor(batch(made))
    model = MODELS.build(detector(3))
    rewrite(tmp_path, lambda image: cv2.cvtColor(image, cv2.COLOR_GRAY2BGRA))
    # The swap of channels takes alpha off; without one nothing does.
    assert model.data_preprocessor(batch(made))['inputs'].shape == (2, 3, 64, 64)
    model = MODELS.build(detector(3, bgr_to_rgb=False))
    with pytest.raises(ImageError, match=r'the channels.*, 3, but .*train000\.jpg" has 4'):
        model.data_preprocessor(batch(made))
    [path, _] = sorted((tmp_path / 'JPEGImages').iterdir())
    path.write_bytes(cv2.imencode('.png', np.zeros((120, 160), np.uint8))[1].tobytes())
    model = MODELS.build(detector(1))
    with pytest.raises(ImageError, match=r'the channels.*, 1, but .*train001\.jpg" has 4'):
        model.data_preprocessor(batch(made))


def test_a_transform_that_needs_colours_is_named(tmp_path):
    made = config(tmp_path, GREY, dict(type='YOLOXHSVRandomAug'))
    with pytest.raises(
        ImageError, match=r'^YOLOXHSVRandomAug must be able.*train000\.jpg" is uint8'
    ):
        batch(made)


FAULTS = {
    'mean of 3': (GREY, detector(3), 'gives 1 and data_preprocessor.mean has 3 values'),
    'swap': (GREY, detector(1, bgr_to_rgb=True), 'gives 1 and data_preprocessor.bgr_to_rgb needs'),
    'backbone': (
        GREY,
        detector(3, mean=[1.0], std=[1.0], bgr_to_rgb=False),
        r'gives 1 and model.backbone \(ResNet\) takes 3',
    ),
    'colour': ({}, detector(1), 'gives 3 and model.backbone .*takes 1.*in_channels=3'),
}


@pytest.mark.parametrize('fault', FAULTS)
@pytest.mark.parametrize('pair', [False, True])
def test_what_the_config_shows_is_refused_before_the_run(tmp_path, fault, pair):
    load, model, match = FAULTS[fault]
    made = config(tmp_path, load, model=tiny_pair(architecture=model) if pair else model)
    with pytest.raises(ValueError, match=f'^train_dataloader: images must be loaded.*{match}'):
        check_data(made, ('train',))


def test_yolov5_of_grey_images_is_seen_before_the_run():
    pytest.importorskip('mmyolo')
    model = tiny_yolov5()
    model['data_preprocessor'].update(mean=[0.0], std=[255.0], bgr_to_rgb=False)
    settings = dict(default_scope='mmyolo', model=model)
    pipeline = [dict(type='LoadImageFromFile', **GREY)]
    with pytest.raises(ValueError, match=r'YOLOv5CSPDarknet\) takes 3.*MMYOLO: input_channels'):
        check_channels('train_dataloader', pipeline, settings)
    model['backbone']['input_channels'] = 1
    check_channels('train_dataloader', pipeline, settings)
    assert input_channels(MODELS.build(dict(model, _scope_='mmyolo'))) == 1


class Stack(nn.Module):
    """A user's own transform, preprocessor or backbone: what it does nobody knows."""


def test_what_is_not_certain_is_left_to_the_first_batch():
    own = dict(type=Stack)
    load = dict(type='LoadImageFromFile', **GREY)
    colour = detector(3)
    for pipeline, model in (
        ([load, own], colour),
        ([load, dict(type='RandomGrayscale')], colour),
        ([dict(load, color_type='unchanged')], colour),
        ([dict(load, imdecode_backend='tifffile')], colour),
        ([load], dict(colour, data_preprocessor=own)),
        ([load], dict(detector(1), backbone=own)),
        ([], colour),
        (None, colour),
        ([dict(load, color_type='color')], detector(3, mean=[1.0], std=[1.0])),
        ([load], None),
    ):
        settings = dict(default_scope='mmdet', model=model)
        check_channels('train_dataloader', pipeline, settings)


@pytest.mark.parametrize(
    'backbone, expected',
    [
        (dict(type='ResNet', depth=18, in_channels=4), 4),
        (dict(type='CSPDarknet', deepen_factor=0.33, widen_factor=0.125), 3),  # it folds 2 x 2
        (dict(type='MobileNetV2', widen_factor=0.25), 3),
        (dict(type='SwinTransformer', embed_dims=24, depths=(1,), num_heads=(1,), strides=(4,),
              out_indices=(0,), in_channels=1), 1),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)  # fmt: skip
def test_channels_of_built_backbones(backbone, expected):
    assert input_channels(MODELS.build(backbone)) == expected


def test_a_config_with_any_fault_is_left_to_what_names_it():
    """Each key of model and loader as something else: nothing but a clear error comes of it."""
    good = dict(
        default_scope='mmdet',
        model=dict(type='DetectionDistill', architecture=detector(1)),
        pipeline=[dict(type='LoadImageFromFile', **GREY), dict(type='PackDetInputs')],
    )

    def broken(node, path=()):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            for other in (None, 5, 'x', [], {}, [3], dict(type='Unknown')):
                yield (*path, key), other
            if isinstance(value, dict | list) and key not in ('neck', 'bbox_head', 'train_cfg'):
                yield from broken(value, (*path, key))

    for path, other in broken(good):
        config = copy.deepcopy(good)
        node = config
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = other
        try:
            check_channels('train_dataloader', config['pipeline'], config)
        except ValueError as error:
            assert 'images must be loaded with the channels' in str(error)
