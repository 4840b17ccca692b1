"""The maps of a YOLO head in few bytes: what a loss that weighs priors by objectness needs."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmkd.heads.obj_rows import ObjRow, ObjRows, class_rows, row_places

_BYTES = 149_000  # of a view, for rows, whatever the number of classes


class ObjCells:
    r"""Objectness of every prior, classes and boxes of a sample of them that stands for all.

    A sum :math:`\sum w \, d` over the priors, with w the objectness, is estimated from K of each
    level: half of them are those of the highest w, each with its own; the other half are drawn
    from the rest with odds proportional to w, at equal steps of its running sum, and share the
    weight of the rest. So the sum of weights is exact, and the estimate is unbiased but for the
    order of the priors, in value and in gradient. What is drawn follows from the view alone.

    Logits of classes are kept as a byte each, between the least and the greatest of a level; boxes
    and all objectness as float16. (In a byte nearly all background would be rounded to one side.)

    Args:
        shapes: of the levels without the batch axis: (A * C, H, W) of all levels, then
            (A * 4, H, W) of all, then (A, H, W) of all.
        most: K at most. Defaults to None: what :data:`_BYTES` allow.

    Raises:
        ValueError: for other shapes (see :meth:`fits`).
    """

    def __init__(self, shapes: Sequence[Sequence[int]], most: int | None = None) -> None:
        if not self.fits(shapes):
            raise ValueError(
                'a compact record of a YOLO head needs levels of (A * C, H, W) classes, (A * 4, '
                f'H, W) boxes and (A, H, W) objectnesses, but got {list(shapes)}. Set its codec to '
                "'dense16'."
            )
        count = len(shapes) // 3
        self.levels = [tuple(shape) for shape in shapes[2 * count :]]
        self.classes = shapes[0][0] // self.levels[0][0]
        row = 4 + 4 + 8 + self.classes  # place, weight, box, classes
        most = max(1, _BYTES // (row * count)) if most is None else most
        self.priors = [a * h * w for a, h, w in self.levels]
        self.rows = [min(most, n) for n in self.priors]
        total = sum(self.rows)
        self.sizes = [4 * total, 4 * total, 8 * total, self.classes * total]
        self.sizes += [8 * count, 2 * sum(self.priors)]
        self.nbytes = sum(self.sizes)

    @staticmethod
    def fits(shapes: Sequence[Sequence[int]]) -> bool:
        """Whether ``shapes`` are those of a head with classes, boxes and objectness."""
        count, rest = divmod(len(shapes), 3)
        if rest or not count or any(len(shape) != 3 for shape in shapes):
            return False
        parts = [list(map(tuple, shapes[i * count : (i + 1) * count])) for i in range(3)]
        classes = parts[0][0][0] // max(parts[2][0][0], 1)
        return classes > 0 and all(
            cls == (a * classes, h, w) and box == (a * 4, h, w) and a * h * w > 0
            for cls, box, (a, h, w) in zip(*parts, strict=True)
        )

    def encode(self, levels: Sequence[Tensor], context: object = None) -> Tensor:
        """Maps (B, ...) -> (B, nbytes), uint8."""
        count = len(self.levels)
        kept: list[list[Tensor]] = []
        for level, rows in enumerate(self.rows):
            cls, box, obj = (levels[kind * count + level].float() for kind in range(3))
            flat, anchors = obj.flatten(1), obj.size(1)
            index, weight = _sample(flat.sigmoid(), rows)
            classes = class_rows(cls.unflatten(1, (anchors, self.classes)), index).flatten(1)
            low, high = classes.aminmax(dim=1, keepdim=True)
            step = (high - low).clamp(min=1e-6) / 255
            kept.append(
                [
                    index.int(),
                    weight,
                    _half(class_rows(box.unflatten(1, (anchors, 4)), index)),
                    ((classes - low) / step).round().byte(),
                    torch.cat([low, step], dim=1),
                    _half(flat),
                ]
            )
        parts = [part for kind in zip(*kept, strict=True) for part in kind]
        return torch.cat([part.flatten(1).contiguous().view(torch.uint8) for part in parts], dim=1)

    def decode(self, data: Tensor) -> ObjRows:
        """(B, nbytes), uint8 -> what :class:`mmkd.losses.ObjScaledBoxCls` reads of a teacher."""
        widths = (4, 4, 8, self.classes)
        sizes = [[width * rows for rows in self.rows] for width in widths]
        sizes += [[8] * len(self.rows), [2 * number for number in self.priors]]
        kinds = [
            part.split(size, dim=1)
            for part, size in zip(data.split(self.sizes, dim=1), sizes, strict=True)
        ]
        levels = []
        for (anchors, height, width), *parts in zip(self.levels, *kinds, strict=True):
            place, weight, box, cls, span, obj = (
                part.clone(memory_format=torch.contiguous_format) for part in parts
            )
            index = place.view(torch.int32).long()
            weight = weight.view(torch.float32)
            low, step = span.view(torch.float32).split(1, dim=1)
            objectness = obj.view(torch.float16).float()
            boxes = objectness.new_zeros(len(data), anchors * 4 * height * width)
            places = row_places(index, 4, height * width).flatten(1)
            boxes.scatter_(1, places, box.view(torch.float16).float())
            spread = torch.zeros_like(objectness).scatter_add_(1, index, weight)
            levels.append(
                ObjRow(
                    objectness.unflatten(1, (anchors, height, width)),
                    boxes.unflatten(1, (anchors * 4, height, width)),
                    spread.unflatten(1, (anchors, height, width)),
                    index,
                    cls.float().mul_(step).add_(low).unflatten(1, (self.classes, -1)),
                    weight,
                )
            )
        return ObjRows(levels)


def _sample(weight: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Priors that stand for all, and for how much: (B, K) each.

    Args:
        weight: (B, N), not negative.
        rows: K, at most N.
    """
    sure = rows if rows == weight.size(1) else rows // 2
    top = weight.topk(sure, dim=1)
    drawn = rows - sure
    if not drawn:
        return top.indices, top.values
    rest = weight.double().scatter(1, top.indices, 0).cumsum(1)
    total = rest[:, -1:]
    steps = (torch.arange(drawn, device=weight.device, dtype=rest.dtype) + 0.5) / drawn
    found = torch.searchsorted(rest, total * steps).clamp_(max=weight.size(1) - 1)
    share = (total / drawn).expand(-1, drawn).to(weight.dtype)
    return torch.cat([top.indices, found], 1), torch.cat([top.values, share], 1)


def _half(values: Tensor) -> Tensor:
    limit = torch.finfo(torch.float16).max
    return values.clamp(-limit, limit).half()
