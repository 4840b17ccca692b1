"""Readers of DETR's kin: a row for each query of a decoder layer."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.predictions import Batch, Predictions
from mmkd.heads.readers import reader
from mmkd.heads.text import class_scores


def read_layer(head: Any, outputs: Sequence[Any], batch: Batch, layer: int = -1) -> Predictions:
    """The rows of one decoder layer.

    Args:
        head: a DETRHead or what derives from it.
        outputs: logits (L, B, Q, K) and boxes (L, B, Q, 4), centre and size in parts of the image.
        batch: the images, and ``num_queries``: in training DINO and DDQ put denoising queries
            before these, and DDQ dense ones after them.
        layer: index. Defaults to -1, the last, with which the detector predicts.

    Raises:
        ValueError: the sizes of the images are not known.
    """
    logits, boxes = (upcast(output[layer]) for output in outputs[:2])
    dense = getattr(head, 'cache_dict', {}).get('num_dense_queries', 0) if head.training else 0
    end = logits.size(1) - dense
    start = 0 if batch.num_queries is None else end - batch.num_queries
    logits, boxes = logits[:, start:end], boxes[:, start:end]
    sizes = batch.sizes(boxes, type(head).__name__)
    return Predictions(
        _log_prob(head, logits, batch),
        bbox_cxcywh_to_xyxy(boxes) * sizes[:, None],
        valid=_distinct(head, len(boxes)) if layer in (-1, len(outputs[0]) - 1) else None,
        one_to_one=True,
    )


@reader('mmdet.DETRHead')
def read_detr(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """The last layer of a DETR: one row for each query."""
    return read_layer(head, outputs, batch)


def _log_prob(head: Any, logits: Tensor, batch: Batch) -> Tensor:
    if hasattr(head, 'contrastive_cfg'):  # Grounding DINO: a logit for each token of the text
        return class_scores(logits, batch.token_maps, 'GroundingDINOHead')
    if head.loss_cls.use_sigmoid:
        return logsigmoid(logits)
    return logits.log_softmax(-1)[..., :-1]


def _distinct(head: Any, batch_size: int) -> Tensor | None:
    """(B, Q): which queries DDQ keeps, since it drops those that look alike."""
    cache = getattr(head, 'cache_dict', {})
    masks = cache.get('distinct_query_mask')
    if not masks:
        return None
    return torch.stack([masks[-1][i * cache['num_heads']][0] for i in range(batch_size)])
