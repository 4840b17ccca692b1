"""Soft classes and boxes of any teacher on the rows of any student."""

from collections.abc import Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.geometry.multi_level_maps import describe
from mmkd.heads.fusion import JoinedRows
from mmkd.heads.predictions import Predictions
from mmkd.losses.functional.row_targets import (
    RowTargets,
    joined_targets,
    same_rows,
    targets_by_overlap,
    targets_by_row,
    targets_one_to_one,
)
from mmkd.losses.functional.row_terms import pulled_boxes, soft_classes
from mmkd.losses.statistic import Statistic


@MODELS.register_module()
class PredictionRows(nn.Module):
    r"""Teach a student what its teacher predicts, whatever their heads.

    .. math::

        L = \frac{1}{\sum q} \sum_{rows, classes} |q - \sigma(z)| \, BCE(z, q)
            + \frac{w_{box}}{\sum w} \sum_{pairs} w \, (1 - GIoU(s, t))

    z are the log-odds of the student's scores, so that what it multiplies them by (objectness,
    centerness) is taught along. With equal priors q of a row is the teacher's score of the same
    row, and each row is a pair of weight w, its highest score. Otherwise the ``top_k`` surest of
    the teacher's rows after NMS are each shown to the ``candidates`` rows of the student that
    overlap them most: :func:`targets_by_overlap`. A student without NMS (DETR's kin) would find
    objects twice by that, so each has one row of it: :func:`targets_one_to_one`. Record both
    sides with ``type='Predictions'``. Of several teachers q is the mean, and each of their boxes
    counts by its teacher's weight: :func:`joined_targets`.

    Source:
        Quality focal loss (Li et al., NeurIPS 2020, arXiv 2006.04388, eq. 4, with beta 1) with
        the teacher's score as the quality; the choice of rows follows ATSS (arXiv 1912.02424) and
        the alignment TOOD (arXiv 2108.07755).

    Differs:
        Rows are chosen by overlap with the teacher's boxes, not with ground truth, which the
        loss does not need.

    Units:
        Means over what the teacher sees, over all ranks: of the summed scores (at least 1) and of
        the summed weights (at least 1). Independent of batch, image size and number of rows.

    Args:
        loss_weight (float): Defaults to 1.0.
        box_weight (float): of the boxes beside the classes. Defaults to 2.0.
        top_k (int): the teacher's objects of an image, where priors differ. Defaults to 100, as
            many as mmdet's detectors find.
        candidates (int): the student's rows for each of them, 1 for a student without NMS.
            Defaults to 9.

    Raises:
        ValueError: for numbers below 1, for records that are no Predictions, and for another
            number of images or classes.

    Example:
        >>> box = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]])
        >>> sure, unsure = (torch.full((1, 1, 1), p).log() for p in (0.999, 0.5))
        >>> student, teacher = Predictions(unsure, box), Predictions(sure, box)
        >>> PredictionRows()(student, teacher), PredictionRows()(teacher, teacher)
        (tensor(0.3459), tensor(0.))
    """

    needs_equal = ('classes',)
    joins_teachers = 'shared'
    statistics = {'cls': Statistic('its classes'), 'box': Statistic('its boxes')}

    def __init__(
        self,
        loss_weight: float = 1.0,
        box_weight: float = 2.0,
        top_k: int = 100,
        candidates: int = 9,
    ) -> None:
        super().__init__()
        for name, value in (('top_k', top_k), ('candidates', candidates)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}.')
        self.loss_weight = loss_weight
        self.box_weight = box_weight
        self.top_k = top_k
        self.candidates = candidates
        self.logs: dict[str, Tensor] = {}
        #: Whether the last batch had no image at which the teacher looked.
        self.untold = False

    def forward(self, preds_S: Predictions, preds_T: Predictions | JoinedRows) -> Tensor:
        """Compute the loss; ``logs`` gets its parts 'cls' and 'box', both weighted.

        Args:
            preds_S: the student's rows.
            preds_T: the teacher's, of any number and kind, or those of several.
        """
        counted, self.untold = 1.0, False
        if preds_T.seen is not None:
            counted = float(preds_T.seen.any())  # all ranks compute what is summed over them
            self.untold = not counted
            kept = preds_T.seen.nonzero().flatten()
            if counted:
                preds_S, preds_T = preds_S.of_images(kept), preds_T.of_images(kept)
        joined = preds_T.detach() if isinstance(preds_T, JoinedRows) else None
        taught: Sequence[Any] = [preds_T] if joined is None else joined.rows
        for rows_T in taught:
            self._check(preds_S, rows_T)
        device = preds_S.log_prob.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            each = [self._targets(preds_S, rows_T.detach()) for rows_T in taught]
            found = each[0]
            if joined is not None:
                shares, weights = joined.shares(), joined.weights
                if joined.looked is not None:
                    each_image, parts = joined.by_image()
                    shares, weights = each_image[:, :, None], list(parts[..., None])
                found = joined_targets(each, shares, weights)
        with torch.autocast(device, enabled=False):
            cls = soft_classes(preds_S, found)
            box = self.box_weight * pulled_boxes(preds_S, found)
        cls, box = counted * cls, counted * box
        self.logs = {
            'cls': self.loss_weight * cls.detach(),
            'box': self.loss_weight * box.detach(),
        }
        return self.loss_weight * (cls + box)

    @staticmethod
    def _check(preds_S: object, preds_T: object) -> None:
        for name, rows in (('preds_S', preds_S), ('preds_T', preds_T)):
            if not isinstance(rows, Predictions):
                raise ValueError(
                    f'{name} must be Predictions, got {describe(rows)}. Record it with '
                    "`type='Predictions'`."
                )
        assert isinstance(preds_S, Predictions) and isinstance(preds_T, Predictions)
        s, t = preds_S.log_prob, preds_T.log_prob
        if s.size(0) != t.size(0) or s.size(2) != t.size(2):
            raise ValueError(
                'student and teacher must see the same images and score the same classes, got '
                f'log_prob of {tuple(s.shape)} and {tuple(t.shape)} (images, rows, classes). Take '
                'a teacher of these classes.'
            )

    def _targets(self, preds_S: Predictions, preds_T: Predictions) -> RowTargets:
        if same_rows(preds_S, preds_T):
            return targets_by_row(preds_S, preds_T)
        if preds_S.one_to_one:
            return targets_one_to_one(preds_S, preds_T, self.top_k)
        return targets_by_overlap(preds_S, preds_T, self.top_k, self.candidates)
