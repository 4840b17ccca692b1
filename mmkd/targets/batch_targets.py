"""Which heads find the targets of a whole batch at once, and why others do not."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mmdet.models.dense_heads import AnchorHead, FCOSHead, RTMDetHead, SSDHead
from mmdet.models.task_modules import (
    AnchorGenerator,
    BboxOverlaps2D,
    DeltaXYWHBBoxCoder,
    DynamicSoftLabelAssigner,
    MaxIoUAssigner,
    MlvlPointGenerator,
    PseudoSampler,
)
from torch import nn

from mmkd.compat.heads import OWN_METHODS
from mmkd.targets import anchor_head, fcos_head, rtmdet_head, ssd_head


def batch_targets(model: nn.Module) -> list[str]:
    """Let the heads of a detector, or of a pair's student, find a batch's targets at once.

    Targets and gradients are those of mmdet. A head that does not do what is known of mmdet's, or
    whose assigner, sampler or coder does not, stays as it is.

    Args:
        model: changed in place; what its heads are, and are configured by, is not.

    Returns:
        A line for each head, for the log. MMYOLO's heads are left out: they do so themselves.
    """
    notes = []
    with_masks = any(hasattr(module, 'mask_head') for module in model.modules())
    for name, head in model.named_modules():
        if not hasattr(head, 'loss_by_feat') or type(head).__module__.startswith('mmyolo.'):
            continue
        form = _form_of(head, with_masks)
        if isinstance(form, _Form):
            setattr(head, OWN_METHODS, dict(form.methods))
            how = 'of the whole batch at once'
        else:
            how = f'image by image, since {form}'
        notes.append(f'{name} ({type(head).__name__}) finds targets {how}')
    return notes


class _Known:
    """What a class of mmdet does, as far as some of its methods say.

    Args:
        kind: the class.
        methods: what it must do itself, since it is no longer called, or called otherwise.
        exchanged: what is called as before, and may have been wrapped, by a recorder, say.
    """

    def __init__(
        self, kind: type, methods: tuple[str, ...], exchanged: tuple[str, ...] = ()
    ) -> None:
        self.kind = kind
        self.methods = {name: getattr(kind, name) for name in methods}
        self.exchanged = {name: inspect.unwrap(getattr(kind, name)) for name in exchanged}

    def faults(self, part: Any) -> Iterator[str]:
        """Why ``part`` may do something else."""
        kind = type(part)
        if not isinstance(part, self.kind):
            yield f'{kind.__name__} is no {self.kind.__name__}'
            return
        for name, function in {**self.methods, **self.exchanged}.items():
            found = getattr(kind, name)
            found = inspect.unwrap(found) if name in self.exchanged else found
            if name in vars(part) or found is not function:
                yield f"{kind.__name__}.{name} is not that of mmdet's {self.kind.__name__}"


_ASSIGNER = _Known(MaxIoUAssigner, ('assign', 'assign_wrt_overlaps'))
_IOU = _Known(BboxOverlaps2D, ('__call__',))
_SAMPLER = _Known(PseudoSampler, ('sample',))
_CODER = _Known(DeltaXYWHBBoxCoder, ('encode',))
_PRIORS = _Known(AnchorGenerator, ('grid_priors', 'valid_flags'))
_POINTS = _Known(MlvlPointGenerator, ('grid_priors', 'valid_flags'))
_SOFT_LABEL = _Known(DynamicSoftLabelAssigner, ('assign', 'dynamic_k_matching'))


def _anchor_parts(head: Any) -> Iterator[str]:
    yield from _ASSIGNER.faults(getattr(head, 'assigner', None))
    yield from _IOU.faults(head.assigner.iou_calculator)
    yield from _SAMPLER.faults(head.sampler)
    yield from _PRIORS.faults(head.prior_generator)
    if not head.reg_decoded_bbox:
        yield from _CODER.faults(head.bbox_coder)
    if head.assigner.perm_repeat_gt_cfg is not None:
        yield 'MaxIoUAssigner moves repeated boxes at random'
    if head.prior_generator.use_box_type:
        yield 'its priors are of a box type'


def _rtmdet_parts(head: Any) -> Iterator[str]:
    yield from _SOFT_LABEL.faults(getattr(head, 'assigner', None))
    yield from _IOU.faults(head.assigner.iou_calculator)
    yield from _SAMPLER.faults(head.sampler)
    yield from _POINTS.faults(head.prior_generator)
    if inspect.unwrap(type(head).loss_by_feat) is not inspect.unwrap(RTMDetHead.loss_by_feat):
        yield f'{type(head).__name__} has a loss of its own'


class _Form(NamedTuple):
    """How heads of a kind find the targets of a batch."""

    kind: type
    methods: dict[str, Callable[..., Any]]
    known: _Known
    parts: Callable[[Any], Iterator[str]]

    def faults(self, head: Any) -> Iterator[str]:
        """Why ``head`` cannot."""
        yield from self.known.faults(head)
        yield from self.parts(head)


_ANCHOR: dict[str, Callable[..., Any]] = dict(
    get_anchors=anchor_head.get_anchors, get_targets=anchor_head.get_targets
)


def _form(
    kind: type,
    methods: dict[str, Callable[..., Any]],
    without: tuple[str, ...],
    parts: Callable[[Any], Iterator[str]] = lambda head: iter(()),
) -> _Form:
    return _Form(kind, methods, _Known(kind, without, tuple(methods)), parts)


_FORMS = (
    _form(
        SSDHead,
        dict(_ANCHOR, loss_by_feat=ssd_head.loss_by_feat),
        ('_get_targets_single', 'loss_by_feat_single'),
        _anchor_parts,
    ),
    _form(
        RTMDetHead,
        dict(get_anchors=rtmdet_head.get_anchors, get_targets=rtmdet_head.get_targets),
        ('_get_targets_single',),
        _rtmdet_parts,
    ),
    _form(
        AnchorHead,
        dict(_ANCHOR, loss_by_feat=anchor_head.loss_by_feat),
        ('_get_targets_single',),
        _anchor_parts,
    ),
    _form(FCOSHead, dict(get_targets=fcos_head.get_targets), ('_get_targets_single',)),
)


def _form_of(head: nn.Module, with_masks: bool) -> _Form | str:
    """The form that fits a head, or why none does."""
    form = next((form for form in _FORMS if isinstance(head, form.kind)), None)
    if form is None:
        return f'it is none of {", ".join(form.kind.__name__ for form in _FORMS)}'
    if with_masks:
        return 'a mask head needs the samples of each image'
    return next(form.faults(head), form)
