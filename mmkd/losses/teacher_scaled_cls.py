"""The teacher's class distribution, where the teacher sees an object."""

from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import Levels, describe, flatten_levels, paired_levels
from mmkd.heads.level_maps import check_score_thr, foreground
from mmkd.losses.statistic import Statistic


@MODELS.register_module()
class TeacherScaledCls(nn.Module):
    r"""Teach a softmax head the teacher's classes, the more the surer it sees an object.

    With w = 1 - P_T(background) at temperature 1, over all priors:

    .. math::

        L = \frac{\tau^2 \sum w \, KL(P_T \| P_S)}{\sum w}, \quad P = softmax(\cdot / \tau)

    Unlike :class:`WeightedSoftCls` it needs no targets: it teaches which of the priors around an
    object the teacher is sure of, whether or not they were assigned to it, and objects that are
    not annotated. Background, where w is near 0, is left to the student's own loss.

    Source:
        The class term of Mehta & Ozturk 2018, "Object detection at 200 frames per second" (arXiv
        1805.06361), section 3.1, whose objectness a softmax head does not have; KL and tau are
        those of Hinton et al. 2015, "Distilling the knowledge in a neural network".

    Differs:
        1 - P(background) in place of objectness; KL of softmaxes, the background one of the
        classes, in place of the square; a mean over w in place of all priors.

    Units:
        Divided by the sum of w over all ranks, so a mean over the teacher's objects: independent
        of batch, image size, number of levels and, nearly, of C.

    Args:
        num_classes (int): C, without the background. In a pair it may be left out: the head's.
        temperature (float): tau. Defaults to 2.0.
        loss_weight (float): Defaults to 1.0.
        score_thr (float): priors of a lower w are left out. Defaults to 0.0.

    Raises:
        ValueError: for ``num_classes`` below 1, a temperature that is not positive or a
            ``score_thr`` outside [0, 1), and for maps that do not fit each other or
            ``num_classes``.

    Example:
        >>> student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([[[[2.0]], [[0.0]]]])
        >>> TeacherScaledCls(1, temperature=1.0)(student, teacher)
        tensor(0.3278)
    """

    needs_equal = ('classes', 'priors')
    softmax_scores = ('preds_S', 'preds_T')
    from_models = {'num_classes': 'classes'}
    statistics = {
        'foreground': Statistic(
            'mean probability that the teacher gives to an object in a prior',
            'The teacher sees no object: look at its mAP and preprocessing above.',
        )
    }

    def __init__(
        self,
        num_classes: int,
        temperature: float = 2.0,
        loss_weight: float = 1.0,
        score_thr: float = 0.0,
    ) -> None:
        super().__init__()
        check_score_thr(score_thr)
        if num_classes < 1 or temperature <= 0:
            raise ValueError(
                'num_classes must be at least 1 and temperature positive, got '
                f'{num_classes} and {temperature}.'
            )
        self.num_classes = num_classes
        self.score_thr = score_thr
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: Levels, preds_T: Levels) -> Tensor:
        """Compute the loss; ``logs`` gets 'foreground', the mean of w.

        Args:
            preds_S: levels (B, A * (C + 1), H, W), class logits, the background last.
            preds_T: the teacher's, of the same shapes.
        """
        levels_S, levels_T = paired_levels(preds_S, preds_T, 'classes and priors')
        width = self.num_classes + 1
        if any(level.size(1) % width or not level.size(1) for level in levels_S):
            raise ValueError(
                f'preds_S must hold {width} channels, C + 1, for each prior, got '
                f'{describe(levels_S)}. Map it to the class maps (`data_idx=0` of the output) of a '
                f"softmax head. Is num_classes={self.num_classes} the head's?"
            )
        logits_S, logits_T = flatten_levels(levels_S, width), flatten_levels(levels_T, width)
        weight = foreground(logits_T)  # (B, P)
        self.logs = {'foreground': weight.mean()}
        if self.score_thr:
            kept = weight >= self.score_thr
            logits_S, logits_T, weight = logits_S[kept], logits_T[kept], weight[kept]
        divergence = F.kl_div(
            F.log_softmax(logits_S / self.temperature, dim=-1),
            F.log_softmax(logits_T.to(logits_S.dtype) / self.temperature, dim=-1),
            reduction='none',
            log_target=True,
        ).sum(-1)
        total = across_ranks(weight.sum(), logits_S, 1e-6)
        return self.loss_weight * self.temperature**2 * (weight * divergence).sum() / total
