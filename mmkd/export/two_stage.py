"""A two-stage detector's rows: proposals, what lies in them, and a box for each class."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, get_box_tensor
from torch import Tensor, nn

from mmkd.export.bucket_ties import tied_proposals
from mmkd.export.detected_rows import detected_rows, joined_branches, rows_of_detections
from mmkd.export.grid_rows import grid_rows
from mmkd.export.proposals import inside, proposals
from mmkd.export.roi_features import each
from mmkd.export.two_stage_kinds import GRID, SPARSE, branches_of, kind_of
from mmkd.heads import Batch, Predictions, read
from mmkd.heads.roi import BoxRows, box_rows
from mmkd.recorders.head_watch import watch


def is_two_stage(model: Any) -> bool:
    """Whether a detector's boxes come from a RoI head."""
    return getattr(model, 'roi_head', None) is not None


def two_stage_rows(model: Any, inputs: Tensor, size: tuple[int, int]) -> Predictions:
    """The rows of each image: as many proposals as there may be, those that are lacking invalid.

    Args:
        model: made by :func:`mmkd.export.roi_features.in_graph`.
        inputs: (B, 3, H, W), normalised.
        size: (H, W).
    """
    features, head = model.extract_feat(inputs), model.roi_head
    if kind_of(head) is SPARSE:
        return _sparse_rows(model.rpn_head, head, features, size)
    boxes, valid = proposals(model.rpn_head, features, size)
    batch, count = valid.shape
    image = torch.arange(batch).to(boxes)[:, None, None].expand(batch, count, 1)
    rois = torch.cat([image, boxes], dim=2).flatten(0, 1)
    rows = _refined(head, features, rois, size)
    of_one = getattr(each(head.bbox_head)[-1], 'num_instance', 1)
    count *= of_one
    log_prob = rows.log_prob.view(batch, count, -1)
    found = rows.boxes.view(batch, count, rows.boxes.size(1), 4)
    valid = valid.repeat_interleave(of_one, dim=1)
    if kind_of(head) is GRID:
        return grid_rows(head, features, log_prob, found, valid, size)
    branches = branches_of(head)
    if branches > 1:
        detected = detected_rows(head.test_cfg, log_prob, found, valid, size)
        return joined_branches(detected, branches)
    quality = None if rows.quality is None else rows.quality.view(batch, count, 1)
    return replace(_by_class(log_prob, found, valid), quality=quality)


def _refined(head: Any, features: Sequence[Tensor], rois: Tensor, size: tuple[int, int]) -> BoxRows:
    """The rows of proposals (N, 5)."""
    context = context_of(head, features)
    if not isinstance(head.bbox_head, nn.ModuleList):
        return box_rows(head.bbox_head, _outputs(head._bbox_forward(features, rois)), rois)
    logits: list[Tensor] = []
    for stage, box_head in enumerate(head.bbox_head):
        outputs = _outputs(head._bbox_forward(stage, features, rois, **context))
        logits.append(outputs[0].float())
        if stage == head.num_stages - 1:
            break
        log_prob, boxes, _ = box_rows(box_head, outputs, rois)
        label = log_prob.argmax(1, keepdim=True)[..., None].expand(-1, -1, 4)
        own = boxes.gather(1, label) if boxes.size(1) > 1 else boxes
        rois = torch.cat([rois[:, :1], clipped(box_head, own[:, 0], size)], dim=1)
    return box_rows(head.bbox_head[-1], (sum(logits) / len(logits), *outputs[1:]), rois)


def _outputs(found: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a box head gave; of CrowdDet the refined, if it refines."""
    of = '_ref' if 'cls_score_ref' in found else ''
    return found[f'cls_score{of}'], found[f'bbox_pred{of}']


def context_of(head: Any, features: Sequence[Tensor]) -> dict[str, Tensor]:
    """What HTC and SCNet see of the whole image in each stage."""
    parts = dict(semantic_feat='semantic', glbctx_feat='glbctx')
    return {
        name: getattr(head, f'{part}_head')(features)[1]
        for name, part in parts.items()
        if getattr(head, f'with_{part}', False)
    }


def clipped(box_head: Any, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) as a box head hands them on: clipped as its coder does."""
    coder = box_head.bbox_coder
    if not coder.clip_border:
        return boxes
    return inside(boxes, size, border=int(hasattr(coder, 'num_buckets')))


def _sparse_rows(
    rpn: Any, head: Any, features: Sequence[Tensor], size: tuple[int, int]
) -> Predictions:
    """Sparse R-CNN's: of each box that it has learned, refined stage by stage."""
    batch = features[0].size(0)
    whole = features[0].new_tensor([size[1], size[0]] * 2).float()
    first = bbox_cxcywh_to_xyxy(rpn.init_proposal_bboxes.weight.float()) * whole
    boxes = first[None].expand(batch, -1, -1)
    objects = rpn.init_proposal_features.weight[None].expand(batch, -1, -1)
    count = first.size(0)
    image = torch.arange(batch).to(boxes)[:, None, None].expand(batch, count, 1)
    for extractor, box_head in zip(head.bbox_roi_extractor, head.bbox_head, strict=True):
        rois = torch.cat([image, boxes], dim=2).flatten(0, 1)
        cut = extractor(features[: extractor.num_inputs], rois)
        logits, deltas, objects, _ = box_head(cut, objects)
        decoded = box_head.bbox_coder.decode(rois[:, 1:], deltas.float().flatten(0, 1))
        boxes = clipped(box_head, get_box_tensor(decoded), size).view(batch, count, 4)
    logits = logits.float()
    if box_head.loss_cls.use_sigmoid:
        return Predictions(nn.functional.logsigmoid(logits), boxes, one_to_one=True)
    return Predictions(logits.log_softmax(-1)[..., :-1], boxes, one_to_one=True)


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


def live_rows(
    model: Any, inputs: Tensor, samples: Sequence[Any]
) -> tuple[Predictions, Tensor | None]:
    """The same rows as the detector itself comes to them; of each image those that it has.

    Args:
        model: in evaluation mode, unchanged.
        inputs: (B, 3, H, W), normalised.
        samples: of the images.

    Returns:
        The rows; and, of boxes in buckets, on which proposals (B, K) rounding decides.
    """
    head, branches = model.roi_head, branches_of(model.roi_head)
    samples = [*samples] * branches
    metas = [sample.metainfo for sample in samples]
    features = model.extract_feat(inputs)
    given = model.rpn_head.predict(features, samples, rescale=False)
    context = context_of(head, features)
    with watch(head) as runs:
        own = head.predict_bbox(features, metas, given, head.test_cfg, rescale=False, **context)
    classes = each(head.bbox_head)[-1].num_classes
    if kind_of(head) is GRID or branches > 1:
        return joined_branches(rows_of_detections(own, classes), branches), None
    if not runs:  # not one proposal
        nothing = inputs.new_zeros(len(metas), 0, classes)
        return Predictions(nothing, nothing.new_zeros(len(metas), 0, 4)), None
    found = read(head, runs[0], Batch(metas=metas))
    boxes = found.boxes[:, :, None] if found.class_boxes is None else found.class_boxes
    assert found.valid is not None  # as of all proposals
    tied = tied_proposals(head, runs[0], metas)
    return _by_class(found.log_prob, boxes, found.valid), tied


def rows_of_a_proposal(model: Any) -> int:
    """How many rows stand together: one for each box; 0 where each row has its place."""
    head = model.roi_head
    if kind_of(head) is SPARSE:
        return 0
    if branches_of(head) > 1:
        return 1
    box_head = each(head.bbox_head)[-1]
    of_one = int(getattr(box_head, 'num_instance', 1))
    alone = box_head.reg_class_agnostic or not getattr(box_head, 'with_reg', True)
    return of_one if alone else of_one * int(box_head.num_classes)
