"""A loss that knows of boxes, objectness or classes must know those of the head that feeds it."""

from typing import Any

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import nn

from mmkd.connectors import SplitPredMaps
from mmkd.heads import describe_head
from mmkd.heads.distributions import check_returns_bins
from mmkd.heads.level_anchors import level_priors
from mmkd.rules.distiller_rules import DIFFERENCE
from mmkd.rules.loss_facts import author
from mmkd.rules.loss_rules.feed import Feed


def check_objectness(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """A loss of raw scores and objectness needs a head that has them."""
    if not getattr(loss, 'reads_objectness', False):
        return
    for feed in feeds:
        fault = _objectness_fault(feed.tap.head) if feed.part == 'outputs' else ''
        if fault and not feed.connectors:
            where = feed.where
            raise ValueError(
                f'{where} must be the raw maps of a head whose scores are sigmoids, with '
                f'objectness for a third map or none, but {feed.recorder} taps '
                f'{type(feed.tap.head).__name__}, {fault}'
            )


def _objectness_fault(head: nn.Module | None) -> str:
    if head is None:
        return ''
    known = describe_head(head)
    if known.factor not in ('', 'objectness'):  # trained on positives only
        return (
            f'whose third map is {known.factor}: it is not trained on background, where it '
            'would be taken for an object. Take another loss for this head: of features, or '
            'ChannelWiseDivergence or L2Loss of its class maps.'
        )
    if known.probabilities:
        return 'whose scores are probabilities already. Take a loss of features for this head.'
    if known.sigmoid is False:
        return 'whose scores are a softmax. Take TeacherScaledCls and TeacherScaledReg.'
    return ''


def check_raw_coder(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """The coder by which a loss reads raw boxes must be the head's."""
    given = getattr(loss, 'bbox_coder', None)
    if not isinstance(given, str) or not getattr(loss, 'box_weight', 1.0):
        return
    if getattr(loss, 'box_loss', None) == 'l2' and getattr(loss, 'reg_norm', None) is None:
        return  # raw numbers are compared, whatever they mean
    for feed in feeds:
        raw = all(isinstance(c, SplitPredMaps) for c in feed.connectors)
        head = feed.tap.head if raw and feed.tap.part == 'outputs' else None
        coder, own = ('', None) if head is None else describe_head(head).raw_coder
        if coder and own != given:
            where = f'distill_losses.{feed.loss}.bbox_coder'
            remedy = (
                f"Set bbox_coder='{own}'."
                if own
                else f'{type(loss).__name__} has none for this head: compare the raw numbers with '
                "box_loss='l2', leave the boxes out with box_weight=0.0, or take another loss."
            )
            raise ValueError(
                f'{where} must name how the head encodes boxes, but got {given!r}, and '
                f'{feed.recorder} taps {type(feed.tap.head).__name__} with {coder}. {remedy}'
            )


def check_sides(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """Sides are compared as distributions where the teacher's head returns such."""
    if getattr(loss, 'box_loss', None) != 'sides' or author(loss) != 'mmkd':
        return
    for feed in feeds:
        if not feed.from_student and isinstance(feed.tap.head, BaseDenseHead) and not feed.part:
            check_returns_bins(feed.tap.head)


def check_classes(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """The number of classes that a loss's config repeats must be that of the head."""
    for feed in feeds:
        head = feed.tap.head
        if head is None or feed.part not in ('outputs', 'cls') or feed.connectors:
            continue
        given, own = getattr(loss, 'num_classes', None), describe_head(head).classes
        if author(loss) == 'mmkd' and given is not None and given != own:
            where = f'distill_losses.{feed.loss}.num_classes'
            raise ValueError(
                f'{where} must be the num_classes of {type(head).__name__}, which '
                f'{feed.recorder} taps, {own}, but got {given}. Set num_classes={own}.'
            )


def check_decoding(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """Priors and coder by which a loss decodes boxes must be those of the student's head."""
    heads = [f.tap.head for f in feeds if f.from_student and f.tap.head is not None]
    if author(loss) != 'mmkd' or not heads:
        return
    head, kind = heads[0], type(heads[0]).__name__
    given = getattr(loss, 'prior_generator', None) or getattr(loss, 'priors', None)
    own = describe_head(head).priors
    if given is not None and own is not None and not _same_priors(given, own):
        where = f'distill_losses.{feeds[0].loss}.prior_generator'
        raise ValueError(
            f"{where} must make the priors of the student's {kind}, since {type(loss).__name__} "
            'decodes boxes with them, but they differ in number, size or place. Give the '
            "prior_generator of the student's head."
        )
    coder = getattr(loss, 'bbox_coder', None)
    if coder is not None and not isinstance(coder, str) and DIFFERENCE['coder'](head, loss):
        where = f'distill_losses.{feeds[0].loss}.bbox_coder'
        raise ValueError(
            f"{where} must be that of the student's {kind}, since {type(loss).__name__} decodes "
            f'boxes with it, but got {type(coder).__name__} with other settings or another kind. '
            "Give the bbox_coder of the student's head."
        )


def _same_priors(given: Any, own: Any) -> bool:
    """Of two prior generators, or the levels of one."""
    levels, own_levels = (
        given if isinstance(given, list) else level_priors(given),
        level_priors(own),
    )
    return len(levels) == len(own_levels) and all(
        a.sizes.shape == b.sizes.shape
        and torch.allclose(a.sizes, b.sizes.to(a.sizes), atol=1e-3)
        and torch.allclose(a.centers, b.centers.to(a.centers), atol=1e-3)
        for a, b in zip(levels, own_levels, strict=True)
    )


def check_units(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """Some heads give other boxes while training, as the student does, than in eval."""
    if author(loss) not in ('mmkd', 'mmrazor', 'mmdet'):
        return  # it may know
    boxes = [f for f in feeds if f.part in ('box', 'outputs') and not f.connectors]
    boxes = [f for f in boxes if f.tap.part == 'outputs']
    for own in [f for f in boxes if f.from_student]:
        what = '' if own.tap.head is None else describe_head(own.tap.head).trained_otherwise
        if what and any(not f.from_student for f in boxes):
            where = own.where
            raise ValueError(
                f'{where} must be boxes in the form that the teacher gives, but '
                f'{type(own.tap.head).__name__} gives {what}. Record the layer that predicts them '
                '(bbox_head.conv_reg or the like, each level with its record_idx).'
            )
