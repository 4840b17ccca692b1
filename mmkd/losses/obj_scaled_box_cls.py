"""The teacher's boxes, classes and objectness, weighted by its objectness."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.geometry.multi_level_maps import Levels
from mmkd.heads.bbox_coder import CODERS
from mmkd.heads.level_anchors import level_priors
from mmkd.heads.level_maps import LevelMaps, paired_head_maps, teacher_weight
from mmkd.heads.obj_rows import ObjRow, ObjRows, class_rows
from mmkd.losses.functional.box_distances import box_sum
from mmkd.losses.functional.iou_losses import IOU_LOSSES
from mmkd.losses.functional.obj_scaled_terms import Level, corrected_terms, reference_terms
from mmkd.losses.statistic import Statistic


@MODELS.register_module()
class ObjScaledBoxCls(nn.Module):
    r"""Match the teacher's raw output where the teacher sees an object.

    With w = sigmoid(obj_T), (B, A, H, W), over the cells and anchors of all levels:

    .. math::

        box = \frac{\sum w \, d(b_S, b_T)}{\sum w}, \quad
        cls = \frac{\sum w \sum_c \tau^2 BCE(c_S / \tau, \sigma(c_T / \tau))}{\sum w}, \quad
        obj = \sum_{levels} v_{level} \, mean[BCE(o_S, \sigma(o_T))]

    d sums over the 4 coordinates in decoded space, or is an IoU loss. ``cls_loss='kl'`` is KL of
    softmaxes at tau times tau^2, 'l2' the squared difference of logits, both summed over c. With
    ``scale_obj`` obj is v-weighted sum(w BCE) / sum(w). C = 1 drops cls. The total is
    loss_weight * (box_weight * box + cls_weight * cls + obj_weight * obj). For a head
    without objectness, (cls_scores, bbox_preds), w is its highest class probability and obj 0.

    Source:
        Mehta & Ozturk 2018, "Object detection at 200 frames per second" (arXiv 1805.06361),
        section 3; the YOLOv5 repositories Raychen0617/yolov5_optimization and Adlik/yolov5.
        ``normalizer='mean'`` reproduces them: box (``box_loss='l2'``), cls and obj are
        sum_levels mean[w * distance] over every element, obj is (o_S - o_T)^2, 'bce' takes the
        teacher's raw logits as targets, tau is that of 'kl' alone. Their gains: box_weight
        0.05 * 3 / L, cls_weight 0.5 * C / 80 * 3 / L, obj_weight (image size / 640)^2 * 3 / L for
        L levels; loss_weight 0.5 * batch size and tau 5 (Raychen), or 10 with 'l2' (Adlik).

    Differs:
        By default: a mean over objectness in place of all cells; boxes compared in decoded space;
        classes as sigmoids; objectness taught everywhere, else "no object" never is. The teacher's
        feature-map NMS of the paper is ``nms_kernel``.

    Units:
        'objectness': box and cls are means over the teacher's objects (over all ranks), summed
        over coordinates and classes; obj is a mean over cells, summed over levels. All are
        independent of batch and image size. 'mean': all terms also shrink with the share of cells
        that hold objects; cls does with C; all grow with the number of levels.

    Both forms read the same maps, weights, classes and levels, and differ in how a level's numbers
    become a term (:mod:`mmkd.losses.functional.obj_scaled_terms`); so they are one class. Of the
    arguments ``scale_obj`` belongs to the default form alone, ``reg_norm`` to ``box_loss='l2'``,
    ``bbox_coder`` to 'decoded' and the IoU losses, ``prior_generator`` to the IoU losses, and the
    others to both.

    Args:
        num_classes (int, optional): C. Defaults to None, that of the maps.
        cls_loss (str): 'bce', 'l2' or 'kl'. Defaults to 'bce'.
        box_loss (str): 'decoded', 'l2', 'iou', 'giou', 'diou' or 'ciou'. Defaults to 'decoded'.
        temperature (float): tau. Defaults to 1.0.
        box_weight (float): Defaults to 0.05.
        cls_weight (float): Defaults to 0.5.
        obj_weight (float): Defaults to 1.0.
        scale_obj (bool): weight obj by w; 'mean' always does. Defaults to False.
        normalizer (str): 'objectness', or 'mean' for the reference form. Defaults to 'objectness'.
        reg_norm (float | list[float], optional): with 'l2': xy as (sigmoid(S) - sigmoid(T))^2, wh
            as (sigmoid(S) - sigmoid(T) * reg_norm)^2, per level if a list. Defaults to None.
        level_weights (list[float], optional): v, of obj; [4, 1, 0.4] in YOLOv5. Defaults to None.
        loss_weight (float): Defaults to 1.0.
        nms_kernel (int, optional): K, odd. Defaults to None, no NMS.
        bbox_coder (str): 'yolov5' (and YOLOv7), 'yolov3' or 'yolox': what 'decoded' and the IoU
            losses mean. Defaults to 'yolov5', in a pair to that of the head.
        prior_generator (dict, optional): the heads' own, for the IoU losses. Defaults to None, in
            a pair to that of the head.

    Raises:
        ValueError: for arguments that are unknown or do not go together; for maps that do not fit
            each other, ``num_classes`` or ``prior_generator``.

    Example:
        >>> def preds(cls, box, obj):
        ...     return [torch.full((1, n, 1, 1), v) for n, v in ((2, cls), (4, box), (1, obj))]
        >>> loss = ObjScaledBoxCls(2, cls_loss='l2', box_loss='l2', obj_weight=0.0)
        >>> loss(preds(1.0, 2.0, 0.0), preds(0.0, 0.0, 0.0))  # 0.05 * 4 * 2^2 + 0.5 * 2 * 1^2
        tensor(1.8000)
    """

    needs_equal = ('classes', 'priors', 'coder')
    reads_objectness = True
    from_models = {
        'num_classes': 'classes',
        'prior_generator': 'priors',
        'bbox_coder': 'raw_coder',
    }
    statistics = {
        'box': Statistic('its boxes'),
        'cls': Statistic('its classes'),
        'obj': Statistic('its objectness'),
        'objectness': Statistic(
            'mean weight that the teacher gives to a cell',
            'The teacher sees no object: look at its mAP and preprocessing above.',
        ),
    }

    def __init__(
        self,
        num_classes: int | None = None,
        cls_loss: str = 'bce',
        box_loss: str = 'decoded',
        temperature: float = 1.0,
        box_weight: float = 0.05,
        cls_weight: float = 0.5,
        obj_weight: float = 1.0,
        scale_obj: bool = False,
        normalizer: str = 'objectness',
        reg_norm: float | Sequence[float] | None = None,
        level_weights: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        nms_kernel: int | None = None,
        bbox_coder: str = 'yolov5',
        prior_generator: Any = None,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ('cls_loss', cls_loss, ('bce', 'l2', 'kl')),
            ('box_loss', box_loss, ('decoded', 'l2', *IOU_LOSSES)),
            ('normalizer', normalizer, ('objectness', 'mean')),
            ('bbox_coder', bbox_coder, CODERS),
        ):
            if value not in known:
                raise ValueError(f'{name} must be one of {", ".join(known)}, got {value!r}.')
        if (num_classes is not None and num_classes < 1) or temperature <= 0:
            raise ValueError(
                'num_classes must be at least 1 and temperature positive, got '
                f'{num_classes} and {temperature}.'
            )
        if reg_norm is not None and box_loss != 'l2':
            raise ValueError(
                f"reg_norm belongs to box_loss='l2', got box_loss={box_loss!r}. Drop one of them."
            )
        if nms_kernel is not None and (nms_kernel < 1 or nms_kernel % 2 == 0):
            raise ValueError(f'nms_kernel must be odd and positive, got {nms_kernel}.')
        self.priors = None
        if box_loss in IOU_LOSSES:
            if prior_generator is None:
                raise ValueError(
                    f'box_loss={box_loss!r} decodes boxes and needs prior_generator, got None. '
                    "Give the head's own config, or take box_loss='decoded'."
                )
            self.priors = level_priors(prior_generator)
        self.num_classes = num_classes
        self.cls_loss = cls_loss
        self.box_loss = box_loss
        self.temperature = temperature
        self.box_weight = box_weight
        self.cls_weight = cls_weight
        self.obj_weight = obj_weight
        self.scale_obj = scale_obj
        self.normalizer = normalizer
        self.reg_norm = reg_norm
        self.level_weights = level_weights
        self.loss_weight = loss_weight
        self.nms_kernel = nms_kernel
        self.bbox_coder = bbox_coder
        # NMS compares the classes of all priors, of which that codec keeps a sample.
        sampled = nms_kernel is None and type(self).forward is ObjScaledBoxCls.forward
        self.teacher_reads = {'preds_T': 'obj_cells'} if sampled else {}
        #: Whether the teacher's class maps may be overwritten, which saves a map: set by the
        #: algorithm, where nothing else reads what the teacher recorded.
        self.overwrites_teacher = False
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: Sequence[Levels], preds_T: Sequence[Levels] | ObjRows) -> Tensor:
        """Compute the loss.

        ``logs`` gets 'box', 'cls' and 'obj', the weighted terms that add up to the loss, and
        'objectness', the mean of w.

        Args:
            preds_S: (cls_scores, bbox_preds, objectnesses), each a map or levels:
                (B, A * C, H, W), (B, A * 4, H, W) and (B, A, H, W); the last may be missing.
            preds_T: the teacher's, of the same shapes, or what a cache keeps of them.
        """
        rows = preds_T if isinstance(preds_T, ObjRows) else None
        # The student's classes stand in for the checks; the teacher's own follow.
        taught = preds_T.beside(preds_S[0]) if isinstance(preds_T, ObjRows) else preds_T
        maps_S, maps_T = paired_head_maps(preds_S, taught, self.num_classes)
        self._check_levels(maps_S)
        weights = [teacher_weight(t, self.nms_kernel) for t in maps_T]
        levels = self._levels(maps_S, maps_T, weights)
        if rows is not None:
            levels = [_sampled(*pair) for pair in zip(levels, rows.levels, strict=True)]
        boxes = partial(
            box_sum,
            maps_S,
            maps_T,
            kind=self.box_loss,
            coder=self.bbox_coder,
            reg_norm=self.reg_norm,
            priors=self.priors,
        )
        kind = self.cls_loss if self.cls_weight else None  # the dearest of the terms
        if self.normalizer == 'mean':
            coordinates = 1 if self.priors else 4  # an IoU loss is one number a box
            box, cls, obj = reference_terms(levels, boxes, kind, self.temperature, coordinates)
        else:
            box, cls, obj = corrected_terms(levels, boxes, kind, self.temperature, self.scale_obj)
        terms = {
            'box': self.loss_weight * self.box_weight * box,
            'cls': self.loss_weight * self.cls_weight * cls,
            'obj': self.loss_weight * self.obj_weight * obj,
        }
        self.logs = {name: term.detach() for name, term in terms.items()}
        cells = sum(w.numel() for w in weights)
        self.logs['objectness'] = torch.stack([w.sum() for w in weights]).sum() / cells
        return terms['box'] + terms['cls'] + terms['obj']

    def _levels(
        self, maps_S: list[LevelMaps], maps_T: list[LevelMaps], weights: list[Tensor]
    ) -> list[Level]:
        obj_weights = self.level_weights or [1.0] * len(maps_S)
        free = self.overwrites_teacher
        return [
            Level(s.cls, t.cls, w, w, s.obj, t.obj, w, v, free)
            for s, t, w, v in zip(maps_S, maps_T, weights, obj_weights, strict=True)
        ]

    def _check_levels(self, maps: list[LevelMaps]) -> None:
        for name in ('level_weights', 'reg_norm'):
            value = getattr(self, name)
            if isinstance(value, Sequence) and len(value) != len(maps):
                raise ValueError(
                    f'{name} needs one number per level, got {list(value)} for {len(maps)} levels.'
                )
        if self.priors:
            own = [len(anchors.sizes) for anchors in self.priors]
            received = [level.box.size(1) for level in maps]
            if own != received:
                raise ValueError(
                    f"prior_generator must be the head's own: it has {own} anchors per level, the "
                    f'maps {received}.'
                )


def _sampled(level: Level, of: ObjRow) -> Level:
    """A level whose classes and boxes are compared where the teacher's are known."""
    own = class_rows(level.cls_S, of.places)
    return level._replace(
        cls_S=own[:, None, :, None],
        cls_T=of.cls[:, None, :, None],
        cls_weight=of.cls_weight[:, None, None],
        box_weight=of.weight,
    )
