"""Pyramids of which only some levels have a counterpart: those that both have are paired."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.logging import print_log

from mmkd.binding.arguments import class_of
from mmkd.binding.facts import Models
from mmkd.binding.probe import Probe, Sizes
from mmkd.connectors import EachLevelConnector, FeatureAdapter, StandardLevels
from mmkd.rules.paired_arguments import paired_arguments
from mmkd.rules.side import SIDES

#: By loss and argument, which levels of the record are taken.
Cuts = dict[tuple[str, str], list[int]]

#: Pixels. At the second, maps of other strides differ, those of an SSD too.
_SMALL, _LARGE = 128, 640
#: A connector of another kind may bring one side to the sizes of the other.
_SIZE_STAYS = (FeatureAdapter, EachLevelConnector, StandardLevels)


def equal_levels(own: Sizes, other: Sizes) -> list[tuple[int, int]]:
    """Which level of ``own`` has the size of which of ``other``, each in one pair at most.

    >>> equal_levels([(8, 8), (4, 4), (2, 2)], [(16, 16), (8, 8), (4, 4)])
    [(0, 1), (1, 2)]
    """
    left = dict(enumerate(other))
    pairs = []
    for i, size in enumerate(own):
        match = next((j for j, found in left.items() if found == size), None)
        if match is not None:
            del left[match]
            pairs.append((i, match))
    return pairs


def both_sizes(
    probes: Sequence[Probe], records: Sequence[Mapping[str, Any]]
) -> tuple[Sizes, Sizes, int] | None:
    """The sizes of the maps of two models on the same image, and its pixels; None if unseen.

    A small image will do where the maps of both are equal.
    """
    found = None
    for pixels in (_SMALL, _LARGE):
        sizes = [p.sizes(record, pixels) for p, record in zip(probes, records, strict=True)]
        if sizes[0] is not None and sizes[1] is not None:
            found = sizes[0], sizes[1], pixels
            if sizes[0] == sizes[1]:
                break
    return found


def strides(sizes: Sizes, pixels: int) -> list[int]:
    """Pixels of the image that a cell of each map spans.

    >>> strides([(80, 80), (40, 40)], 640)
    [8, 16]
    """
    return [round(pixels / size[1]) for size in sizes]


def level_cuts(config: Mapping[str, Any], models: Models) -> Cuts:
    """Which levels a loss is to get where student and teacher have different ones.

    Of losses that say in ``pairs_levels`` which of their arguments hold a map for each level.

    Raises:
        ValueError: the two have no level of equal stride.
    """
    cuts: Cuts = {}
    mappings = config.get('loss_forward_mappings') or {}
    for name, loss in (config.get('distill_losses') or {}).items():
        mapping = mappings.get(name, {})
        paired = getattr(class_of(loss), 'pairs_levels', ())
        pair = dict(paired_arguments(mapping)).get('preds_S') if paired else None
        if pair is None or not _sizes_stay(mapping.values(), config):
            continue
        records = [mapping['preds_S'], mapping[pair]]
        if not records[0]['from_student'] or any(r.get('data_idx') is not None for r in records):
            continue
        seen = both_sizes([models.probes[side] for side in SIDES], records)
        if seen is None or seen[0] == seen[1]:
            continue
        cuts |= _cuts_of(name, mapping, paired, seen)
    return cuts


def _cuts_of(
    name: str,
    mapping: Mapping[str, Any],
    paired: Sequence[str],
    seen: tuple[Sizes, Sizes, int],
) -> Cuts:
    own, other, pixels = seen
    pairs = equal_levels(own, other)
    both = [strides(sizes, pixels) for sizes in (own, other)]
    if not pairs:
        raise ValueError(
            f'distill_losses.{name} compares the maps of student and teacher level by level, but '
            f'theirs have strides {both[0]} and {both[1]}, of which none are equal. Set scale of a '
            'FeatureAdapter, or take a method that compares predictions (prediction_rows, '
            'soft_ground_truth).'
        )
    shared = ', '.join(str(both[0][i]) for i, _ in pairs)
    print_log(
        f'distill_losses.{name} takes the levels of strides {shared}, which both models have: '
        f"the student's are {both[0]}, the teacher's {both[1]}",
        'current',
    )
    levels = {True: [i for i, _ in pairs], False: [j for _, j in pairs]}
    return {
        (name, argument): levels[bool(record['from_student'])]
        for argument, record in mapping.items()
        if argument in {*paired, 'preds_T'}
    }


def _sizes_stay(records: Any, config: Mapping[str, Any]) -> bool:
    """Whether no connector on the way is one that may change the sizes of maps."""
    for record in records:
        for link in _chain(config, record.get('connector')):
            if class_of(link) not in _SIZE_STAYS or link.get('scale', 1) != 1:
                return False
    return True


def _chain(config: Mapping[str, Any], connector: str | None) -> Iterator[Any]:
    found = (config.get('connectors') or {}).get(connector) if connector else None
    yield from found if isinstance(found, list | tuple) else [] if found is None else [found]


def take_levels(config: Any, cuts: Cuts) -> None:
    """Put a :class:`ChosenLevels` in front of what each cut argument goes through."""
    done: set[str] = set()
    for (loss, argument), levels in cuts.items():
        paired = getattr(class_of(config['distill_losses'][loss]), 'pairs_levels', ())
        record = config['loss_forward_mappings'][loss][argument]
        name = record.get('connector') or f'{loss}_{argument}_levels'
        if argument not in paired or name in done:
            continue
        done.add(name)
        link = dict(type='ChosenLevels', levels=levels)
        config['connectors'] = config.get('connectors') or {}
        chain = [link, *_chain(config, record.get('connector'))]
        config['connectors'][name] = chain if len(chain) > 1 else link
        record['connector'] = name
