"""What a head is, before it has run: its classes and scores, its priors and its coder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.model import BaseModel
from torch import nn

from mmkd.heads.readers import READERS, WITHOUT_ROWS, known_heads, names_of

#: Where a detector has the head that it predicts with, the first that is there.
PREDICTING = ('roi_head', 'bbox_head', 'rpn_head')

#: Coders of raw boxes that losses know (``mmkd.heads.bbox_coder.CODERS``), by their class.
RAW_CODERS = {'YOLOv5BBoxCoder': 'yolov5', 'YOLOBBoxCoder': 'yolov3', 'YOLOXBBoxCoder': 'yolox'}

#: What of a head's class, or of the nearest base that is named, cannot be seen in its attributes.
PROBABILITIES = {'mmdet.TOODHead': True, 'mmdet.CenterNetHead': True}
ROWS = {
    'mmdet.DETRHead': 'queries',
    'mmkd.DetectionsHead': 'queries',
    'mmdet.BaseRoIHead': 'proposals',
    'mmdet.BBoxHead': 'proposals',
    'mmdet.SABLHead': 'proposals',
}
FACTORS = {
    'mmdet.AutoAssignHead': 'objectness',
    'mmdet.PAAHead': 'overlap (IoU)',
    # They have the loss of a base, and no such map.
    **dict.fromkeys(
        ('mmdet.DETRHead', 'mmdet.RTMDetHead', 'mmdet.TOODHead', 'mmdet.VFNetHead'), ''
    ),
}
#: What shows a head of the user's own: what detectors call of heads, or a fact that heads state.
_OF_HEADS = (
    *('loss', 'predict', 'loss_by_feat', 'predict_by_feat', 'loss_and_target', 'loss_cls'),
    *('num_classes', 'prior_generator', 'bbox_coder'),
)
_LOSSES = {
    **dict.fromkeys(('loss_obj', 'loss_conf', 'loss_objectness'), 'objectness'),
    'loss_centerness': 'centerness',
    'loss_iou': 'overlap (IoU)',
}
_IN_STRIDES = 'distances in strides while training, as the student does, and in pixels in eval'
TRAINED_OTHERWISE = {
    'mmdet.VFNetHead': 'first boxes while training, as the student does, and refined ones in eval',
    'mmdet.RepPointsHead': 'points while training, as the student does, and boxes in eval',
    'mmdet.AutoAssignHead': '',
    'mmdet.FCOSHead': _IN_STRIDES,  # with norm_on_bbox
    'mmdet.CenterNetUpdateHead': _IN_STRIDES,
}


@dataclass(frozen=True)
class Description:
    """A head in the terms that all heads share.

    Args:
        head: the module; of a RoI head its (last) box head.
        rows: what a row of its predictions stands for: 'priors', 'proposals' or 'queries'.
        classes: C. None where the head does not say.
        sigmoid: whether the scores are sigmoids, each on its own; a softmax else, whose last class
            is the background. None where the head does not say.
        probabilities: whether its outputs are activated already.
        class_channels: of a row: C, with the background's C + 1.
        factor: the map that multiplies the classes' scores: 'objectness', which is trained on
            background, 'centerness' or 'overlap (IoU)', which are not, or ''.
        priors: its prior generator. None for proposals, queries and CenterNet.
        coder: its box coder. None where it has none.
        trained_otherwise: what it gives for boxes in training and in eval, where that differs.
    """

    head: Any
    rows: str
    classes: int | None
    sigmoid: bool | None
    probabilities: bool
    class_channels: int
    factor: str
    priors: Any
    coder: Any
    trained_otherwise: str

    @property
    def name(self) -> str:
        """Its class."""
        return type(self.head).__name__

    @property
    def strides(self) -> list[Any]:
        """Of each level: a number, or (x, y) where they differ. Empty without priors."""
        found = getattr(self.priors, 'strides', None) or ()
        return [
            stride[0] if isinstance(stride, tuple) and stride[0] == stride[-1] else stride
            for stride in found
        ]

    @property
    def priors_per_cell(self) -> list[int]:
        """Of each level. Empty without priors."""
        found = getattr(self.priors, 'num_base_priors', None)
        return list(found) if found is not None else []

    @property
    def bins(self) -> int:
        """Bins of a distribution over distances, as of GFL; 1 for plain boxes."""
        return int(self.head.reg_max) + 1 if hasattr(self.head, 'integral') else 1

    @property
    def raw_coder(self) -> tuple[str, str | None]:
        """What codes the boxes, and what losses of raw maps call it; ('', None) if unknown."""
        if 'mmdet.YOLOXHead' in names_of(self.head):
            return 'the coder of YOLOX', 'yolox'
        for cls in type(self.coder).__mro__ if self.coder is not None else ():
            if cls.__name__ in RAW_CODERS:
                return type(self.coder).__name__, RAW_CODERS[cls.__name__]
            if 'decode' in vars(cls):  # of the user's own it may be any of them
                known = cls.__module__.partition('.')[0] in ('mmdet', 'mmyolo')
                return (type(self.coder).__name__ if known else ''), None
        return '', None


def predicting_head(model: Any) -> tuple[str, Any]:
    """Name and module of the head that a detector predicts with; ('', None) if it has none."""
    for name in PREDICTING:
        if getattr(model, name, None) is not None:
            return name, getattr(model, name)
    return '', None


def describe_head(head: nn.Module) -> Description:
    """Describe a dense head, a DETR's, a RoI head or its box head, without running it.

    Example:
        >>> from mmdet.models.dense_heads import FCOSHead
        >>> found = describe_head(FCOSHead(num_classes=3, in_channels=8, strides=[8, 16]))
        >>> found.rows, found.classes, found.sigmoid, found.factor, found.strides
        ('priors', 3, True, 'centerness', [8, 16])

    Raises:
        ValueError: it is no head: not known, and without all that heads have.
    """
    _check_is_head(head)
    rows = _known(ROWS, head, 'priors')
    head = _last_part(head)
    sigmoid, classes = _uses_sigmoid(head), getattr(head, 'num_classes', None)
    priors = getattr(head, 'prior_generator', None)
    return Description(
        head=head,
        rows=rows,
        classes=classes,
        sigmoid=sigmoid,
        probabilities=_known(PROBABILITIES, head, False),
        class_channels=_class_channels(head, rows == 'proposals'),
        factor=_factor(head),
        priors=getattr(head, 'square_anchor_generator', priors),
        coder=getattr(head, 'bbox_coder', None),
        trained_otherwise=_trained_otherwise(head),
    )


def _check_is_head(head: Any) -> None:
    kind = type(head)
    known = {*READERS, *WITHOUT_ROWS, *ROWS}
    own = any(getattr(head, name, None) is not None for name in _OF_HEADS)
    if isinstance(head, BaseModel) or not (own or known & {*names_of(head)}):
        what = 'a whole model' if isinstance(head, BaseModel) else 'no head'
        raise ValueError(
            f'describe_head must be given a head, as model.bbox_head or model.roi_head, but got '
            f'{kind.__name__}, which is {what}: a head of your own has num_classes, and the loss '
            'and predict that detectors of mmdet call. Name the head. '
            + known_heads(kind).replace('It knows', 'mmkd.heads knows', 1)
        )


def _last_part(head: Any) -> Any:
    """Of a RoI head the box head, of several stages the last; of a Cascade RPN its last stage."""
    if 'mmdet.CascadeRPNHead' in names_of(head):
        return head.stages[-1]
    head = getattr(head, 'bbox_head', head)
    return head[-1] if isinstance(head, nn.ModuleList) else head


def _uses_sigmoid(head: Any) -> bool | None:
    if hasattr(head, 'loss_center_heatmap'):
        return True
    own = getattr(head, 'use_sigmoid_cls', None)
    return getattr(getattr(head, 'loss_cls', None), 'use_sigmoid', None) if own is None else own


def _class_channels(head: Any, in_roi: bool) -> int:
    head = getattr(head, 'head_module', head)  # MMYOLO's
    classes: int = getattr(head, 'num_classes', None) or 1
    loss: Any = getattr(head, 'loss_cls', None)
    if not in_roi:
        return int(getattr(head, 'cls_out_channels', None) or classes)
    if getattr(loss, 'custom_cls_channels', False):
        return int(loss.get_cls_channels(classes))
    return classes + (_uses_sigmoid(head) is False)


def _factor(head: Any) -> str:
    losses = (what for loss, what in _LOSSES.items() if getattr(head, loss, None) is not None)
    return _known(FACTORS, head, next(losses, ''))


def _trained_otherwise(head: Any) -> str:
    what = _known(TRAINED_OTHERWISE, head, '')
    return '' if what == _IN_STRIDES and not getattr(head, 'norm_on_bbox', True) else what


def _known(table: Mapping[str, Any], head: Any, otherwise: Any) -> Any:
    return next((table[name] for name in names_of(head) if name in table), otherwise)
