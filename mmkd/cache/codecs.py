"""How a teacher's record becomes bytes: each codec needs the same number of bytes for any view."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor
from torch.nn import functional as F

from mmkd.geometry.multi_level_maps import flatten_levels, rows_as_levels

Shapes = Sequence[Sequence[int]]  # of the levels, (A * width, H, W)

_RANGE = 20.0  # log-probabilities below -20 count as -20


class Dense:
    """Tensors as they are, floating ones as float16 (clamped to its range) or float32.

    Args:
        shapes: of the record's tensors without the batch axis.
        dtype: 'float16' or 'float32'. Defaults to 'float16'.
    """

    def __init__(self, shapes: Shapes, dtype: str = 'float16') -> None:
        self.shapes = [tuple(shape) for shape in shapes]
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.numel = [torch.Size(shape).numel() for shape in self.shapes]
        self.nbytes = sum(self.numel) * self.dtype.itemsize

    def encode(self, levels: Sequence[Tensor], context: Any = None) -> Tensor:
        """Tensors (B, ...) -> (B, nbytes), uint8."""
        flat = torch.cat([level.flatten(1).float() for level in levels], dim=1)
        limit = torch.finfo(self.dtype).max
        return _as_bytes(flat.clamp(-limit, limit).to(self.dtype))

    def decode(self, data: Tensor) -> list[Tensor]:
        """(B, nbytes), uint8 -> float32 tensors (B, ...), each contiguous."""
        parts = _from_bytes(data, self.dtype).split(self.numel, dim=1)
        return [
            part.float().contiguous().unflatten(1, shape)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]


class Softmax:
    r"""Class logits of which a loss reads the softmax at one temperature, a byte for each.

    A byte q stands for a log-probability, :math:`\log p = -20 (q / 255)^2`, so that 0.9 is kept to
    0.5 % and 0.001 to 4 %. What comes back are logits of nearly the same softmax, not the same.

    Args:
        shapes: of the levels, (A * width, H, W).
        width: C + 1, the background last; at most 256.
        temperature: of the softmax that is kept. Defaults to 1.0.
    """

    def __init__(self, shapes: Shapes, width: int, temperature: float = 1.0) -> None:
        self.layout = _Priors(shapes, width)
        self.width, self.temperature = width, temperature
        self.nbytes = self.layout.num * width

    def encode(self, levels: Sequence[Tensor], context: Any = None) -> Tensor:
        """Levels (B, A * width, H, W) -> (B, nbytes), uint8."""
        return _code(self._log_prob(levels)).flatten(1)

    def decode(self, data: Tensor) -> list[Tensor]:
        """(B, nbytes), uint8 -> levels (B, A * width, H, W), float32."""
        return self.layout.levels(self._logits(data.unflatten(1, (-1, self.width))))

    def _log_prob(self, levels: Sequence[Tensor]) -> Tensor:
        logits = flatten_levels(levels, self.width) / self.temperature
        return F.log_softmax(logits, dim=-1)  # (B, P, C + 1)

    def _logits(self, code: Tensor) -> Tensor:
        return code.float().square_().mul_(-_RANGE * self.temperature / 255**2)


class SparseSoftmax(Softmax):
    """Class logits as :class:`Softmax` keeps them, but all classes for a ninth of the priors only.

    Those are the priors that are the least background. The others keep their background, their
    best class and the mean of the rest, in 4 bytes: enough up to temperature 1, where the rest
    hardly counts.
    """

    def __init__(self, shapes: Shapes, width: int, temperature: float = 1.0) -> None:
        super().__init__(shapes, width, temperature)
        self.rows = -(-self.layout.num // 9)
        self.sizes = [self.layout.num * 4, self.rows * 2, self.rows * width]
        self.nbytes = sum(self.sizes)

    def encode(self, levels: Sequence[Tensor], context: Any = None) -> Tensor:
        """Levels (B, A * width, H, W) -> (B, nbytes), uint8."""
        log_prob = self._log_prob(levels)
        background, objects = log_prob[..., -1:], log_prob[..., :-1]
        best, label = objects.max(-1, keepdim=True)
        rest = objects.scatter(-1, label, -torch.inf).logsumexp(-1, keepdim=True)
        rest -= math.log(max(self.width - 2, 1))
        coarse = torch.cat([_code(torch.cat([background, rest, best], -1)), label.byte()], -1)
        least = background.squeeze(-1).topk(self.rows, dim=1, largest=False).indices  # (B, rows)
        fine = _code(_rows(log_prob, least))
        return torch.cat([coarse.flatten(1), _pack_index(least), fine.flatten(1)], dim=1)

    def decode(self, data: Tensor) -> list[Tensor]:
        """(B, nbytes), uint8 -> levels (B, A * width, H, W), float32."""
        coarse, least, fine = data.split(self.sizes, dim=1)
        coarse = coarse.unflatten(1, (-1, 4))
        background, rest, best = self._logits(coarse[..., :3]).split(1, dim=-1)
        rows = rest.repeat(1, 1, self.width)
        rows.scatter_(-1, coarse[..., 3:].long(), best)
        rows[..., -1:] = background
        full = self._logits(fine.unflatten(1, (-1, self.width)))
        rows.scatter_(1, _unpack_index(least).unsqueeze(-1).expand_as(full), full)
        return self.layout.levels(rows)


class NearBoxes:
    """Encoded boxes of the 512 priors that lie best on the ground truth, as float16; else zeros.

    First come the best priors of each object, then those of the highest IoU with any: whatever
    an assigner by IoU makes positive, unless it is more.

    Args:
        shapes: of the levels, (A * 4, H, W).
    """

    most = 512

    def __init__(self, shapes: Shapes) -> None:
        self.layout = _Priors(shapes, 4)
        self.rows = min(self.most, self.layout.num)
        self.sizes = [self.rows * 2, self.rows * 8]
        self.nbytes = sum(self.sizes)

    def encode(self, levels: Sequence[Tensor], context: tuple[Any, Sequence[Tensor]]) -> Tensor:
        """Levels (B, A * 4, H, W) -> (B, nbytes), uint8.

        Args:
            levels: encoded boxes.
            context: the student's prior generator, and each image's ground truth (G, 4), in
                input pixels.
        """
        generator, ground_truths = context
        sizes = [tuple(level.shape[-2:]) for level in levels]
        priors = torch.cat(generator.grid_priors(sizes, device=ground_truths[0].device))  # (P, 4)
        near = []
        for boxes in ground_truths:
            iou = bbox_overlaps(boxes.float(), priors)  # (G, P)
            best = (iou == iou.amax(1, keepdim=True)) & (iou > 0)
            score = (iou + best).amax(0) if len(boxes) else iou.new_zeros(len(priors))
            near.append(score.topk(self.rows).indices)
        index = torch.stack(near).to(levels[0].device)
        rows = _rows(flatten_levels(levels, 4), index).flatten(1)
        limit = torch.finfo(torch.float16).max
        kept = _as_bytes(rows.clamp(-limit, limit).half())
        return torch.cat([_pack_index(index), kept], dim=1)

    def decode(self, data: Tensor) -> list[Tensor]:
        """(B, nbytes), uint8 -> levels (B, A * 4, H, W), float32."""
        index, kept = data.split(self.sizes, dim=1)
        values = _from_bytes(kept, torch.float16).float().unflatten(1, (self.rows, 4))
        rows = values.new_zeros(len(data), self.layout.num, 4)
        rows.scatter_(1, _unpack_index(index).unsqueeze(-1).expand_as(values), values)
        return self.layout.levels(rows)


class _Priors:
    """Rows of priors (B, P, width) as levels (B, A * width, H, W), without a copy."""

    def __init__(self, shapes: Shapes, width: int) -> None:
        self.shapes, self.width = [tuple(shape) for shape in shapes], width
        self.per_level = [c // width * h * w for c, h, w in self.shapes]
        self.num = sum(self.per_level)
        if any(c % width for c, _, _ in self.shapes) or self.num > 2**16 or width > 2**8:
            raise ValueError(
                'a compact record needs levels (A * width, H, W) with at most 65536 priors and '
                f"256 classes, got {self.shapes} for width {width}. Set its codec to 'dense16'."
            )

    def levels(self, rows: Tensor) -> list[Tensor]:
        return rows_as_levels(rows, self.shapes)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.size(-1)))


def _code(log_prob: Tensor) -> Tensor:
    return (log_prob.clamp(-_RANGE, 0) / -_RANGE).sqrt().mul(255).round().byte()


def _uncode(code: Tensor) -> Tensor:
    return code.float().square_().mul_(-_RANGE / 255**2)


def _as_bytes(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.uint8)


def _from_bytes(data: Tensor, dtype: torch.dtype) -> Tensor:
    return data.clone(memory_format=torch.contiguous_format).view(dtype)  # aligned


def _pack_index(index: Tensor) -> Tensor:
    return _as_bytes((index - 2**15).to(torch.int16))


def _unpack_index(data: Tensor) -> Tensor:
    return _from_bytes(data, torch.int16).long() + 2**15
