"""A softmax must be over classes that exclude each other."""

from typing import Any

from torch import nn

from mmkd.connectors import FlattenCls
from mmkd.heads import describe_head
from mmkd.rules.loss_facts import softmax_scores
from mmkd.rules.loss_rules.feed import Feed
from mmkd.rules.taps import bins_per_side


def check_softmax(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
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
        fault = _softmax_fault(feed, head, flat[0] if flat else None, _makes_rows(loss))
        if fault:
            raise ValueError(
                f'{where} must be the classes of one softmax in each row, since {kind} takes a '
                f'softmax over them, but {found}, {fault}'
            )


def _makes_rows(loss: nn.Module) -> bool:
    """Whether it is of mmkd, or derived: what says there where the softmax is makes the rows."""
    says = next((kind for kind in type(loss).__mro__ if 'softmax_scores' in vars(kind)), nn.Module)
    return says.__module__.startswith('mmkd.')


_INSTEAD = (
    'Take a loss without a softmax over channels: ChannelWiseDivergence, whose softmax is over '
    'the cells of a map, or L2Loss'
)


def _softmax_fault(feed: Feed, head: nn.Module, flat: FlattenCls | None, rows: bool) -> str:
    """What is wrong, with the remedy; '' where nothing is.

    Args:
        rows: whether the loss itself splits the map into rows of priors, as mmkd's do.
    """
    known = describe_head(head)
    width, most = known.class_channels, max(known.priors_per_cell or [1])
    inner = feed.tap.source[len(feed.tap.path) + 1 :]
    if feed.part == 'cls':
        if known.sigmoid and rows:
            return (
                'whose scores are sigmoids, without the background that this loss takes the last '
                'channel for. Take a loss for sigmoid heads or for features: ObjScaledBoxCls, '
                'L2Loss, FineGrainedImitation.'
            )
        if known.sigmoid:
            return (
                'whose scores are sigmoids, each on its own: a teacher that sees nothing and one '
                f'that is sure would teach the same, and with one class nothing. {_INSTEAD}.'
            )
        if flat is not None and flat.cls_out_channels != width:
            return (
                f'which has {width} channels for each prior, and the connector makes rows of '
                f'{flat.cls_out_channels}. Set its cls_out_channels={width}.'
            )
        if flat is None and not rows and most > 1:
            return (
                f'whose channels are the {width} of each of {most} priors, '
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
