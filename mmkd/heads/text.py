"""Heads that score the tokens of a text: their scores by class (GLIP, Grounding DINO)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmkd.heads.dense import scored
from mmkd.heads.grids import decode, grid, rows
from mmkd.heads.predictions import Batch, Predictions, log_of
from mmkd.heads.readers import reader


def class_scores(
    logits: Tensor, token_maps: Sequence[Mapping[int, Sequence[int]]] | None, what: str
) -> Tensor:
    """Logits of tokens (B, P, T) as log-scores of classes (B, P, C): the mean over the tokens.

    Raises:
        ValueError: ``token_maps`` is missing.
    """
    if not token_maps:
        raise ValueError(
            f'{what} scores the tokens of a text, so batch.token_maps must say which of them make '
            f'up which class, but got {token_maps}. Give the token_positive_map of each image.'
        )
    scores = logits.sigmoid()
    images = [
        torch.stack([score[:, list(tokens[c])].mean(-1) for c in sorted(tokens)], dim=-1)
        for score, tokens in zip(scores, token_maps, strict=True)
    ]
    return log_of(torch.stack(images))


@reader('mmdet.ATSSVLFusionHead')
def read_glip(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Ranked by the geometric mean of class and centerness; the last corner is moved by a pixel."""
    tokens, box, centerness = outputs
    own, priors = grid(head.prior_generator, box)
    log_prob = class_scores(torch.cat(list(tokens), dim=1), batch.token_maps, 'ATSSVLFusionHead')
    boxes = decode(head.bbox_coder, own, rows(box, head.bbox_coder.encode_size))
    boxes = boxes + boxes.new_tensor([0.0, 0.0, 1.0, 1.0])
    quality = logsigmoid(rows(centerness, 1)) / 2
    return scored(log_prob / 2, boxes, priors, batch, quality)
