"""Regression towards the teacher's boxes, where the teacher sees an object."""

from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd.levels import Levels, as_levels, describe, flatten_levels, paired_levels
from mmkd.normalizer import across_ranks


def foreground(logits: Tensor) -> Tensor:
    """1 - the softmax's background, the last of the (..., C + 1) classes.

    Example:
        >>> foreground(torch.tensor([[0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, -9.0]]))
        tensor([0.7500, 1.0000])
    """
    return logits[..., :-1].logsumexp(-1).sub(logits[..., -1]).sigmoid()


@MODELS.register_module()
class TeacherScaledReg(nn.Module):
    r"""Teach a softmax head's boxes what the teacher's are, the more the surer it sees an object.

    With w = 1 - P_T(background), over all priors:

    .. math::

        L = \frac{\sum w \, \sum_{coordinates} smooth_{L1}(s - t)}{\sum w}

    Unlike :class:`TeacherBoundedReg` it needs no ground truth: the teacher's box is the target, on
    every prior from which the teacher finds an object. Where annotations are inexact, a teacher is
    less so: it has averaged over many.

    Source:
        The box term of Mehta & Ozturk 2018, "Object detection at 200 frames per second" (arXiv
        1805.06361), section 3.1, whose objectness a softmax head does not have. The distance is
        Fast R-CNN's (Girshick 2015, eq. 3).

    Differs:
        1 - P(background) in place of objectness, smooth L1 in place of the square, in the units
        that the head itself is trained in; a mean over w in place of all priors.

    Units:
        Divided by the sum of w over all ranks, so a mean over the teacher's objects, summed over
        the 4 *encoded* coordinates: independent of batch, image size and number of levels.

    Args:
        beta (float): where the square becomes linear, in encoded units; 0 for L1. Keep it equal
            to the head's ``smoothl1_beta``. Defaults to 1.0.
        loss_weight (float): Defaults to 1.0.

    Raises:
        ValueError: for a negative beta, and for maps that do not fit together.

    Example:
        >>> student, teacher = torch.full((1, 4, 1, 1), 3.0), torch.full((1, 4, 1, 1), 1.0)
        >>> TeacherScaledReg()(student, teacher, torch.zeros(1, 2, 1, 1))  # 4 * (2 - 0.5)
        tensor(6.)
    """

    needs_equal = ('classes', 'priors', 'coder')
    teacher_reads = {'scores_T': 'softmax'}

    def __init__(self, beta: float = 1.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        if beta < 0:
            raise ValueError(f'beta must not be negative, got {beta}.')
        self.beta = beta
        self.loss_weight = loss_weight
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: Levels, preds_T: Levels, scores_T: Levels) -> Tensor:
        """Compute the loss; ``logs`` gets 'foreground', the mean of w.

        Args:
            preds_S: levels (B, A * 4, H, W), encoded boxes.
            preds_T: the teacher's, of the same shapes.
            scores_T: the teacher's class logits, levels (B, A * (C + 1), H, W).
        """
        levels_S, levels_T = paired_levels(preds_S, preds_T, 'priors')
        scores = [
            level.detach().to(levels_S[0].device) for level in as_levels(scores_T, 'scores_T')
        ]
        cells = [(s.size(0), *s.shape[2:]) for s in levels_S]
        anchors = [s.size(1) // 4 for s in levels_S]
        width = scores[0].size(1) // max(anchors[0], 1)  # C + 1
        fits = (
            width >= 2
            and all(s.size(1) == 4 * a > 0 for s, a in zip(levels_S, anchors, strict=True))
            and [(s.size(0), *s.shape[2:]) for s in scores] == cells
            and [s.size(1) for s in scores] == [a * width for a in anchors]
        )
        if not fits:
            raise ValueError(
                'scores_T must hold C + 1 >= 2 channels for each prior that has 4 in preds_S, got '
                f'{describe(scores)} for boxes {describe(levels_S)}. Map preds_S and preds_T to '
                "the box maps (`data_idx=1` of the head's output), scores_T to the class maps "
                '(`data_idx=0`) of a softmax head.'
            )
        boxes_S, boxes_T = flatten_levels(levels_S, 4), flatten_levels(levels_T, 4)
        weight = foreground(flatten_levels(scores, width))  # (B, P)
        distance = F.smooth_l1_loss(
            boxes_S, boxes_T.to(boxes_S.dtype), reduction='none', beta=self.beta
        ).sum(-1)
        total = across_ranks(weight.sum(), boxes_S, 1e-6)
        self.logs = {'foreground': weight.mean()}
        return self.loss_weight * (weight * distance).sum() / total
