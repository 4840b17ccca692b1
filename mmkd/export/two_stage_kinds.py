"""Which two-stage detectors have rows that a graph can make: by how their RoI head predicts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mmdet.models.dense_heads import EmbeddingRPNHead, RPNHead
from mmdet.models.roi_heads import (
    CascadeRoIHead,
    GridRoIHead,
    HybridTaskCascadeRoIHead,
    MultiInstanceRoIHead,
    SCNetRoIHead,
    SparseRoIHead,
    StandardRoIHead,
    TridentRoIHead,
)
from mmdet.models.roi_heads.bbox_heads import BBoxHead, DIIHead, MultiInstanceBBoxHead, SABLHead

from mmkd.export.not_exportable import NotExportableError
from mmkd.export.proposals import PLAIN_NMS
from mmkd.export.roi_features import check_extractors, each
from mmkd.heads import can_read, find_reader
from mmkd.heads.roi import read_bbox_head, read_dii, read_multi_instance, read_sabl


class Kind(NamedTuple):
    """A RoI head, what of it decides on the rows, and the box heads that it may have.

    Args:
        head: its class. A subclass that changes one of ``methods`` is another head.
        methods: their names.
        box_heads: readers of :mod:`mmkd.heads`.
        rpn: what proposes.
    """

    head: type
    methods: tuple[str, ...]
    box_heads: tuple[Any, ...] = (read_bbox_head, read_sabl)
    rpn: type = RPNHead


_CASCADE = ('predict', 'predict_bbox', '_bbox_forward', '_refine_roi')
GRID = Kind(GridRoIHead, ('predict', 'predict_bbox'), (read_bbox_head,))
SPARSE = Kind(SparseRoIHead, ('predict', 'predict_bbox', '_bbox_forward'), (read_dii,))
SPARSE = SPARSE._replace(rpn=EmbeddingRPNHead)
_CROWD = Kind(
    MultiInstanceRoIHead, ('predict', 'predict_bbox', '_bbox_forward'), (read_multi_instance,)
)
_TRIDENT = Kind(TridentRoIHead, ('predict', 'predict_bbox', 'merge_trident_bboxes'))
_KINDS = (
    GRID,
    SPARSE,
    _CROWD,
    _TRIDENT,
    Kind(StandardRoIHead, ('predict', 'predict_bbox')),
    Kind(CascadeRoIHead, _CASCADE),
    Kind(HybridTaskCascadeRoIHead, _CASCADE),
    Kind(SCNetRoIHead, (*_CASCADE, '_fuse_glbctx')),
)

#: What of a proposing head, and of a box head, decides on the rows.
_PROPOSES = {
    RPNHead: ('_predict_by_feat_single', '_bbox_post_process'),
    EmbeddingRPNHead: ('predict', '_decode_init_proposals'),
}
_GIVES_BOXES: dict[Any, tuple[type, tuple[str, ...]]] = {
    read_bbox_head: (BBoxHead, ('predict_by_feat', '_predict_by_feat_single')),
    read_sabl: (SABLHead, ('_predict_by_feat_single', 'regress_by_class')),
    read_multi_instance: (MultiInstanceBBoxHead, ('_predict_by_feat_single', 'set_nms')),
    read_dii: (DIIHead, ('refine_bboxes', 'regress_by_class')),
}


def kind_of(head: Any) -> Kind | None:
    """The kind of a RoI head; None if it predicts in a way of its own."""
    return next((kind for kind in _KINDS if _alike(head, kind.head, kind.methods)), None)


def branches_of(head: Any) -> int:
    """How many branches of a TridentNet predict; 1 of other heads.

    Of several, each suppresses what it has found, and then all of that is suppressed.
    """
    several = kind_of(head) is _TRIDENT and head.test_branch_idx == -1
    return int(head.num_branch) if several else 1


def check_two_stage(model: Any) -> None:
    """Check that the rows of a two-stage detector have a form as a graph.

    Raises:
        NotExportableError: they have none; the message names the head.
    """
    head: Any = model.roi_head
    rpn: Any = getattr(model, 'rpn_head', None)
    name, kind = type(head).__name__, kind_of(head)
    if kind is None:
        known = ', '.join(one.head.__name__ for one in _KINDS)
        raise _error(
            f'a RoI head that predicts as one of {known} does, but {name} chooses its boxes in a '
            'way of its own'
        )
    if not _alike(rpn, kind.rpn, _PROPOSES[kind.rpn]):
        raise _error(
            f'the proposals of an {kind.rpn.__name__}, but {name} gets those of '
            f'{type(rpn).__name__}'
        )
    if kind.rpn is RPNHead:
        _check_nms(rpn.test_cfg, 'rpn')
    branches = branches_of(head)
    if kind is GRID or branches > 1:
        _check_nms(head.test_cfg, 'rcnn')
    if branches > 1 and getattr(model.backbone, 'test_branch_idx', None) != -1:
        raise _error(
            f'as many branches in its backbone as in its {name}, whose test_branch_idx is -1, '
            f'but {type(model.backbone).__name__} has one',
            '',
        )
    for box_head in each(head.bbox_head):
        reader = find_reader(box_head) if can_read(box_head) else None
        own, methods = _GIVES_BOXES.get(reader, (BBoxHead, ()))
        if reader not in kind.box_heads or not _alike(box_head, own, methods):
            known = ' or '.join(_GIVES_BOXES[one][0].__name__ for one in kind.box_heads)
            raise _error(f'a box head that is read as {known}, but has {type(box_head).__name__}')
    check_extractors(head)


def _check_nms(cfg: Any, part: str) -> None:
    nms = dict(cfg.get('nms') or {})
    if nms.get('type', 'nms') != 'nms' or not set(nms) <= PLAIN_NMS:
        told = ', '.join(f'{key}={value}' for key, value in nms.items())
        what = 'proposals that are' if part == 'rpn' else 'boxes that are'
        raise _error(
            f'{what} suppressed by nms, with {", ".join(sorted(PLAIN_NMS - {"type"}))} alone, but '
            f'its {part} has {told}'
        )


def _error(what: str, remedy: str = ' Export a one-stage student.') -> NotExportableError:
    return NotExportableError(f'a two-stage detector that is exported must have {what}.{remedy}')


def _alike(module: Any, kind: type, methods: Sequence[str]) -> bool:
    """Whether a module is of a kind and has its methods."""
    return isinstance(module, kind) and all(
        getattr(type(module), name) is getattr(kind, name) for name in methods
    )
