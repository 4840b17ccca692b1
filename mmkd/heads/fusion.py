"""What several detectors find together: weighted boxes fusion (torch and NumPy only)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mmkd.heads.detections import Detections, detections
from mmkd.heads.predictions import Predictions

Array: TypeAlias = np.ndarray[Any, Any]

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class JoinedRows:
    """The rows of several teachers of the same images, with the same C classes.

    Args:
        rows: of each teacher, of any number and kind.
        weights: of each teacher, above 0.
        taught: of each teacher and class whether it teaches it; None where all do.
    """

    rows: Sequence[Predictions]
    weights: Sequence[float]
    taught: Sequence[Sequence[bool] | None]

    def shares(self) -> Tensor:
        """(n, C), the weight of each teacher in each class; those that teach a class add up to 1.

        >>> one = Predictions(torch.zeros(1, 1, 2), torch.zeros(1, 1, 4))
        >>> JoinedRows([one, one], [1.0, 3.0], [None, [True, False]]).shares()
        tensor([[0.2500, 1.0000],
                [0.7500, 0.0000]])
        """
        counts = self._counts()
        return counts / counts.sum(0).clamp(min=_TINY)

    def _counts(self) -> Tensor:
        """(n, C), the weight of each teacher in each class, 0 where it does not teach it."""
        log_prob = self.rows[0].log_prob
        counts = torch.stack(
            [
                torch.ones(log_prob.size(-1)) if taught is None else torch.tensor(taught).float()
                for taught in self.taught
            ]
        )
        return (counts * torch.tensor(self.weights)[:, None]).to(log_prob.device)

    @property
    def looked(self) -> Tensor | None:
        """(n, B), bool, on the CPU: whether each teacher tells of an image; None where all do."""
        if all(rows.seen is None for rows in self.rows):
            return None
        every = torch.ones(len(self.rows[0].log_prob), dtype=torch.bool)
        return torch.stack([every if rows.seen is None else rows.seen.cpu() for rows in self.rows])

    @property
    def seen(self) -> Tensor | None:
        """(B,), bool, on the CPU: the images of which some tell all that these teach."""
        looked, counts = self.looked, self._counts().cpu() > 0
        if looked is None:
            return None
        told = (looked[:, :, None] & counts[:, None]).any(0)  # (B, C)
        return looked.any(0) & (told | ~counts.any(0)).all(-1)

    def by_image(self) -> tuple[Tensor, Tensor]:
        """:meth:`shares` among those that tell of an image, (n, B, C), and of weights, (n, B).

        >>> one = Predictions(torch.zeros(2, 1, 1), torch.zeros(2, 1, 4))
        >>> other = replace(one, seen=torch.tensor([True, False]))
        >>> JoinedRows([one, other], [1.0, 3.0], [None, None]).by_image()[1]
        tensor([[0.2500, 1.0000],
                [0.7500, 0.0000]])
        """
        looked, counts = self.looked, self._counts()
        if looked is None:
            looked = torch.ones(len(self.rows), len(self.rows[0].log_prob), dtype=torch.bool)
        counted = (looked | ~looked.any(0)).to(counts)  # where none looks, nothing is taught anyway
        shares = counts[:, None] * counted[..., None]
        weights = torch.tensor(self.weights).to(counts)[:, None] * counted
        return shares / shares.sum(0).clamp(min=_TINY), weights / weights.sum(0)

    def of_images(self, kept: Tensor) -> 'JoinedRows':
        """The rows of some images, by their places (n,)."""
        return replace(self, rows=[rows.of_images(kept) for rows in self.rows])

    def detach(self) -> 'JoinedRows':
        """The same rows without their graph."""
        return replace(self, rows=[rows.detach() for rows in self.rows])


class Fused(NamedTuple):
    """The k objects that several models find in an image, the surest first."""

    boxes: Array  # (k, 4)
    scores: Array  # (k,)
    labels: Array  # (k,)
    places: Array  # (n,), of each detection, model after model, which of the k it is; -1 for none


def fuse_boxes(
    boxes: Sequence[Array],
    scores: Sequence[Array],
    labels: Sequence[Array],
    shares: Array,
    iou_thr: float,
) -> tuple[Array, Array, Array]:
    r"""Weighted boxes fusion of the detections that several models made of an image.

    Detections are taken the surest first. Each joins the cluster of its class whose box so far
    overlaps it most, by more than ``iou_thr``, or begins one. With s the score of a detection, a
    the share of its model in its class, and i the detections of a cluster:

    .. math::

        box = \frac{\sum_i a_i s_i \, box_i}{\sum_i a_i s_i}, \quad score = \sum_i a_i s_i

    so that an object which a model with a share does not find is the less sure.

    Source:
        Solovyev, Wang and Gabruseva, "Weighted boxes fusion: Ensembling boxes from different
        object detection models", Image and Vision Computing 107, 2021 (arXiv 1910.13302), eq. 1 to
        3, rescaled by the models that found the object (eq. 5).

    Differs:
        The models' weights, by class, come in where theirs is 1 / N. A cluster has at most one
        detection of a model: what its own suppression has left are different objects.

    Args:
        boxes: of each of the M models (n, 4), x1, y1, x2, y2.
        scores: (n,), from 0 to 1.
        labels: (n,), below C.
        shares: (M, C), which add up to 1 over the models that know the class.
        iou_thr: from 0 to 1.

    Returns:
        tuple: boxes (k, 4), scores (k,) and labels (k,), the surest first.

    Example:
        >>> box = np.array([[0.0, 0.0, 8.0, 8.0]])
        >>> found = fuse_boxes(
        ...     [box, box + 1], [np.array([0.75]), np.array([0.25])], [np.zeros(1, int)] * 2,
        ...     np.full((2, 1), 0.5), 0.5)
        >>> found[0].tolist(), found[1].tolist()
        ([[0.25, 0.25, 8.25, 8.25]], [0.5])
    """
    return fuse_detections(boxes, scores, labels, shares, iou_thr)[:3]


def fuse_detections(
    boxes: Sequence[Array],
    scores: Sequence[Array],
    labels: Sequence[Array],
    shares: Array,
    iou_thr: float,
) -> Fused:
    """As :func:`fuse_boxes`, and which detections became one."""
    model = np.concatenate([np.full(len(s), i) for i, s in enumerate(scores)])
    box, label = np.concatenate(boxes).astype(float), np.concatenate(labels).astype(int)
    # By what they weigh; of two that weigh the same the first model's comes first.
    weight = np.concatenate(scores).astype(float) * shares[model, label]
    # Of each cluster the sums of a_i s_i box_i and a_i s_i.
    sums: Array = np.zeros((0, 4))
    totals: Array = np.zeros(0)
    of: Array = np.zeros(0, int)  # its class
    members: Array = np.zeros((0, len(scores)), bool)  # its models
    places: Array = np.full(len(weight), -1)
    for i in np.argsort(-np.concatenate(scores), kind='stable'):
        if weight[i] <= 0:
            continue
        overlap = overlaps(box[i], sums / totals[:, None])
        overlap[(of != label[i]) | members[:, model[i]]] = 0
        place = int(overlap.argmax()) if len(overlap) else -1
        if place < 0 or overlap[place] <= iou_thr:
            place = len(totals)
            sums, totals = np.vstack([sums, np.zeros(4)]), np.append(totals, 0.0)
            of = np.append(of, label[i])
            members = np.vstack([members, np.zeros(len(scores), bool)])
        sums[place] += weight[i] * box[i]
        totals[place] += weight[i]
        members[place, model[i]] = True
        places[i] = place
    order = np.argsort(-totals, kind='stable')
    rank = np.append(np.argsort(order), -1)
    return Fused((sums / totals[:, None])[order], totals[order], of[order], rank[places])


def overlaps(box: Array, others: Array) -> Array:
    """IoU of a box (4,) with k others, (k,)."""
    low = np.maximum(box[:2], others[:, :2])
    size = np.clip(np.minimum(box[2:], others[:, 2:]) - low, 0, None)
    inner = size.prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1)
    return inner / np.maximum((box[2:] - box[:2]).prod() + areas - inner, 1e-12)


@torch.no_grad()
def joined_detections(
    found: JoinedRows, score_thr: float, iou_thr: float, max_per_img: int
) -> list[Detections]:
    """The detections of all teachers of each image, fused; see :func:`fuse_boxes`.

    Args:
        found: rows of B images.
        score_thr: what is less sure is left out, before the fusion and after it.
        iou_thr: of each teacher's suppression, and of the fusion.
        max_per_img: how many, at most.
    """
    each = [detections(rows, score_thr, iou_thr, max_per_img) for rows in found.rows]
    whole = found.shares() if found.looked is None else found.by_image()[0]
    shares = whole.double().cpu().numpy()
    images = []
    for i, of_image in enumerate(zip(*each, strict=True)):
        share = shares if found.looked is None else shares[:, i]
        like = of_image[0]
        given = [[one[key].cpu().numpy() for one in of_image] for key in (1, 3, 2)]
        boxes, scores, labels = fuse_boxes(given[0], given[1], given[2], share, iou_thr)
        # A score is rounded where it is taken as double and back.
        kept = np.flatnonzero(scores >= score_thr * (1 - 1e-6))[:max_per_img]
        images.append(
            Detections(
                torch.full((len(kept),), -1, device=like.labels.device),
                torch.as_tensor(boxes[kept]).to(like.boxes),
                torch.as_tensor(labels[kept]).to(like.labels),
                torch.as_tensor(scores[kept]).to(like.scores),
            )
        )
    return images
