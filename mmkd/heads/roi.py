"""Readers of RoI heads: a row for each proposal."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.predictions import Batch, Predictions, log_of
from mmkd.heads.readers import find_reader, read, reader

FILLING = -100.0  # the log-score of a row that only fills up the batch


class RoICall(NamedTuple):
    """One run of a box head on proposals."""

    stage: int
    features: Sequence[Tensor]  # what the RoI head was given, (B, C, H, W) by level
    rois: Tensor  # (N, 5)
    context: Mapping[str, Any]  # further arguments of the RoI head's ``_bbox_forward``
    outputs: Sequence[Any]  # of the box head's forward


def stack(
    rois: Tensor,
    batch: Batch,
    log_prob: Tensor,
    boxes: Tensor,
    quality: Tensor | None = None,
    class_boxes: Tensor | None = None,
) -> Predictions:
    """Rows (N, ...) as a batch (B, P, ...), P the most that an image has, filled up.

    TridentNet runs its branches as further images of the batch: their rows join their image's.
    """
    image = rois[:, 0].long()
    size = len(batch.metas) if batch.metas else int(image.max()) + 1 if len(image) else 0
    if size == 0:
        raise ValueError(
            'the number of images must be known to read a RoI head without proposals, but '
            'batch.metas is None. Give the metainfo of the images.'
        )
    image = image % size
    order = image.argsort(stable=True)
    counts = image.bincount(minlength=size)
    first = counts.cumsum(0) - counts
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device) - first[image[order]]
    shape = (size, int(counts.max()))

    def spread(rows: Tensor, filling: float) -> Tensor:
        return rows.new_full((*shape, *rows.shape[1:]), filling).index_put((image, place), rows)

    return Predictions(
        spread(log_prob, FILLING),
        spread(boxes, 0.0),
        None,
        None if quality is None else spread(quality, FILLING),
        spread(torch.ones_like(image, dtype=torch.bool), False),
        None if class_boxes is None else spread(class_boxes, 0.0),
    )


def rois_of(batch: Batch, head: Any) -> Tensor:
    """The RoIs that the head saw."""
    if batch.rois is None:
        raise ValueError(
            f'{type(head).__name__} refines proposals, but batch.rois is None. Give the proposals '
            '(N, 5) that it ran on.'
        )
    return upcast(batch.rois)


def softmax_log_prob(head: Any, logits: Tensor) -> Tensor:
    """(N, K) to (N, C), as ``BBoxHead.predict_by_feat`` does."""
    if head.custom_cls_channels:
        return log_of(head.loss_cls.get_activation(logits)[:, : head.num_classes])
    return logits.log_softmax(-1)[:, :-1]


@reader('mmdet.BBoxHead')  # ConvFC, Double, SCNet
def read_bbox_head(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """One box of a row, or one for each class; the proposal itself without regression (Grid)."""
    rois = rois_of(batch, head)
    log_prob, boxes, _ = _bbox_head_rows(head, outputs, rois)
    if outputs[1] is None or head.reg_class_agnostic:
        return stack(rois, batch, log_prob, boxes[:, 0])
    surest = log_prob.argmax(1)
    one = boxes[torch.arange(len(rois), device=rois.device), surest]
    return stack(rois, batch, log_prob, one, class_boxes=boxes)


class BoxRows(NamedTuple):
    """The rows of N proposals, each for itself.

    M is N, or of a head that gives several rows for a proposal, as CrowdDet's, so many times N.
    """

    log_prob: Tensor  # (M, C)
    boxes: Tensor  # (M, 1 or C, 4)
    quality: Tensor | None = None  # (M, 1), as of Predictions


def box_rows(head: Any, outputs: Sequence[Any], rois: Tensor) -> BoxRows:
    """The rows of proposals (N, 5)."""
    of_reader = {read_sabl: _sabl_rows, read_multi_instance: _multi_instance_rows}
    return of_reader.get(find_reader(head), _bbox_head_rows)(head, outputs, rois)


def _bbox_head_rows(head: Any, outputs: Sequence[Any], rois: Tensor) -> BoxRows:
    logits, deltas = outputs[:2]
    if logits is None:
        raise ValueError(
            'a box head must score classes to be read, but this one has with_cls=False. Read '
            'another head of the detector.'
        )
    log_prob = softmax_log_prob(head, upcast(logits))
    if deltas is None:
        return BoxRows(log_prob, rois[:, None, 1:])
    size = head.bbox_coder.encode_size
    per_row = 1 if head.reg_class_agnostic else head.num_classes
    boxes = get_box_tensor(
        head.bbox_coder.decode(
            rois[:, 1:].repeat_interleave(per_row, dim=0), upcast(deltas).reshape(-1, size)
        )
    ).view(-1, per_row, 4)
    return BoxRows(log_prob, boxes)


@reader('mmdet.SABLHead')
def read_sabl(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Buckets of each side; the score counts how sure they are."""
    rois = rois_of(batch, head)
    log_prob, boxes, quality = _sabl_rows(head, outputs, rois)
    return stack(rois, batch, log_prob, boxes[:, 0], quality)


def _sabl_rows(head: Any, outputs: Sequence[Any], rois: Tensor) -> BoxRows:
    logits, sides = outputs
    log_prob = upcast(logits).log_softmax(-1)[:, :-1]
    boxes, sure = head.bbox_coder.decode(rois[:, 1:], [upcast(side) for side in sides])
    quality = log_of(sure)[:, None]
    return BoxRows(log_prob + quality, get_box_tensor(boxes)[:, None], quality)


@reader('mmdet.DIIHead')  # Sparse R-CNN, QueryInst
def read_dii(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Sparse R-CNN: a class vector and a box for each proposal."""
    rois = rois_of(batch, head)
    logits, deltas = (upcast(output).flatten(0, 1) for output in outputs[:2])
    scores = logsigmoid(logits) if head.loss_cls.use_sigmoid else logits.log_softmax(-1)[:, :-1]
    boxes = get_box_tensor(head.bbox_coder.decode(rois[:, 1:], deltas))
    return replace(stack(rois, batch, scores, boxes), one_to_one=True)


@reader('mmdet.MultiInstanceBBoxHead')  # CrowdDet
def read_multi_instance(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Several rows of a proposal; of two classes, the second is the object. Refined, if it is."""
    rois = rois_of(batch, head)
    log_prob, boxes, _ = _multi_instance_rows(head, outputs, rois)
    rois = rois.repeat_interleave(head.num_instance, dim=0)
    return stack(rois, batch, log_prob, boxes[:, 0])


def _multi_instance_rows(head: Any, outputs: Sequence[Any], rois: Tensor) -> BoxRows:
    rois = rois.repeat_interleave(head.num_instance, dim=0)
    logits, deltas = (upcast(output) for output in outputs[-2:])
    log_prob = logits.reshape(rois.size(0), -1).log_softmax(-1)[:, 1:2]
    boxes = get_box_tensor(head.bbox_coder.decode(rois[:, 1:], deltas.reshape(-1, 4)))
    return BoxRows(log_prob, boxes[:, None])


@reader('mmdet.StandardRoIHead')  # Double, Dynamic, Grid, PISA, Trident, Multi-Instance, ...
def read_roi_head(head: Any, outputs: Sequence[RoICall], batch: Batch) -> Predictions:
    """The only run of its box head."""
    (call,) = outputs
    return read(head.bbox_head, call.outputs, _with_rois(batch, call.rois))


@reader('mmdet.SparseRoIHead')
def read_sparse(head: Any, outputs: Sequence[RoICall], batch: Batch) -> Predictions:
    """The last stage."""
    call = outputs[-1]
    return read(head.bbox_head[call.stage], call.outputs, _with_rois(batch, call.rois))


@reader('mmdet.CascadeRoIHead')  # HTC, SCNet
def read_cascade(head: Any, outputs: Sequence[RoICall], batch: Batch) -> Predictions:
    """The last stage's boxes with the mean of all stages' logits.

    In training each stage runs on its own sample of proposals, so that no row has all logits: the
    whole cascade is run on the first stage's sample, as in prediction.
    """
    if head.training:
        first = outputs[0]
        counts = first.rois[:, 0].long().bincount(minlength=len(batch.metas or ())).tolist()
        rois, logits, deltas = (
            list(part)
            for part in head._refine_roi(
                first.features, first.rois, batch.metas, counts, **first.context
            )
        )
        joined = [_join(logits), _join(deltas)]
        return read(head.bbox_head[-1], joined, _with_rois(batch, torch.cat(rois)))
    last = outputs[-1]
    mean = sum(upcast(call.outputs[0]) for call in outputs) / len(outputs)
    return read(
        head.bbox_head[last.stage], [mean, *last.outputs[1:2]], _with_rois(batch, last.rois)
    )


def _join(parts: Sequence[Any]) -> Any:
    """By image to one; SABL's boxes are two tensors of an image."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return (
        None if parts[0] is None else [torch.cat(list(part)) for part in zip(*parts, strict=True)]
    )


def _with_rois(batch: Batch, rois: Tensor) -> Batch:
    return replace(batch, rois=rois)
