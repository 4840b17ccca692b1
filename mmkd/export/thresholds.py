"""Which rows of a head are its detections, in numbers that a file can state."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmkd.heads import Predictions
from mmkd.heads.readers import names_of

#: Heads of which a row is a detection of its surest class alone.
_ONE_LABEL = ('mmdet.YOLOXHead',)
#: Heads whose ``nms_pre`` counts over all levels.
_ALL_LEVELS = ('mmyolo.YOLOv5Head', 'mmdet.YOLOXHead')
#: Heads that suppress before boxes are clipped to the image.
_CLIP_LATE = ('mmyolo.YOLOv5Head', 'mmdet.YOLOXHead', 'mmdet.YOLOV3Head')


def thresholds(model: Any, head: Any, found: Predictions, levels: Sequence[int]) -> dict[str, Any]:
    """The rules of ``mmkd_onnx.detections.choose`` that a head's ``test_cfg`` states.

    Raises:
        ValueError: it suppresses in another way than by NMS.
    """
    cfg: Mapping[str, Any] = getattr(head, 'test_cfg', None) or getattr(model, 'test_cfg', {}) or {}
    names = names_of(head)
    nms = cfg.get('nms')
    sigmoid = getattr(getattr(head, 'loss_cls', None), 'use_sigmoid', True)
    several = not any(name in _ONE_LABEL for name in names) and not cfg.get('yolox_style', False)
    if found.one_to_one:
        nms, several = None, bool(sigmoid)
    kind = nms.get('type', 'nms') if nms is not None else 'nms'
    if kind != 'nms':
        raise ValueError(
            f"a detector that is exported must suppress by type='nms', but its test_cfg has "
            f'{kind!r}. Give --cfg-options model.test_cfg.nms.type=nms with the config.'
        )
    before = cfg.get('nms_pre', -1)
    most = int(cfg.get('max_per_img', -1))
    joined = any(name in _ALL_LEVELS for name in names)
    return dict(
        score=float(cfg.get('score_thr', cfg.get('conf_thr', 0.0)) or 0.0),
        iou=None if nms is None else float(nms.get('iou_threshold', nms.get('iou_thr', 0.5))),
        max_per_image=most if most > 0 else found.boxes.size(1),
        before_nms=int(before) if before and before > 0 and not found.one_to_one else None,
        levels=[sum(levels)] if joined else list(levels),
        multi_label=several and bool(cfg.get('multi_label', True)),
        class_agnostic=bool(nms is not None and nms.get('class_agnostic', False)),
        clip_first=not any(name in _CLIP_LATE for name in names),
        min_side=float(cfg.get('min_bbox_size', -1)),
    )
