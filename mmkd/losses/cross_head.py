"""The student's features through the teacher's head."""

from collections.abc import Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import Levels, as_levels, describe, upcast
from mmkd.heads.distributions import check_returns_bins, read_bins
from mmkd.heads.predictions import Predictions
from mmkd.heads.towers import TowerRun
from mmkd.losses.functional.row_targets import same_rows, targets_by_row
from mmkd.losses.functional.row_terms import pulled_boxes, soft_classes
from mmkd.losses.functional.side_terms import side_divergence
from mmkd.losses.statistic import Statistic

_AXES = (0, 2, 3)
_LEAST = 1e-6  # standard deviation


def aligned(maps_S: Tensor, maps_T: Tensor) -> Tensor:
    """The student's maps with the mean and the deviation of each channel of the teacher's.

    Args:
        maps_S: (B, C, H, W).
        maps_T: (B, C, H', W'); gets no gradient.

    Example:
        >>> student, teacher = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 30.0])
        >>> aligned(student.view(1, 1, 1, 2), teacher.view(1, 1, 1, 2)).flatten()
        tensor([10., 30.])
    """
    maps_T = maps_T.detach()
    centred = maps_S - maps_S.mean(_AXES, keepdim=True)
    # Of a single cell the deviation is 0, whose root has no gradient.
    deviation_S = centred.square().mean(_AXES, keepdim=True).clamp(min=_LEAST**2).sqrt()
    deviation_T = maps_T.var(_AXES, correction=0, keepdim=True).sqrt()
    return centred / deviation_S * deviation_T + maps_T.mean(_AXES, keepdim=True)


@MODELS.register_module()
class CrossHead(nn.Module):
    r"""Run the student's maps through the rest of the teacher's head, and compare the predictions.

    .. math::

        L = \frac{1}{\sum p_T} \sum_{rows, classes} |p_T - \sigma(z_R)| \, BCE(z_R, p_T)
            + \frac{w_{box}}{\sum w} \sum_{rows} w \, (1 - GIoU(r, t)), \quad w = \max_c p_T

    R are the predictions of the teacher's head from the student's maps: those inside its towers,
    brought to the mean and deviation of the teacher's channels (``type='Towers'`` on both sides),
    or, for heads without towers, the adapted features of the neck, against the teacher's (with its
    head for ``head_T``, recorded at ``depth=0``). A level that the student lacks is the teacher's
    own, and teaches nothing. The teacher's weights stay as they are; the
    gradient reaches the student's layers before the cut, and its own predictors learn of the
    ground truth alone.

    Source:
        CrossKD: Wang et al., CVPR 2024 (arXiv 2306.11369), with the alignment of
        their code (align_scale).

    Differs:
        Divided by the sum of the teacher's scores over all ranks, not by the average factor of the
        student's assigner: it needs no ground truth; theirs where ``num_pos`` is mapped. Boxes of
        all heads by GIoU; with ``box_loss='sides'`` those of GFL as in their code, whose
        ``box_weight`` is 4 there, by the sum of w over all ranks where theirs is that of a process.
        What a head multiplies its scores by (centerness) is taught as a part of them. A channel
        of a single cell has no deviation and becomes the teacher's mean; theirs becomes NaN.

    Units:
        Means over what the teacher sees, over all ranks, as of :class:`PredictionRows`. The
        alignment is that of the batch of each process.

    Args:
        loss_weight (float): Defaults to 1.0.
        box_weight (float): of the boxes beside the classes. Defaults to 1.0.
        box_loss (str): 'giou', or 'sides', for a teacher whose boxes are means of distributions
            (GFL): KL(teacher || crossed) of those of each side, in the mean of the four.
            Defaults to 'giou'.
        align (bool): bring the maps to the statistics of the teacher's. Defaults to True.
        in_channels (int, optional): of the student's towers, where they are not the teacher's: a
            1x1 convolution for each tower, trained with the student. Defaults to None: in a pair
            those of the two models where they differ.
        out_channels (int, optional): of the teacher's towers, likewise. Defaults to None.

    Raises:
        ValueError: for other records, for maps that do not fit the teacher's head, and for an
            unknown ``box_loss``, or one that this head does not know.

    Example:
        >>> CrossHead(in_channels=8, out_channels=16).adapters[0]
        Conv2d(8, 16, kernel_size=(1, 1), stride=(1, 1))
    """

    needs_equal = ('classes',)
    pairs_levels = ('preds_S',)
    from_models = {'in_channels': 'tower_channels', 'out_channels': 'counterpart_tower_channels'}
    statistics = {'cls': Statistic('its classes'), 'box': Statistic('its boxes')}

    def __init__(
        self,
        loss_weight: float = 1.0,
        box_weight: float = 1.0,
        align: bool = True,
        in_channels: int | None = None,
        out_channels: int | None = None,
        box_loss: str = 'giou',
    ) -> None:
        super().__init__()
        if box_loss not in ('giou', 'sides'):
            raise ValueError(f"box_loss must be 'giou' or 'sides', but got {box_loss!r}.")
        if (in_channels is None) != (out_channels is None):
            raise ValueError(
                'in_channels and out_channels must be given together, got '
                f'{in_channels} and {out_channels}.'
            )
        self.loss_weight = loss_weight
        self.box_weight = box_weight
        self.align = align
        self.box_loss = box_loss
        pairs = [] if in_channels is None or out_channels is None else [(in_channels, out_channels)]
        self.adapters = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in pairs * 2)
        self.logs: dict[str, Tensor] = {}

    def forward(
        self,
        preds_S: TowerRun | Levels,
        preds_T: TowerRun | Levels,
        head_T: TowerRun | None = None,
        num_pos: float | Tensor | None = None,
    ) -> Tensor:
        """Compute the loss; ``logs`` gets its parts 'cls' and 'box', both weighted.

        Args:
            preds_S: the student's run, or its levels of features (B, C, H, W), adapted.
            preds_T: the teacher's run, or its levels.
            head_T: with levels, the teacher's run at ``depth=0``.
            num_pos: of this rank: the last output of the student's ``get_targets``, for example.
        """
        run = preds_T if head_T is None else head_T
        if not isinstance(run, TowerRun):
            raise ValueError(
                "preds_T must be recorded with `type='Towers'`, or head_T where it holds features, "
                f'got {describe(preds_T)} and {describe(head_T)}. Map it.'
            )
        rows_T = run.rows.detach()
        outputs = run.at_work.outputs(self._maps(preds_S, preds_T))
        crossed = run.at_work.rows(outputs)
        with torch.autocast(crossed.boxes.device.type, enabled=False):
            self._check(crossed, rows_T)
            found = targets_by_row(crossed, rows_T)
            cls = soft_classes(crossed, found, num_pos)
            if self.box_loss == 'sides':
                box = self.box_weight * self._sides(run, outputs, found.weights)
            else:
                box = self.box_weight * pulled_boxes(crossed, found, num_pos)
        self.logs = {
            'cls': self.loss_weight * cls.detach(),
            'box': self.loss_weight * box.detach(),
        }
        return self.loss_weight * (cls + box)

    @staticmethod
    def _sides(run: TowerRun, outputs: Sequence[Any], weights: Tensor) -> Tensor:
        """Sum of w KL over the rows, by the sum of w over all ranks."""
        head = run.at_work.head
        check_returns_bins(head)
        assert run.outputs is not None
        own, other = read_bins(head, outputs), read_bins(head, run.outputs)
        total = (
            weights * side_divergence(own.flatten(0, 1), other.flatten(0, 1), 1.0).view_as(weights)
        ).sum()
        return total / across_ranks(weights.sum(), total)

    def _maps(self, preds_S: TowerRun | Levels, preds_T: TowerRun | Levels) -> list[list[Tensor]]:
        if isinstance(preds_T, TowerRun):
            if not isinstance(preds_S, TowerRun) or not preds_S.maps or not preds_T.maps:
                raise ValueError(
                    "preds_S must be recorded with `type='Towers'`, as preds_T is, both at a depth "
                    f'above 0, got {describe(preds_S)}. Features of the neck go with those of the '
                    "teacher's, and its head with head_T."
                )
            inside = list(zip(preds_S.maps, preds_T.maps, strict=True))
        else:
            given = [] if isinstance(preds_S, TowerRun) else preds_S
            inside = [(as_levels(given, 'preds_S'), as_levels(preds_T, 'preds_T'))]
        towers: list[list[Tensor]] = []
        for i, (own, other) in enumerate(inside):
            levels = [upcast(level) for level in own]
            if self.adapters:
                levels = [self.adapters[i](level) for level in levels]
            towers.append(self._at_places(levels, [level.detach() for level in other]))
        return towers

    def _at_places(self, levels: list[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
        """The student's maps in the places of the teacher's; where it has none, the teacher's."""
        left = list(levels)
        found = []
        for there in map(upcast, other):
            if left and left[0].shape[1:] == there.shape[1:]:
                own = upcast(left.pop(0))
                found.append(aligned(own, there) if self.align else own)
            else:
                found.append(there)
        if left or not levels:
            shapes = [[(m.size(1), *m.shape[2:]) for m in maps] for maps in (levels, other)]
            raise ValueError(
                "the student's maps must have the channels and sizes (C, H, W) of the teacher's, "
                f'got {shapes[0]} and {shapes[1]}. Set in_channels and out_channels where the '
                'channels of towers differ; adapt features with FeatureAdapter.'
            )
        return found

    @staticmethod
    def _check(crossed: Predictions, rows_T: Predictions) -> None:
        shapes = tuple(crossed.boxes.shape), tuple(rows_T.boxes.shape)
        known = crossed.priors is not None and rows_T.priors is not None
        if shapes[0] != shapes[1] or (known and not same_rows(crossed, rows_T)):
            raise ValueError(
                "the teacher's head must predict on the student's maps at the places of its own, "
                f'but made boxes of {shapes[0]} for {shapes[1]} (images, rows, 4). Take maps of '
                "the same strides as the teacher's, or adapt them with FeatureAdapter."
            )
