"""The detectors that are written: a small student and its teacher, for each kind of head."""

from collections.abc import Callable
from typing import Any, NamedTuple

#: Weights of ImageNet, as torchvision publishes them.
_IMAGENET = {
    18: 'https://download.pytorch.org/models/resnet18-f37072fd.pth',
    50: 'https://download.pytorch.org/models/resnet50-0676ba61.pth',
}
_IMAGENET_INPUT = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


class Detector(NamedTuple):
    """One of the two detectors.

    Args:
        name: in words.
        model: what its config changes of the base.
        rate: the learning rate.
        weights: where its weights come from, in words.
    """

    name: str
    model: dict[str, Any]
    rate: float
    weights: str


class Recipe(NamedTuple):
    """What is written for a kind of head.

    Args:
        bases: configs that the student inherits.
        scope: of the registry, 'mmdet' or 'mmyolo'.
        batch: images in a step.
        epochs: by which the epochs differ from those of a small SSD.
        method: that evidence favours; None where ``mmkd pair`` chooses.
        balance: of that method, for few images.
    """

    bases: tuple[str, ...]
    scope: str
    batch: int
    epochs: float
    method: str | None = None
    balance: dict[str, Any] | None = None


_DATA = ('mmkd::_base_/datasets/photos.py', 'mmkd::_base_/schedules/photos.py')

#: By ``--head``.
RECIPES = {
    'ssd': Recipe(
        ('mmkd::_base_/models/ssd_r18w32.py', *_DATA), 'mmdet', 16, 1.0, 'ssd_balanced',
        dict(shares=dict(loss_soft=1.0, loss_box=1.0, loss_imitation=0.1)),
    ),
    'yolov5': Recipe(
        ('mmkd::_base_/yolov5_n_small.py',), 'mmyolo', 8, 0.6, 'yolov5_balanced', dict(shares=1.0)
    ),
    'retinanet': Recipe(('mmkd::_base_/models/retinanet_r18w32.py', *_DATA), 'mmdet', 16, 1.0),
    'fcos': Recipe(('mmkd::_base_/models/fcos_r18w32.py', *_DATA), 'mmdet', 16, 1.0),
    'rtmdet': Recipe(('mmkd::_base_/models/rtmdet_tiny.py', *_DATA), 'mmdet', 16, 1.0),
}  # fmt: skip


class Asked(NamedTuple):
    """What a pair of detectors is made for.

    Args:
        head: a key of ``RECIPES``.
        size: 'small' or 'medium'.
        offline: without weights of others.
        classes: how many.
        scale: (width, height) of the input.
        strides: of the levels.
        priors: settings of the anchors; empty for heads without.
    """

    head: str
    size: str
    offline: bool
    classes: int
    scale: tuple[int, int]
    strides: tuple[int, ...]
    priors: dict[str, Any]


def detectors(asked: Asked) -> tuple[Detector, Detector]:
    """The student and its teacher."""
    return _MAKERS[asked.head](asked)


def _resnets(asked: Asked) -> tuple[Detector, Detector]:
    small = asked.size == 'small'
    if asked.offline:
        student, teacher = ((18, 8), (18, 32)) if small else ((18, 32), (18, 64))
    else:
        student, teacher = ((18, 8), (18, 64)) if small else ((18, 64), (50, 64))
    return _resnet(asked, *student, 32 if small else 64), _resnet(
        asked, *teacher, 64 if small else 128
    )


def _resnet(asked: Asked, depth: int, width: int, features: int) -> Detector:
    """On a ResNet of any width; of one of the usual width there are weights of ImageNet."""
    stages = [(stride.bit_length() - 1) - 2 for stride in asked.strides]
    channels = [width * 2**stage * (4 if depth == 50 else 1) for stage in stages]
    backbone: dict[str, Any] = dict(base_channels=width, stem_channels=width)
    if depth != 18:
        backbone['depth'] = depth
    if stages != [1, 2, 3]:
        backbone['out_indices'] = tuple(stages)
    model: dict[str, Any] = dict(backbone=backbone)
    name = f'ResNet-{depth} of width {width}'
    weights, rate = (
        'from scratch: nobody has weights of a ResNet so narrow',
        0.02 if width < 16 else 0.012,
    )
    if asked.offline:
        weights = 'from scratch (--offline)'
    elif width == 64:
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=_IMAGENET[depth])
        model = dict(data_preprocessor=_IMAGENET_INPUT, **model)
        weights, rate = f'ImageNet, {_IMAGENET[depth]}', 0.002
    if asked.head == 'ssd':
        head = dict(in_channels=tuple(channels), num_classes=asked.classes)
        model['bbox_head'] = dict(**head, anchor_generator=asked.priors)
        return Detector(f'SSD on a {name}', model, rate, weights)
    model['neck'] = dict(in_channels=channels, out_channels=features, num_outs=len(channels))
    head = dict(num_classes=asked.classes, in_channels=features, feat_channels=features)
    if asked.head == 'retinanet':
        model['bbox_head'] = dict(**head, anchor_generator=asked.priors)
        return Detector(f'RetinaNet on a {name}', model, rate / 4, weights)
    model['bbox_head'] = dict(**head, **_points(asked))
    return Detector(f'FCOS on a {name}', model, rate / 4, weights)


def _points(asked: Asked) -> dict[str, Any]:
    """The levels of FCOS: each takes objects that reach from 6 times its stride to 12 times."""
    ends = [6 * stride for stride in asked.strides[:-1]]
    ranges = tuple(zip((-1, *ends), (*ends, 1e8), strict=True))
    return dict(strides=list(asked.strides), regress_ranges=ranges)


def _yolov5(asked: Asked) -> tuple[Detector, Detector]:
    small = asked.size == 'small'
    if asked.offline:
        student, teacher = ('w8', 'n') if small else ('n', 's')
    else:
        student, teacher = ('w8', 's') if small else ('n', 'm')
    return _yolov5_of(asked, student), _yolov5_of(asked, teacher)


def _yolov5_of(asked: Asked, letter: str) -> Detector:
    deep, wide, rate = {
        'w8': (0.33, 0.125, 0.008),
        'n': (0.33, 0.25, 0.008),
        's': (0.33, 0.5, 0.006),
        'm': (0.67, 0.75, 0.004),
    }[letter]
    factors = dict(widen_factor=wide)
    if deep != 0.33:
        factors = dict(deepen_factor=deep, **factors)
    model: dict[str, Any] = dict(
        backbone=factors,
        neck=factors,
        bbox_head=dict(
            head_module=dict(num_classes=asked.classes, widen_factor=wide),
            prior_generator=asked.priors,
            # YOLOv5's rules for few classes and small images.
            loss_cls=dict(loss_weight=round(0.5 * asked.classes / 80, 5)),
            loss_obj=dict(loss_weight=round(asked.scale[0] * asked.scale[1] / 640**2, 5)),
        ),
    )
    config = f'mmyolo::yolov5/yolov5_{letter}-v61_syncbn_fast_8xb16-300e_coco.py'
    if letter == 'w8':
        why = 'from scratch: nobody has weights of a YOLOv5 so narrow'
        return Detector(
            "YOLOv5 of half n's width", model, rate, why if not asked.offline else _OFFLINE
        )
    return _with_weights(asked, Detector(f'YOLOv5{letter}', model, rate, _OFFLINE), config)


def _rtmdets(asked: Asked) -> tuple[Detector, Detector]:
    student, teacher = ('half', 'tiny') if asked.size == 'small' else ('tiny', 's')
    return _rtmdet(asked, student), _rtmdet(asked, teacher)


def _rtmdet(asked: Asked, letter: str) -> Detector:
    deep, wide, channels, rate = {
        'half': (0.167, 0.1875, 48, 0.004),
        'tiny': (0.167, 0.375, 96, 0.004),
        's': (0.33, 0.5, 128, 0.002),
    }[letter]
    model: dict[str, Any] = dict(bbox_head=dict(num_classes=asked.classes))
    if letter != 'tiny':
        neck = dict(in_channels=[channels, 2 * channels, 4 * channels], out_channels=channels)
        model = dict(
            backbone=dict(deepen_factor=deep, widen_factor=wide),
            neck=neck,
            bbox_head=dict(num_classes=asked.classes, in_channels=channels, feat_channels=channels),
        )
    if letter == 'half':
        why = 'from scratch: nobody has weights of an RTMDet so narrow'
        return Detector(
            "RTMDet of half tiny's width", model, rate, why if not asked.offline else _OFFLINE
        )
    config = f'mmdet::rtmdet/rtmdet_{letter}_8xb32-300e_coco.py'
    return _with_weights(asked, Detector(f'RTMDet-{letter}', model, rate, _OFFLINE), config)


_OFFLINE = 'from scratch (--offline)'


def _with_weights(asked: Asked, detector: Detector, config: str) -> Detector:
    """With weights of COCO, as the index of a package says where they lie."""
    if asked.offline:
        return detector
    from mmengine.hub import get_config

    address = get_config(config, pretrained=True).model_path
    model = dict(init_cfg=dict(type='Pretrained', checkpoint=address), **detector.model)
    return Detector(detector.name, model, detector.rate / 4, f'COCO, {address}')


_MAKERS: dict[str, Callable[[Asked], tuple[Detector, Detector]]] = {
    'ssd': _resnets,
    'retinanet': _resnets,
    'fcos': _resnets,
    'yolov5': _yolov5,
    'rtmdet': _rtmdets,
}
