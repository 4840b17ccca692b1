"""A two-stage detector's rows: proposals, what lies in them, and a box for each class."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from mmkd.export.not_exportable import NotExportableError
from mmkd.export.onnx_functions import LEFT_OUT, RoIAligned, Suppressed
from mmkd.heads import Batch, Predictions, find_reader, read
from mmkd.heads.roi import box_rows, read_bbox_head
from mmkd.recorders.head_watch import watch

#: What of the heads decides on the rows; a subclass that changes it is another head.
_RPN = ('_predict_by_feat_single', '_bbox_post_process')
_ROI = ('predict', 'predict_bbox')

#: What may be set of the suppression of proposals; it is split by level from ``split_thr`` on, with
#: the same outcome.
_NMS = {'type', 'iou_threshold', 'iou_thr', 'class_agnostic', 'split_thr'}


def is_two_stage(model: Any) -> bool:
    """Whether a detector's boxes come from a RoI head."""
    return getattr(model, 'roi_head', None) is not None


def check_two_stage(model: Any) -> None:
    """Check that the rows of a two-stage detector have a form as a graph.

    Raises:
        NotExportableError: they have none; the message names the head.
    """
    head: Any = model.roi_head
    rpn: Any = getattr(model, 'rpn_head', None)
    name = type(head).__name__
    if not _alike(rpn, RPNHead, _RPN):
        raise _error(f'the proposals of an RPNHead, but {name} gets those of {type(rpn).__name__}')
    nms = dict(rpn.test_cfg.get('nms') or {})
    if nms.get('type', 'nms') != 'nms' or not set(nms) <= _NMS:
        told = ', '.join(f'{key}={value}' for key, value in nms.items())
        raise _error(
            f'proposals that are suppressed by nms, with {", ".join(sorted(_NMS - {"type"}))} '
            f'alone, but its rpn has {told}'
        )
    cascade = _alike(head, CascadeRoIHead, (*_ROI, '_bbox_forward'))
    if not cascade and not _alike(head, StandardRoIHead, _ROI):
        raise _error(
            f'a RoI head that predicts as StandardRoIHead or CascadeRoIHead does, but {name} '
            'chooses its boxes in a way of its own'
        )
    for box_head in _each(head.bbox_head):
        known = find_reader(box_head) is read_bbox_head
        if not known or not _alike(box_head, BBoxHead, ('predict_by_feat',)):
            raise _error(f'a box head that is read as BBoxHead, but has {type(box_head).__name__}')
    for extractor in _each(head.bbox_roi_extractor):
        layers = getattr(extractor, 'roi_layers', [])
        pools = [type(layer).__name__ for layer in layers]
        pools += [layer.pool_mode for layer in layers if getattr(layer, 'pool_mode', '') == 'max']
        if not _alike(extractor, SingleRoIExtractor, ('forward',)) or set(pools) != {'RoIAlign'}:
            raise _error(
                'features that a SingleRoIExtractor cuts out by RoIAlign, averaged, but has '
                f'{type(extractor).__name__} with {", ".join(sorted(set(pools)))}'
            )


def _error(what: str) -> NotExportableError:
    return NotExportableError(
        f'a two-stage detector that is exported must have {what}. Export a one-stage student.'
    )


def _alike(module: Any, kind: type, methods: Sequence[str]) -> bool:
    """Whether a module is of a kind and has its methods."""
    return isinstance(module, kind) and all(
        getattr(type(module), name) is getattr(kind, name) for name in methods
    )


def _each(module: Any) -> list[Any]:
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def in_graph(model: Any) -> Any:
    """A copy of a two-stage detector that cuts features out in operators of ONNX."""
    copied = copy.deepcopy(model)
    head = copied.roi_head
    several = isinstance(head.bbox_roi_extractor, nn.ModuleList)
    made = [_Extractor(extractor) for extractor in _each(head.bbox_roi_extractor)]
    head.bbox_roi_extractor = nn.ModuleList(made) if several else made[0]
    return copied


class _Extractor(nn.Module):
    """Takes each box's features from the level for its size, as ``own`` does."""

    def __init__(self, own: Any) -> None:
        super().__init__()
        self.own, self.num_inputs = own, own.num_inputs

    def forward(
        self, features: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """(N, C, h, w) of boxes (N, 5)."""
        levels = self.own.map_roi_levels(rois, len(features))
        if roi_scale_factor is not None:
            rois = self.own.roi_rescale(rois, roi_scale_factor)
        found: Tensor | None = None
        for level, (feature, layer) in enumerate(zip(features, self.own.roi_layers, strict=True)):
            here = (levels == level).nonzero().flatten()
            settings = layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned
            own: Any = RoIAligned.apply(feature.float(), rois[here], *settings)
            if found is None:
                found = own.new_zeros(rois.size(0), *own.shape[1:])
            found = found.index_put((here,), own)
        assert found is not None  # there is a level
        return found.to(features[0].dtype)


def two_stage_rows(model: Any, inputs: Tensor, size: tuple[int, int]) -> Predictions:
    """The rows of each image: as many proposals as there may be, those that are lacking invalid.

    Args:
        model: made by :func:`in_graph`.
        inputs: (B, 3, H, W), normalised.
        size: (H, W).
    """
    features = model.extract_feat(inputs)
    proposals, valid = _proposals(model.rpn_head, features, size)
    batch, count = valid.shape
    image = torch.arange(batch).to(proposals)[:, None, None].expand(batch, count, 1)
    rois = torch.cat([image, proposals], dim=2).flatten(0, 1)
    log_prob, boxes = _refined(model.roi_head, features, rois, size)
    own = log_prob.view(batch, count, -1), boxes.view(batch, count, boxes.size(1), 4)
    return _by_class(own[0], own[1], valid)


def _proposals(
    rpn: Any, features: Sequence[Tensor], size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Boxes (B, K, 4) and which of them are there (B, K), as ``RPNHead.predict`` chooses them."""
    outputs = rpn(features)
    found = read(rpn, outputs, Batch(size))
    counts = [int(maps.shape[-2] * maps.shape[-1] * rpn.num_base_priors) for maps in outputs[0]]
    most = rpn.test_cfg.get('nms_pre', -1)
    chosen = []
    levels = found.log_prob[..., 0].exp().split(counts, 1), found.boxes.split(counts, 1)
    for level, (scores, boxes) in enumerate(zip(*levels, strict=True)):
        if 0 < most < counts[level]:
            scores, boxes = _surest(scores, boxes, most)
        chosen.append((scores, _inside(boxes, size), scores.new_full(scores.shape[1:], level)))
    scores, boxes = (torch.cat([one[i] for one in chosen], dim=1) for i in (0, 1))
    least = rpn.test_cfg.get('min_bbox_size', -1)
    if least >= 0:
        large = (boxes[..., 2:] - boxes[..., :2] > least).all(2)
        scores = scores.where(large, torch.full_like(scores, LEFT_OUT))
    nms = rpn.test_cfg['nms']
    moved = boxes
    if not nms.get('class_agnostic', False):
        # Levels lie apart, so that they do not suppress each other: as far as mmcv moves them,
        # since the overlaps of boxes that are moved are rounded.
        far = boxes.where((scores >= 0)[..., None], torch.zeros_like(boxes)).amax((1, 2)) + 1
        moved = boxes + (torch.cat([one[2] for one in chosen]) * far[:, None])[..., None]
    iou = float(nms.get('iou_threshold', nms.get('iou_thr', 0.5)))
    kept: Any = Suppressed.apply(moved, scores, iou)
    scores, boxes = _surest(kept, boxes, min(rpn.test_cfg['max_per_img'], kept.shape[1]))
    there = scores >= 0
    return boxes.where(there[..., None], torch.zeros_like(boxes)), there


def _surest(scores: Tensor, boxes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    scores, place = scores.topk(count)
    return scores, boxes.gather(1, place[..., None].expand(-1, -1, 4))


def _inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def _refined(
    head: Any, features: Sequence[Tensor], rois: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Log-scores (N, C) and boxes (N, 1 or C, 4) of proposals (N, 5)."""
    if not isinstance(head.bbox_head, nn.ModuleList):
        found = head._bbox_forward(features, rois)
        return box_rows(head.bbox_head, (found['cls_score'], found['bbox_pred']), rois)
    logits: list[Tensor] = []
    for stage, box_head in enumerate(head.bbox_head):
        found = head._bbox_forward(stage, features, rois)
        outputs = found['cls_score'], found['bbox_pred']
        logits.append(outputs[0].float())
        if stage == head.num_stages - 1:
            break
        log_prob, boxes = box_rows(box_head, outputs, rois)
        label = log_prob.argmax(1, keepdim=True)[..., None].expand(-1, -1, 4)
        own = boxes.gather(1, label) if boxes.size(1) > 1 else boxes
        rois = torch.cat([rois[:, :1], _inside(own[:, 0], size)], dim=1)
    return box_rows(head.bbox_head[-1], (sum(logits) / len(logits), outputs[1]), rois)


def _by_class(log_prob: Tensor, boxes: Tensor, valid: Tensor) -> Predictions:
    """A row for each class of a proposal that has a box for it.

    Args:
        log_prob: (B, K, C).
        boxes: (B, K, 1 or C, 4).
        valid: (B, K).
    """
    batch, _, classes = log_prob.shape
    if boxes.size(2) == 1:
        return Predictions(log_prob, boxes[:, :, 0], valid=valid)
    number = torch.arange(classes)
    other = number != number[:, None]
    own = log_prob[:, :, None].masked_fill(other, -torch.inf)
    there = valid[:, :, None].expand(-1, -1, classes)
    return Predictions(
        own.reshape(batch, -1, classes), boxes.reshape(batch, -1, 4), valid=there.reshape(batch, -1)
    )


def live_rows(model: Any, inputs: Tensor, samples: Sequence[Any]) -> Predictions:
    """The same rows as the detector itself comes to them; of each image those that it has.

    Args:
        model: in evaluation mode, unchanged.
        inputs: (B, 3, H, W), normalised.
        samples: of the images.
    """
    head, metas = model.roi_head, [sample.metainfo for sample in samples]
    features = model.extract_feat(inputs)
    proposals = model.rpn_head.predict(features, samples, rescale=False)
    with watch(head) as runs:
        head.predict_bbox(features, metas, proposals, head.test_cfg, rescale=False)
    classes = _each(head.bbox_head)[-1].num_classes
    if not runs:  # not one proposal
        nothing = inputs.new_zeros(len(metas), 0, classes)
        return Predictions(nothing, nothing.new_zeros(len(metas), 0, 4))
    found = read(head, runs[0], Batch(metas=metas))
    boxes = found.boxes[:, :, None] if found.class_boxes is None else found.class_boxes
    assert found.valid is not None  # as of all proposals
    return _by_class(found.log_prob, boxes, found.valid)


def rows_of_a_proposal(model: Any) -> int:
    """How many rows stand together: one for each class, or one."""
    box_head = _each(model.roi_head.bbox_head)[-1]
    alone = box_head.reg_class_agnostic or not box_head.with_reg
    return 1 if alone else int(box_head.num_classes)
