"""The codec of what a teacher predicts (``type='Predictions'``)."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmkd.cache.codecs import _as_bytes, _code, _from_bytes, _uncode
from mmkd.heads.predictions import Batch, Predictions
from mmkd.recorders.predictions_recorder import HeadRun

#: Proposals of a view that are kept, the surest: they are another number in each.
MOST = 300


def row_tree(rows: Predictions) -> dict[str, Any]:
    """What is the same of all views: the numbers of rows and classes, and the priors."""
    drawn = _is_drawn(rows)
    count, classes = rows.log_prob.shape[1:]
    return {
        'shape': [MOST if drawn else count, classes],
        'drawn': drawn,
        'parts': [f.name for f in fields(rows) if isinstance(getattr(rows, f.name), Tensor)],
        'one_to_one': rows.one_to_one,
        'priors': None if rows.priors is None else _text(rows.priors),
    }


class Rows:
    """Predictions, a byte for a score; ``decode`` gives runs of a head that are read already.

    A byte stands for a log-probability as in :class:`mmkd.cache.codecs.Softmax`. Boxes are kept to
    a thousandth of their distance from their prior, of proposals and queries exactly. Of proposals
    the 300 surest are kept, the surest first, filled up with rows that do not count.

    Args:
        trees: of :func:`row_tree`, one for each of the record's predictions.
    """

    def __init__(self, trees: Sequence[Mapping[str, Any]]) -> None:
        self.trees = list(trees)
        self.sizes = [_size_of_row(tree) * tree['shape'][0] for tree in self.trees]
        self.nbytes = sum(self.sizes)

    def encode(self, records: Sequence[Predictions], context: Any = None) -> Tensor:
        """Predictions of B images -> (B, nbytes), uint8."""
        return torch.cat([_encoded(rows.detach()) for rows in records], dim=1)

    def decode(self, data: Tensor) -> list[HeadRun]:
        """(B, nbytes), uint8 -> the runs."""
        parts = data.split(self.sizes, dim=1)
        found = (_decoded(part, tree) for part, tree in zip(parts, self.trees, strict=True))
        return [HeadRun(None, (), Batch(), found=rows) for rows in found]


def _is_drawn(rows: Predictions) -> bool:
    return rows.priors is None and rows.valid is not None


def _size_of_row(tree: Mapping[str, Any]) -> int:
    classes, parts = tree['shape'][1], tree['parts']
    box = 16 if tree['priors'] is None else 8
    return (
        classes
        + box
        + ('quality' in parts)
        + ('valid' in parts)
        + classes * 8 * ('class_boxes' in parts)
    )


def _surest(rows: Predictions) -> Predictions:
    """As many rows as are kept."""
    assert rows.valid is not None
    score = rows.log_prob.amax(-1).masked_fill(~rows.valid, -torch.inf)
    index = score.argsort(dim=1, descending=True, stable=True)[:, :MOST]
    lacking = MOST - index.size(1)

    def taken(values: Tensor) -> Tensor:
        place = index.view(*index.shape, *[1] * (values.dim() - 2)).expand(
            -1, -1, *values.shape[2:]
        )
        kept = values.gather(1, place)
        return torch.cat([kept, kept.new_zeros(len(kept), lacking, *kept.shape[2:])], dim=1)

    held = {f.name: getattr(rows, f.name) for f in fields(rows)}
    kept: dict[str, Any] = {k: taken(v) for k, v in held.items() if isinstance(v, Tensor)}
    return replace(rows, **kept)


def _encoded(rows: Predictions) -> Tensor:
    if _is_drawn(rows):
        rows = _surest(rows)
    boxes = rows.boxes.float()
    away = boxes
    if rows.priors is not None:
        away = _half((boxes - _centre(rows.priors)) / _stride(rows.priors))
    parts = [_code(rows.log_prob), _as_bytes(away)]
    if rows.quality is not None:
        parts.append(_code(rows.quality))
    if rows.valid is not None:
        parts.append(rows.valid.byte())
    if rows.class_boxes is not None:
        parts.append(_as_bytes(_half(rows.class_boxes.float() - boxes[:, :, None]).flatten(2)))
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def _decoded(data: Tensor, tree: Mapping[str, Any]) -> Predictions:
    (count, classes), parts = tree['shape'], tree['parts']
    priors = None if tree['priors'] is None else _numbers(tree['priors']).to(data.device)
    widths = {
        'log_prob': classes,
        'boxes': 16 if priors is None else 8,
        'quality': 1,
        'valid': 1,
        'class_boxes': 8 * classes,
    }
    held = [name for name in widths if name in parts]
    split = data.split([count * widths[name] for name in held], dim=1)
    found = {name: part.unflatten(1, (count, -1)) for name, part in zip(held, split, strict=True)}
    boxes = _from_bytes(found['boxes'], torch.float32 if priors is None else torch.float16).float()
    if priors is not None:
        boxes = boxes * _stride(priors) + _centre(priors)
    class_boxes = None
    if 'class_boxes' in found:
        away = _from_bytes(found['class_boxes'], torch.float16).float()
        class_boxes = away.unflatten(2, (classes, 4)) + boxes[:, :, None]
    return Predictions(
        _uncode(found['log_prob']),
        boxes,
        priors,
        _uncode(found['quality']) if 'quality' in found else None,
        found['valid'][..., 0].bool() if 'valid' in found else None,
        class_boxes,
        tree['one_to_one'],
    )


def _centre(priors: Tensor) -> Tensor:
    return priors[:, :2].repeat(1, 2)


def _stride(priors: Tensor) -> Tensor:
    return priors[:, 2:].repeat(1, 2)


def _half(values: Tensor) -> Tensor:
    limit = torch.finfo(torch.float16).max
    return values.clamp(-limit, limit).half()


def _text(numbers: Tensor) -> str:
    data = numbers.detach().float().cpu().contiguous().numpy().tobytes()
    return base64.b64encode(zlib.compress(data)).decode()


def _numbers(text: str) -> Tensor:
    data = zlib.decompress(base64.b64decode(text))
    return torch.from_numpy(np.frombuffer(data, np.float32).reshape(-1, 4).copy())
