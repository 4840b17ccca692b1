"""``Predictions``: what a detector predicts, the same for every head (torch only)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """One row per prior, proposal or query of a head, differentiable.

    Args:
        log_prob: (B, P, C), the logarithm of the score by which the head itself ranks: class
            probability, times objectness, centerness or IoU where the head multiplies by it,
            without the background of a softmax.
        boxes: (B, P, 4), decoded, (x1, y1, x2, y2) in input pixels, not clipped to the image.
        priors: (P, 4), x and y of the centre and stride in x and y, in input pixels; None for
            proposals and queries.
        quality: (B, P, 1), the logarithm of the factor that is the same for all classes; it is
            in ``log_prob`` already. None where the head has none.
        valid: (B, P), bool: the row lies in the image, not in its padding, and is no filling.
            None where that is not known, or all rows count.
        class_boxes: (B, P, C, 4) of a head that predicts a box for each class; ``boxes`` then
            holds that of the row's surest class. None where a row has one box.
        one_to_one: each object is meant for a single row, as of a DETR: there is no NMS.
        seen: (B,), bool, on the CPU: the images of which the rows tell anything. None where all.
    """

    log_prob: Tensor
    boxes: Tensor
    priors: Tensor | None = None
    quality: Tensor | None = None
    valid: Tensor | None = None
    class_boxes: Tensor | None = None
    one_to_one: bool = False
    seen: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """(B, P, C), log-odds of the score: softmax and sigmoid heads on one scale, finite.

        >>> score = torch.tensor([[[0.5, 0.9]]])
        >>> Predictions(score.log(), torch.zeros(1, 1, 4)).logits
        tensor([[[0.0000, 2.1972]]])
        """
        log_prob = self.log_prob.clamp(min=torch.finfo(self.log_prob.dtype).min / 2)
        # Below 1 by what float32 resolves: a certain score has finite odds, and a gradient of 1.
        return log_prob - torch.log(-torch.expm1(log_prob.clamp(max=-1e-7)))

    def detach(self) -> 'Predictions':
        """The same rows without their graph."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        free: dict[str, Any] = {n: t.detach() for n, t in held.items() if isinstance(t, Tensor)}
        return replace(self, **free)

    def of_images(self, kept: Tensor) -> 'Predictions':
        """The rows of some images, by their places (n,)."""
        held = {f.name: getattr(self, f.name) for f in fields(self) if f.name != 'priors'}
        rows: dict[str, Any] = {
            name: t[kept.to(t.device)] for name, t in held.items() if isinstance(t, Tensor)
        }
        return replace(self, **rows)

    def scaled(self, factor: float) -> 'Predictions':
        """The same rows of images whose sides have ``factor`` times as many pixels."""
        places = {name: getattr(self, name) for name in ('boxes', 'priors', 'class_boxes')}
        moved: dict[str, Any] = {k: t * factor for k, t in places.items() if t is not None}
        return replace(self, **moved)

    def at(self, priors: Tensor | None) -> 'Predictions':
        """The rows at these priors (Q, 4), where all are among its own, in order; else all rows.

        >>> grid = torch.tensor([[4.0, 4, 8, 8], [12, 4, 8, 8], [20, 4, 8, 8]])
        >>> rows = Predictions(torch.zeros(1, 3, 2), torch.zeros(1, 3, 4), grid)
        >>> rows.at(grid[:2]).boxes.shape, rows.at(grid + 1).boxes.shape
        (torch.Size([1, 2, 4]), torch.Size([1, 3, 4]))
        """
        if self.priors is None or priors is None or len(priors) >= len(self.priors):
            return self
        # To an eighth of a pixel: generators round, each in its own way.
        both = torch.cat([priors.to(self.priors), self.priors]).mul(8).round().long()
        of = both.unique(dim=0, return_inverse=True)[1]
        wanted, own = of.split([len(priors), len(self.priors)])
        kept = torch.isin(own, wanted)
        if not torch.equal(own[kept], wanted):
            return self
        held = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ('priors', 'seen')
        }
        rows: dict[str, Any] = {
            name: t[:, kept] for name, t in held.items() if isinstance(t, Tensor)
        }
        return replace(self, priors=self.priors[kept], **rows)


@dataclass(frozen=True)
class Batch:
    """What a reader needs of the images that a head saw.

    Args:
        input_shape: (H, W) of the padded batch in pixels. None where it is not known.
        metas: the ``metainfo`` of each image. None where they are not known.
        token_maps: of each image, for heads that are told the classes by a text: which tokens
            (list of int) make up a class (int, from 1).
        num_queries: how many queries the detector asks for objects; further rows of a DETR are
            its denoising queries.
        rois: (N, 5), index of the image and box, sorted by image, that a RoI head was given.
    """

    input_shape: tuple[int, int] | None = None
    metas: Sequence[Mapping[str, Any]] | None = None
    token_maps: Sequence[Mapping[int, Sequence[int]]] | None = None
    num_queries: int | None = None
    rois: Tensor | None = None

    def areas(self, like: Tensor) -> Tensor | None:
        """(B, 4), (x1, y1, x2, y2) of each image within the padded batch, in pixels."""
        if self.metas is None:
            return None
        areas = []
        for meta in self.metas:
            shape = meta.get('img_shape', meta.get('batch_input_shape', self.input_shape))
            if shape is None:
                return None
            height, width = shape[:2]
            pad = meta.get('pad_param')  # of MMYOLO's LetterResize, which counts as the image
            top, bottom, left, right = (0, 0, 0, 0) if pad is None else map(float, pad)
            areas.append([left, top, width - right, height - bottom])
        return like.new_tensor(areas)

    def sizes(self, like: Tensor, what: str) -> Tensor:
        """(B, 4), (width, height, width, height) of each image.

        Raises:
            ValueError: the images are not known.
        """
        shapes = [tuple(meta.get('img_shape', ())[:2]) for meta in self.metas or ()]
        if not shapes or () in shapes:
            raise ValueError(
                f'{what} needs the metainfo of the images with their img_shape, by which its boxes '
                f'are scaled, but got {self.metas}. Run the detector on data samples.'
            )
        return like.new_tensor([[w, h, w, h] for h, w in shapes])

    def valid(self, priors: Tensor) -> Tensor | None:
        """(B, P), whether the centre of each of ``priors`` (P, 4) lies within each image.

        >>> priors = torch.tensor([[4.0, 4.0, 8.0, 8.0], [12.0, 4.0, 8.0, 8.0]])
        >>> Batch(metas=[{'img_shape': (16, 10)}, {'img_shape': (16, 16)}]).valid(priors)
        tensor([[ True, False],
                [ True,  True]])
        """
        areas = self.areas(priors)
        if areas is None:
            return None
        centre = priors[None, :, :2]
        return ((centre >= areas[:, None, :2]) & (centre < areas[:, None, 2:])).all(-1)


def log_of(score: Tensor) -> Tensor:
    """The logarithm of a probability, finite at 0."""
    return score.clamp(min=torch.finfo(score.dtype).tiny).log()
