"""What a loss may be fed, by what its recorders tap: one function for each rule.

Only what certainly teaches something else than meant is an error. Behind a connector that mmkd
does not know, a record may be anything, and nothing is said of it.
"""

from collections.abc import Callable, Iterator
from logging import WARNING
from typing import Any, NamedTuple

import torch
from mmdet.models.dense_heads import FCOSHead, RepPointsHead, VFNetHead, YOLOXHead
from mmengine.logging import print_log
from torch import nn

from mmkd.connectors import FlattenCls, SplitPredMaps
from mmkd.heads.level_anchors import level_priors
from mmkd.rules.loss_facts import author, compares_rows, softmax_scores
from mmkd.rules.taps import (
    Tap,
    bins_per_side,
    cls_channels,
    priors_per_cell,
    tap,
    third_map,
    uses_sigmoid,
)

#: Box coders of heads, by the name of their class, and what ``bbox_coder`` of a loss calls them.
CODINGS = {'YOLOv5BBoxCoder': 'yolov5', 'YOLOBBoxCoder': 'yolov3', 'YOLOXBBoxCoder': 'yolox'}


class Feed(NamedTuple):
    """What an argument of a loss is mapped to."""

    loss: str  # its name in distill_losses
    argument: str
    from_student: bool
    recorder: str  # with its side, as in the config
    tap: Tap
    part: str  # of the head, of the item of the record that is taken
    connectors: list[nn.Module]

    @property
    def where(self) -> str:
        """The argument's key."""
        return f'loss_forward_mappings.{self.loss}.{self.argument}'


def check_losses(distiller: nn.Module, student: nn.Module, teacher: nn.Module) -> None:
    """Check each loss that has a weight against what its mapping feeds it.

    Raises:
        ValueError: it would teach something else than meant, or nothing.
    """
    for name, loss in getattr(distiller, 'distill_losses', {}).items():
        if getattr(loss, 'loss_weight', 1.0) == 0:
            continue
        _check_name(name)
        feeds = list(_feeds(name, distiller, student, teacher))
        for rule in RULES:
            rule(loss, feeds, distiller)


def _check_name(name: str) -> None:
    where = f'distill_losses.{name}'
    if 'loss' not in name:
        raise ValueError(
            f'{where} is not back-propagated: a name must have "loss" in it, in small letters, '
            f'since mmengine adds up the terms by that, but got "{name}". '
            f'Rename it to loss_{name.lower()}, in loss_forward_mappings, too.'
        )


def _feeds(name: str, distiller: Any, student: nn.Module, teacher: nn.Module) -> Iterator[Feed]:
    for argument, record in getattr(distiller, 'loss_forward_mappings', {}).get(name, {}).items():
        own = bool(record['from_student'])
        side = 'student' if own else 'teacher'
        recorder = getattr(distiller, f'{side}_recorders').get_recorder(record['recorder'])
        found = tap(student if own else teacher, recorder)
        connector = record.get('connector')
        used = [distiller.connectors[connector]] if connector else []
        if used and isinstance(used[0], nn.Sequential):
            used = list(used[0])
        part = found.of(record.get('data_idx'))
        key = f'{side}_recorders.{record["recorder"]}'
        yield Feed(name, argument, own, key, found, part, used)


def _check_softmax(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """A softmax must be over the classes of one prior, of a head that has a softmax itself."""
    kind = type(loss).__name__
    for feed in feeds:
        head, flat = feed.tap.head, [c for c in feed.connectors if isinstance(c, FlattenCls)]
        known = head is not None and feed.part in ('cls', 'box', 'objectness', 'all')
        if feed.argument not in softmax_scores(loss) or not known or feed.tap.drawn:
            continue
        if len(flat) != len(feed.connectors):
            continue
        assert head is not None
        where = feed.where
        found = f'{feed.recorder} taps {feed.tap.source} of {type(head).__name__}'
        fault = _softmax_fault(feed, head, flat[0] if flat else None, author(loss) == 'mmkd')
        if fault:
            raise ValueError(
                f'{where} must be the classes of one softmax in each row, since {kind} takes a '
                f'softmax over them, but {found}, {fault}'
            )


_INSTEAD = (
    'Take a loss without a softmax over channels: ChannelWiseDivergence, whose softmax is over '
    'the cells of a map, or L2Loss'
)


def _softmax_fault(feed: Feed, head: nn.Module, flat: FlattenCls | None, rows: bool) -> str:
    """What is wrong, with the remedy; '' where nothing is.

    Args:
        rows: whether the loss itself splits the map into rows of priors, as mmkd's do.
    """
    width, inner = cls_channels(head), feed.tap.source[len(feed.tap.path) + 1 :]
    if feed.part == 'cls':
        if uses_sigmoid(head) and rows:
            return (
                'whose scores are sigmoids, without the background that this loss takes the last '
                'channel for. Take a loss for sigmoid heads or for features: ObjScaledBoxCls, '
                'L2Loss, FineGrainedImitation.'
            )
        if uses_sigmoid(head):
            return (
                'whose scores are sigmoids, each on its own: a teacher that sees nothing and one '
                f'that is sure would teach the same, and with one class nothing. {_INSTEAD}.'
            )
        if flat is not None and flat.cls_out_channels != width:
            return (
                f'which has {width} channels for each prior, and the connector makes rows of '
                f'{flat.cls_out_channels}. Set its cls_out_channels={width}.'
            )
        if flat is None and not rows and max(priors_per_cell(head) or [1]) > 1:
            return (
                f'whose channels are the {width} of each of {max(priors_per_cell(head))} priors, '
                'so that the priors of a cell would compete. Give the mapping the connector '
                f"dict(type='FlattenCls', cls_out_channels={width})."
            )
        return ''
    if feed.part == 'box':
        bins = bins_per_side(head, inner)
        if flat is not None and flat.cls_out_channels == bins > 1:
            return ''
        if bins > 1:
            return (
                f'whose channels are {bins} bins of each of 4 sides. Give the mapping a connector '
                f'that makes a row of each side, such as FlattenCls with cls_out_channels={bins}.'
            )
        return (
            'which are coordinates of boxes. Map it to the class maps (data_idx=0 of the output '
            'of a head), or take a loss for boxes, such as L1Loss.'
        )
    if feed.part == 'objectness':
        return f'which is one number for each prior, not classes. {_INSTEAD}.'
    return (
        'whose channels are boxes, objectness and classes of all priors together. Take a loss '
        'that takes them apart, such as ObjScaledBoxCls.'
    )


def _check_rows(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """What each model draws for itself has no common order: row i is not row i."""
    sides = [[f for f in feeds if f.from_student is own and f.tap.drawn] for own in (True, False)]
    deliveries = getattr(getattr(distiller, 'deliveries', None), 'deliveries', {})
    if not all(sides) or deliveries:
        return  # a delivery may hand the teacher's rows to the student
    compares = compares_rows(loss)
    if compares is False:
        return
    own, other = sides[0][0], sides[1][0]
    where = f'distill_losses.{own.loss}'
    message = (
        f'{where} ({type(loss).__name__}) must compare rows that belong together, but '
        f'{own.recorder} ({own.tap.source}) and {other.recorder} ({other.tap.source}) hold '
        f'{own.tap.drawn}, which student and teacher each draw for themselves: row i of one is '
        'not row i of the other. Distil what both see of the same image: features of the backbone '
        'or neck, or the maps of a dense head.'
    )
    if compares:
        raise ValueError(message)
    print_log(
        f'{message} If the loss finds itself which rows belong together, matches_rows = True in '
        'its class says so.',
        'current',
        WARNING,
    )


def _check_objectness(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """Centerness and predicted overlap are trained on positives only: no objectness."""
    if not getattr(loss, 'reads_objectness', False):
        return
    for feed in feeds:
        third = third_map(feed.tap.head)
        if feed.part == 'outputs' and not feed.connectors and third:
            where = feed.where
            raise ValueError(
                f'{where} must have objectness for its third map, or none, but {feed.recorder} '
                f'taps {type(feed.tap.head).__name__}, whose third map is {third}: it is not '
                f'trained on background, where {type(loss).__name__} would take it for an object. '
                'Take another loss for this head: of features, or ChannelWiseDivergence or L2Loss '
                'of its class maps.'
            )


def _check_coding(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """The coding by which a loss reads raw boxes must be the head's."""
    given = getattr(loss, 'bbox_coder', None)
    if not isinstance(given, str) or not getattr(loss, 'box_weight', 1.0):
        return
    if getattr(loss, 'box_loss', None) == 'l2' and getattr(loss, 'reg_norm', None) is None:
        return  # raw numbers are compared, whatever they mean
    for feed in feeds:
        raw = all(isinstance(c, SplitPredMaps) for c in feed.connectors)
        coder, own = _coding(feed.tap.head) if raw and feed.tap.part == 'outputs' else ('', None)
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


def _coding(head: nn.Module | None) -> tuple[str, str | None]:
    """A head's coder, and the name that a loss has for it; ('', None) where it is unknown."""
    if isinstance(head, YOLOXHead):
        return 'the coding of YOLOX', 'yolox'
    coder = getattr(head, 'bbox_coder', None)
    for cls in type(coder).__mro__ if coder is not None else ():
        if cls.__name__ in CODINGS:
            return type(coder).__name__, CODINGS[cls.__name__]
        if cls.__module__.partition('.')[0] in ('mmdet', 'mmyolo') and 'decode' in vars(cls):
            return type(coder).__name__, None
        if 'decode' in vars(cls):
            return '', None  # one of the user's own: it may be any of them
    return '', None


def _check_numbers(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """Classes and priors that a loss's config repeats must be those of the head that feeds it."""
    for feed in feeds:
        head = feed.tap.head
        if head is None or feed.part not in ('outputs', 'cls') or feed.connectors:
            continue
        given, own = getattr(loss, 'num_classes', None), getattr(head, 'num_classes', None)
        if author(loss) == 'mmkd' and given is not None and given != own:
            where = f'distill_losses.{feed.loss}.num_classes'
            raise ValueError(
                f'{where} must be the num_classes of {type(head).__name__}, which '
                f'{feed.recorder} taps, {own}, but got {given}. Set num_classes={own}.'
            )
    heads = [feed.tap.head for feed in feeds if feed.from_student and feed.tap.head is not None]
    generator = getattr(loss, 'prior_generator', None) or getattr(loss, 'priors', None)
    own_generator = getattr(heads[0], 'prior_generator', None) if heads else None
    if author(loss) != 'mmkd' or generator is None or own_generator is None:
        return
    levels = generator if isinstance(generator, list) else level_priors(generator)
    own_levels = level_priors(own_generator)
    same = len(levels) == len(own_levels) and all(
        a.sizes.shape == b.sizes.shape
        and torch.allclose(a.sizes, b.sizes.to(a.sizes), atol=1e-3)
        and torch.allclose(a.centers, b.centers.to(a.centers), atol=1e-3)
        for a, b in zip(levels, own_levels, strict=True)
    )
    if not same:
        where = f'distill_losses.{feeds[0].loss}.prior_generator'
        raise ValueError(
            f"{where} must make the priors of the student's {type(heads[0]).__name__}, since "
            f'{type(loss).__name__} decodes boxes with them, but they differ in number, size or '
            "place. Give the prior_generator of the student's head."
        )


def _check_units(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """Some heads give other boxes while training, as the student does, than in eval."""
    if author(loss) not in ('mmkd', 'mmrazor', 'mmdet'):
        return  # it may know
    boxes = [f for f in feeds if f.part in ('box', 'outputs') and not f.connectors]
    boxes = [f for f in boxes if f.tap.part == 'outputs']
    for own in [f for f in boxes if f.from_student]:
        what = _trained_otherwise(own.tap.head)
        if what and any(not f.from_student for f in boxes):
            where = own.where
            raise ValueError(
                f'{where} must be boxes in the form that the teacher gives, but '
                f'{type(own.tap.head).__name__} gives {what}. Record the layer that predicts them '
                '(bbox_head.conv_reg or the like, each level with its record_idx).'
            )


def _trained_otherwise(head: nn.Module | None) -> str:
    if isinstance(head, VFNetHead):
        return 'first boxes while training, as the student does, and refined ones in eval'
    if isinstance(head, RepPointsHead):
        return 'points while training, as the student does, and boxes in eval'
    if isinstance(head, FCOSHead) and getattr(head, 'norm_on_bbox', False):
        return 'distances in strides while training, as the student does, and in pixels in eval'
    return ''


RULES: tuple[Callable[[nn.Module, list[Feed], Any], None], ...] = (
    _check_rows,
    _check_softmax,
    _check_objectness,
    _check_coding,
    _check_numbers,
    _check_units,
)
