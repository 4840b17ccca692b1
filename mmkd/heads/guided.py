"""Readers of heads whose anchors are predicted as well: guided anchors and Cascade RPN."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmkd.geometry.multi_level_maps import as_levels
from mmkd.heads.dense import scored
from mmkd.heads.grids import class_log_prob, decode, grid, rows
from mmkd.heads.predictions import Batch, Predictions
from mmkd.heads.readers import reader


@reader('mmdet.GuidedAnchorHead')
def read_guided(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Classes, boxes, the anchors' shapes, and whether there is an object here.

    A row counts where the head sees an object, as in its own prediction. Its anchor carries no
    gradient, as in its own loss.
    """
    cls, box, shape, location = outputs
    squares, priors = grid(head.square_anchor_generator, cls)
    shapes = rows(shape, 2).detach()
    anchors = decode(head.anchor_coder, squares, torch.cat([torch.zeros_like(shapes), shapes], -1))
    log_prob = class_log_prob(head, rows(cls, head.cls_out_channels))
    found = scored(log_prob, decode(head.bbox_coder, anchors, rows(box, 4)), priors, batch)
    seen = torch.cat(
        [
            (level.sigmoid() >= head.loc_filter_thr).flatten(1).repeat_interleave(anchors_here, 1)
            for level, anchors_here in zip(
                as_levels(location, 'loc_preds'),
                head.square_anchor_generator.num_base_priors,
                strict=False,
            )
        ],
        dim=1,
    )
    valid = seen if found.valid is None else found.valid & seen
    return Predictions(found.log_prob, found.boxes, priors, None, valid)


@reader('mmdet.StageCascadeRPNHead')
def read_cascade_rpn_stage(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """A stage by itself, on the anchors of its own generator: the first of a Cascade RPN."""
    _, cls, box = outputs
    own, priors = grid(head.prior_generator, box)
    return _stage(head, cls, box, own.expand(box[0].size(0), -1, -1), priors, batch)


@reader('mmdet.CascadeRPNHead')
def read_cascade_rpn(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """The last stage, on the anchors that those before it moved.

    Args:
        head: with ``stages``.
        outputs: what each stage's forward returned, in their order.
        batch: the images; their sizes clip the moved anchors, as in the head.
    """
    own, priors = grid(head.stages[0].prior_generator, outputs[0][2])
    anchors = own.expand(outputs[0][2][0].size(0), -1, -1)
    sizes = batch.sizes(own, 'CascadeRPNHead')
    for stage, (_, _, box) in zip(head.stages[:-1], outputs[:-1], strict=True):
        moved = decode(stage.bbox_coder, anchors, rows(box, 4).detach())
        anchors = torch.minimum(moved.clamp(min=0), sizes[:, None])
    _, cls, box = outputs[-1]
    return _stage(head.stages[-1], cls, box, anchors, priors, batch)


def _stage(
    head: Any, cls: Any, box: Any, anchors: Tensor, priors: Tensor, batch: Batch
) -> Predictions:
    if cls is None or cls[0] is None:
        raise ValueError(
            'a stage of a Cascade RPN must predict scores to be read, but this one has '
            'with_cls=False. Read the whole head.'
        )
    log_prob = class_log_prob(head, rows(cls, head.cls_out_channels))
    return scored(log_prob, decode(head.bbox_coder, anchors, rows(box, 4)), priors, batch)
