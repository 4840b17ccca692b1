"""Which rows of a head are its detections, in numbers that a file can state."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmkd.export.bucket_ties import in_buckets
from mmkd.export.not_exportable import NotExportableError
from mmkd.heads import Predictions, predicting_head
from mmkd.heads.readers import names_of

#: Heads of which a row is a detection of its surest class alone.
_ONE_LABEL = ('mmdet.YOLOXHead',)
#: Heads whose ``nms_pre`` counts over all levels.
_ALL_LEVELS = ('mmyolo.YOLOv5Head', 'mmdet.YOLOXHead', 'mmdet.YOLOV3Head')
#: Heads that hold scores against thresholds after they have multiplied them by a factor.
_MULTIPLIED_FIRST = ('mmyolo.YOLOv5Head', 'mmdet.YOLOXHead', 'mmdet.PAAHead')
#: Heads that suppress before boxes are clipped to the image.
_CLIP_LATE = ('mmyolo.YOLOv5Head', 'mmdet.YOLOXHead', 'mmdet.YOLOV3Head')


def rules_of(model: Any, head: Any = None) -> Mapping[str, Any]:
    """The ``test_cfg`` that a detector's head, its predicting one by default, chooses by."""
    head = predicting_head(model)[1] if head is None else head
    return getattr(head, 'test_cfg', None) or getattr(model, 'test_cfg', {}) or {}


def in_pixels(cfg: Mapping[str, Any]) -> bool:
    """Whether a ``test_cfg`` measures sides in pixels of the image, whatever its scale."""
    return cfg.get('min_bbox_size', -1) > 0 or bool((cfg.get('nms') or {}).get('offset'))


def clips(head: Any) -> bool:
    """Whether the coder of a head, of a RoI head's last box head, clips boxes to the image."""
    of_box = getattr(head, 'bbox_head', head)
    last = of_box[-1] if isinstance(of_box, nn.ModuleList) else of_box
    return getattr(getattr(last, 'bbox_coder', None), 'clip_border', True) is not False


def thresholds(model: Any, head: Any, found: Predictions, levels: Sequence[int]) -> dict[str, Any]:
    """The rules of ``mmkd_onnx.detections.choose`` that a head's ``test_cfg`` states.

    Raises:
        NotExportableError: it suppresses in another way than by NMS.
    """
    cfg = rules_of(model, head)
    names = names_of(head)
    nms = cfg.get('nms')
    sigmoid = getattr(getattr(head, 'loss_cls', None), 'use_sigmoid', True)
    several = not any(name in _ONE_LABEL for name in names)
    if found.one_to_one:
        nms, several = None, bool(sigmoid)
    kind = nms.get('type', 'nms') if nms is not None else 'nms'
    if kind != 'nms':
        raise NotExportableError(
            f"a detector that is exported must suppress by type='nms', but its test_cfg has "
            f'{kind!r}. Give --cfg-options model.test_cfg.nms.type=nms with the config.'
        )
    before = cfg.get('nms_pre', -1)
    most = int(cfg.get('max_per_img', -1))
    joined = any(name in _ALL_LEVELS for name in names)
    rules = dict(
        score=float(cfg.get('score_thr', cfg.get('conf_thr', 0.0)) or 0.0),
        iou=None if nms is None else float(nms.get('iou_threshold', nms.get('iou_thr', 0.5))),
        max_per_image=most if most > 0 else found.boxes.size(1),
        before_nms=int(before) if before and before > 0 and not found.one_to_one else None,
        levels=[sum(levels)] if joined else list(levels),
        multi_label=several and bool(cfg.get('multi_label', True)),
        class_agnostic=bool(nms is not None and nms.get('class_agnostic', False)),
        clip_first=clips(head) and not any(name in _CLIP_LATE for name in names),
        min_side=-1.0 if hasattr(head, 'bbox_head') else float(cfg.get('min_bbox_size', -1)),
    ) | _of_few(head, cfg, names, found)
    return rules | _of_suppression(nms, rules)


def _of_suppression(nms: Mapping[str, Any] | None, rules: Mapping[str, Any]) -> dict[str, Any]:
    """What mmcv's ``nms`` may be told besides its threshold, where it is this that suppresses."""
    if nms is None or rules['iou'] is None or {'fast_nms', 'instances'} & set(rules):
        return {}
    told: dict[str, Any] = {}
    most, above = int(nms.get('max_num', -1)), float(nms.get('score_threshold', 0))
    if most > 0:
        told['max_per_image'] = min(most, rules['max_per_image'])
    if above > 0 and 'factor' in rules:
        told['after'] = above
    elif above > 0:
        told['score'] = max(above, rules['score'])
    if nms.get('offset'):
        told['offset'] = int(nms['offset'])
    return told


def factors_of(head: Any, found: Predictions) -> Tensor | None:
    """(B, P, 1), by which a head multiplies its scores after it has held them against thresholds.

    None where there are none, or a head multiplies first.
    """
    if found.quality is None or any(name in _MULTIPLIED_FIRST for name in names_of(head)):
        return None
    return found.quality.exp()


def _of_few(
    head: Any, cfg: Mapping[str, Any], names: Sequence[str], found: Predictions
) -> dict[str, Any]:
    """What the prediction of few heads does besides, or leaves out."""
    rules: dict[str, Any] = {}
    if factors_of(head, found) is not None:
        rules['factor'] = float(cfg.get('conf_thr', 0.0))
    if in_buckets(head):
        rules['border'] = 1
    if 'mmdet.CenterNetHead' in names:
        assert found.priors is not None, 'of the cells of its map'
        height = found.priors[:, 1].unique().numel()
        size = [height, found.boxes.size(1) // height]
        rules['peaks'] = dict(kernel=int(cfg['local_maximum_kernel']), size=size)
        rules.update(max_per_image=int(cfg['topk']), iou=None, class_agnostic=False, score=0.0)
        rules.update(before_nms=None, min_side=-1.0)
    elif 'mmdet.PAAHead' in names:
        rules.update(whole_rows=True, voting=bool(head.with_score_voting), min_side=-1.0)
    elif 'mmdet.YOLOXHead' in names:
        rules.update(max_per_image=found.boxes.size(1), before_nms=None, min_side=-1.0)
    elif 'mmyolo.YOLOv5Head' in names and cfg.get('yolox_style', False):
        rules['max_per_image'] = found.log_prob[0].numel()
    elif 'mmdet.YOLACTHead' in names:
        rules.update(whole_rows=True, fast_nms=int(cfg['top_k']), iou=float(cfg['iou_thr']))
        rules.update(class_agnostic=False, min_side=-1.0)
    elif 'mmdet.RPNHead' in names:
        rules.update(by_level=not (cfg.get('nms') or {}).get('class_agnostic', False), score=0.0)
    instances = getattr(getattr(head, 'bbox_head', None), 'num_instance', 1)
    return rules if instances == 1 else {**rules, 'instances': int(instances)}
