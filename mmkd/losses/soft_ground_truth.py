"""The teacher's detections as ground truth of the student's own loss."""

import re
from dataclasses import replace
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.geometry.multi_level_maps import describe, upcast
from mmkd.heads.detections import Detections, detections
from mmkd.heads.fusion import JoinedRows, joined_detections
from mmkd.heads.predictions import Predictions
from mmkd.losses.log_keys import is_term
from mmkd.losses.statistic import Statistic
from mmkd.recorders.loss_pass import LossPass, own_draws

#: Terms of what a teacher's box cannot tell: masks, semantic maps, keypoints.
UNTOLD = re.compile(r'mask|seg|kpt|keypoint|oks|vis(?:ib|$|_)')


@MODELS.register_module()
class SoftGroundTruth(nn.Module):
    r"""The student's own loss once more, with what the teacher detects for ground truth.

    .. math::

        L = E_G \sum_{terms} L_{own}(features, G), \quad P(d \in G) = score(d)

    The student's own heads, assigner and sampler work on the features of its own pass, so that
    nothing need be known of its head; neither backbone nor neck runs again. The ground truth is
    soft in that a detection d counts in as many of the steps as the teacher is sure of it: in the
    mean its target is its score. Record the student with ``type='LossPass'``, the teacher with
    ``type='Predictions'``. The detections of several teachers are fused:
    :func:`mmkd.heads.fusion.fuse_boxes`.

    Terms of masks, semantic maps and keypoints are left out: boxes do not tell them. BatchNorm,
    counters and random generators go on as if the student had run once; denoising queries of DINO
    are made of the teacher's detections, too.

    Source:
        Pseudo-labels of a teacher (Sohn et al. 2020, arXiv 2005.04757; Xu et al., ICCV 2021, arXiv
        2106.09018), here beside the ground truth and of the same images.

    Differs:
        No threshold decides which detections are right: each is drawn by its score. With
        ``soft=False`` all above ``score_thr`` count in each step.

    Units:
        Those of the student's own terms, by its own average factors. In MMYOLO these grow with
        the images of the batch.

    Args:
        loss_weight (float): Defaults to 1.0.
        score_thr (float): detections below it are never objects. Defaults to 0.1.
        iou_thr (float): of the NMS of a teacher that needs one. Defaults to 0.6.
        max_per_img (int): Defaults to 100.
        soft (bool): draw each detection by its score. Defaults to True.

    Raises:
        ValueError: for numbers out of range, for other records, for another number of images.

    Example:
        >>> SoftGroundTruth(score_thr=1.5)
        Traceback (most recent call last):
        ...
        ValueError: score_thr must be at least 0 and below 1, got 1.5.
    """

    needs_equal = ('classes',)
    joins_teachers = 'always'
    # A head that takes its negatives by the number of positives learns nothing without objects.
    idle_without = 'objects'
    statistics = {
        'objects': Statistic(
            "the teacher's detections of an image that count as objects",
            'Lower score_thr, or look at whether the teacher finds anything in these images.',
        ),
        'score': Statistic('their mean score'),
    }

    def __init__(
        self,
        loss_weight: float = 1.0,
        score_thr: float = 0.1,
        iou_thr: float = 0.6,
        max_per_img: int = 100,
        soft: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= score_thr < 1:
            raise ValueError(f'score_thr must be at least 0 and below 1, got {score_thr}.')
        if not 0 < iou_thr <= 1:
            raise ValueError(f'iou_thr must be above 0 and at most 1, got {iou_thr}.')
        if max_per_img < 1:
            raise ValueError(f'max_per_img must be at least 1, got {max_per_img}.')
        self.loss_weight = loss_weight
        self.score_thr = score_thr
        self.iou_thr = iou_thr
        self.max_per_img = max_per_img
        self.soft = soft
        self.step = 0  # what the draws follow from, so that a resumed run draws the same
        self.logs: dict[str, Tensor] = {}

    def get_extra_state(self) -> Tensor:
        """What a checkpoint keeps."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a checkpoint."""
        self.step = int(state)

    def forward(self, preds_S: LossPass, preds_T: Predictions | JoinedRows) -> Tensor:
        """Compute the loss; ``logs`` gets 'objects' and 'score'.

        Args:
            preds_S: the student's own pass.
            preds_T: the teacher's rows, of any number and kind, or those of several.
        """
        joined = isinstance(preds_T, JoinedRows)
        if not isinstance(preds_S, LossPass) or not (joined or isinstance(preds_T, Predictions)):
            raise ValueError(
                "preds_S must be recorded with `type='LossPass'` and preds_T with "
                f"`type='Predictions'`, got {describe(preds_S)} and {describe(preds_T)}."
            )
        if not preds_S.features:
            raise ValueError(
                f'the loss of {type(preds_S.call.model).__name__} must take its features from '
                '`extract_feat`, but it does not call it. Distil its features instead.'
            )
        detect: Any = joined_detections if joined else detections
        found = detect(preds_T.detach(), self.score_thr, self.iou_thr, self.max_per_img)
        key = type(self).__name__, self.step
        if self.soft:
            found = self._drawn(found, preds_S.call.inputs.device, *key)
        self.step += self.training
        features = [_upcast(maps) for maps in preds_S.features]
        shown, part = replace(preds_S, features=features), preds_S.told()
        part = part if preds_T.seen is None else part & preds_T.seen.cpu()
        # All ranks compute the terms, whose average factors are sums over them.
        counted = float(part.any())
        if counted and not part.all():
            kept = part.nonzero().flatten()
            shown, found = shown.of(kept), [found[i] for i in kept.tolist()]
        terms = shown.again(found, *key)
        told = [v for name, v in terms.items() if is_term(name) and not UNTOLD.search(name)]
        scores = torch.cat([image.scores for image in found])
        self.logs = {
            'objects': scores.new_tensor(counted * len(scores) / max(len(found), 1)),
            'score': scores.mean() if len(scores) else scores.new_zeros(()),
        }
        return counted * self.loss_weight * torch.stack([_scalar(term) for term in told]).sum()

    @staticmethod
    def _drawn(found: list[Detections], device: torch.device, *key: Any) -> list[Detections]:
        with own_draws(device, 'drawn', *key):
            drawn = [image.scores.cpu() > torch.rand(len(image.scores)) for image in found]
        return [
            Detections(*(value[kept.to(value.device)] for value in image))
            for image, kept in zip(found, drawn, strict=True)
        ]


def _upcast(maps: Any) -> Any:
    if isinstance(maps, Tensor):
        return upcast(maps)
    return type(maps)(_upcast(item) for item in maps) if type(maps) in (list, tuple) else maps


def _scalar(term: Any) -> Tensor:
    parts = [term] if isinstance(term, Tensor) else term
    return torch.stack([part.mean() for part in parts]).sum()
