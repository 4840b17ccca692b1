"""Readers of mmdet's dense heads: a row for each prior of a grid."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmkd.heads.grids import centres, class_log_prob, decode, grid, per_level, rows
from mmkd.heads.predictions import Batch, Predictions, log_of
from mmkd.heads.readers import reader

#: Multi-level maps, (B, A * width, H, W) for each level.
Levels = Sequence[Tensor]


def scored(
    log_prob: Tensor,
    boxes: Tensor,
    priors: Tensor,
    batch: Batch,
    quality: Tensor | None = None,
) -> Predictions:
    """Rows whose score is the class's, times ``quality`` (B, P, 1), a logarithm as well."""
    if quality is not None:
        log_prob = log_prob + quality
    return Predictions(log_prob, boxes, priors, quality, batch.valid(priors))


def read_maps(
    head: Any, cls: Levels, box: Levels, factor: Levels | None, batch: Batch, scale: Any = None
) -> Predictions:
    """Maps that ``BaseDenseHead.predict_by_feat`` takes; ``scale`` (P, 1) multiplies the boxes."""
    own, priors = grid(head.prior_generator, cls)
    deltas = rows(box, head.bbox_coder.encode_size)
    if scale is not None:
        deltas = deltas * scale
    log_prob = class_log_prob(head, rows(cls, head.cls_out_channels))
    quality = None if factor is None else logsigmoid(rows(factor, 1))
    return scored(log_prob, decode(head.bbox_coder, own, deltas), priors, batch, quality)


# SSD, RetinaNet, FSAF, FreeAnchor, PISA, ATSS, DDOD, RTMDet, YOLOF (both of which fold their
# objectness into the class logit), RPN, ...
@reader('mmdet.AnchorHead', 'mmdet.AnchorFreeHead')
def read_plain(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Class and box maps, and a factor of the score where the head has one."""
    cls, box, *factor = outputs
    return read_maps(head, cls, box, factor[0] if factor else None, batch)


@reader('mmdet.YOLACTHead', 'mmdet.RTMDetInsHead')
def read_with_masks(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """What follows classes and boxes belongs to the masks."""
    return read_maps(head, outputs[0], outputs[1], None, batch)


@reader('mmdet.FCOSHead')  # NAS-FCOS, CondInst, BoxInst
def read_fcos(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """With ``norm_on_bbox`` the distances are in strides in training, in pixels in eval."""
    cls, box, centerness = outputs[:3]
    in_strides = head.norm_on_bbox and head.training
    scale = per_level(head.strides, cls) if in_strides else None
    return read_maps(head, cls, box, centerness, batch, scale)


@reader('mmdet.AutoAssignHead')
def read_autoassign(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """An FCOS whose distances are always in pixels."""
    cls, box, centerness = outputs
    return read_maps(head, cls, box, centerness, batch)


@reader('mmdet.CenterNetUpdateHead')
def read_centernet_update(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Distances in strides in training, in pixels in eval."""
    cls, box = outputs
    return read_maps(
        head, cls, box, None, batch, per_level(head.strides, cls) if head.training else None
    )


@reader('mmdet.PAAHead')  # LAD
def read_paa(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Ranked by the geometric mean of class and IoU."""
    cls, box, iou = outputs
    plain = read_maps(head, cls, box, iou, batch)
    assert plain.quality is not None
    return Predictions(
        plain.log_prob / 2, plain.boxes, plain.priors, plain.quality / 2, plain.valid
    )


@reader('mmdet.VFNetHead')
def read_vfnet(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Classes, in training the boxes before refinement, and the refined boxes, in pixels."""
    return read_maps(head, outputs[0], outputs[-1], None, batch)


@reader('mmdet.GFLHead')  # LD
def read_gfl(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Distributions of the distances in strides."""
    cls, box = outputs
    own, priors = grid(head.prior_generator, cls)
    bins = rows(box, 4 * (head.reg_max + 1))
    with torch.autocast(bins.device.type, enabled=False):  # it is a matrix product
        distances = head.integral(bins.flatten(0, 1)).view(*bins.shape[:2], 4) * priors[:, 2:3]
    boxes = decode(head.bbox_coder, centres(own), distances)
    log_prob = class_log_prob(head, rows(cls, head.cls_out_channels))
    return scored(log_prob, boxes, priors, batch)


@reader('mmdet.TOODHead')
def read_tood(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Probabilities, and boxes in strides from the origin of the image."""
    cls, box = outputs
    _, priors = grid(head.prior_generator, cls)
    return scored(
        log_of(rows(cls, head.cls_out_channels)), rows(box, 4) * priors[:, 2:3], priors, batch
    )


@reader('mmdet.FoveaHead')
def read_fovea(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Logarithms of the distances, in the side that a level is for."""
    cls, box = outputs
    _, priors = grid(head.prior_generator, cls)
    distances = rows(box, 4).exp() * per_level(head.base_edge_list, cls)
    centre = priors[:, :2]
    boxes = torch.cat([centre - distances[..., :2], centre + distances[..., 2:]], dim=-1)
    return scored(logsigmoid(rows(cls, head.cls_out_channels)), boxes, priors, batch)


@reader('mmdet.RepPointsHead')
def read_reppoints(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Classes and boxes; in training, the points before and after refinement in their place."""
    cls, box = outputs[0], outputs[-1]
    if head.training:
        box = [head.points2bbox(points) for points in box]
    _, priors = grid(head.prior_generator, cls)
    boxes = rows(box, 4) * priors[:, 2:3] + priors[:, :2].repeat(1, 2)
    log_prob = class_log_prob(head, rows(cls, head.cls_out_channels))
    return scored(log_prob, boxes, priors, batch)


@reader('mmdet.SABLRetinaHead')
def read_sabl_retina(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Buckets of each side and offsets in them; the score counts how sure the buckets are."""
    cls, box = outputs
    own, priors = grid(head.square_anchor_generator, cls)
    parts = [rows(part, 4 * head.side_num).flatten(0, 1) for part in zip(*box, strict=True)]
    boxes, sure = head.bbox_coder.decode(own.repeat(cls[0].size(0), 1), parts)
    log_prob = class_log_prob(head, rows(cls, head.cls_out_channels))
    quality = log_of(sure).view(*log_prob.shape[:2], 1)
    return scored(log_prob, boxes.view(*log_prob.shape[:2], 4), priors, batch, quality)


@reader('mmdet.YOLOXHead')
def read_yolox(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """YOLOX: classes times objectness."""
    cls, box, objectness = outputs
    _, priors = grid(head.prior_generator, cls)
    boxes = head._bbox_decode(priors, rows(box, 4))
    log_prob = class_log_prob(head, rows(cls, head.cls_out_channels))
    return scored(log_prob, boxes, priors, batch, logsigmoid(rows(objectness, 1)))


@reader('mmdet.YOLOV3Head')
def read_yolov3(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """One map of a level: x, y, w, h, objectness and classes of each anchor."""
    (maps,) = outputs
    own, priors = grid(head.prior_generator, maps)
    raw = rows(maps, head.num_attrib)
    deltas = torch.cat([raw[..., :2].sigmoid(), raw[..., 2:4]], dim=-1)
    boxes = decode(head.bbox_coder, own, deltas, priors[:, 2:3].repeat(raw.size(0), 1))
    return scored(logsigmoid(raw[..., 5:]), boxes, priors, batch, logsigmoid(raw[..., 4:5]))


@reader('mmdet.CenterNetHead')
def read_centernet(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """A map of probabilities, and sizes and offsets in its cells; the head has no priors."""
    (heat,), (size,), (offset,) = outputs
    if batch.input_shape is None:
        raise ValueError(
            'CenterNetHead needs the (H, W) of its input, from which its stride follows, but '
            'batch.input_shape is None. Give it.'
        )
    height, width = heat.shape[-2:]
    stride = heat.new_tensor([batch.input_shape[1] / width, batch.input_shape[0] / height]).float()
    y, x = torch.meshgrid(
        torch.arange(height, device=heat.device),
        torch.arange(width, device=heat.device),
        indexing='ij',
    )
    cell = torch.stack([x, y], dim=-1).view(-1, 2).float()  # (P, 2)
    centre, half = cell + rows([offset], 2), rows([size], 2) / 2
    boxes = torch.cat([centre - half, centre + half], dim=-1) * stride.repeat(2)
    priors = torch.cat([cell * stride, stride.expand(len(cell), 2)], dim=1)
    return scored(log_of(rows([heat], heat.size(1))), boxes, priors, batch)
