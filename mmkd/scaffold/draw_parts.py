"""The parts of a data set: drawn by chance, each class in each, twins together."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from mmkd.scaffold.labelled_images import LabelledImage, Source
from mmkd.scaffold.twins import ALIKE, MIRRORED, STRICTER, thumbnails, twin_groups

#: From as many images on there is a part for choices, and another for the test.
_THREE_PARTS = 300

#: Of the images the largest share that one group of twins may have.
_LARGEST = 0.5


class Parts(NamedTuple):
    """The parts, and how they came about.

    Args:
        images: of 'train', 'val' and, if there is one, 'test'.
        how: in words.
        twins: images for training that have a twin in another part.
    """

    images: dict[str, list[LabelledImage]]
    how: str
    twins: int


def parts_of(source: Source, seed: int = 0) -> Parts:
    """The parts that a data set has, or those that are drawn of it.

    What is split already stays so, but for a part that is missing: a test alone serves for
    validation, too, and where there is neither, one is drawn of the training part. A part that
    holds training images alone is none; what has no training part is split anew.

    Raises:
        ValueError: there are fewer than two images with objects.
    """
    given = {part: list(found) for part, found in source.parts.items() if found}
    trained = {image.path for image in given.get('train', [])}
    same = [p for p in given if p != 'train' and all(image.path in trained for image in given[p])]
    given = {part: found for part, found in given.items() if part not in same}
    left_out = f'; {" and ".join(same)} had no images but those of train' if same else ''
    others = [part for part in given if part not in ('train', 'all') and _found(given[part])]
    if 'train' in given and others:
        images = {'train': given['train'], 'val': given.get('val') if 'val' in others else None}
        images['val'] = images['val'] or given['test']
        if 'test' in others and 'val' in others:
            images['test'] = given['test']
        kept = {part: found for part, found in images.items() if found}
        how = 'as the data set has them'
        if 'val' not in others:
            how += '; it has no val, so the test images serve for it, too'
        return Parts(kept, how + left_out, _twins_across(kept))
    whole = given.get('train') or [image for found in given.values() for image in found]
    whole = list({image.path: image for image in whole}.values())
    if sum(map(bool, map(_classes, whole))) < 2:
        raise ValueError(
            'there must be at least two images with objects, one to learn from and one to test, '
            f'but of {len(whole)} {sum(map(bool, map(_classes, whole)))} have some'
            + (f' ({"; ".join(source.notes)})' if source.notes else '')
            + '. Annotate more.'
        )
    shares = dict(train=0.8, val=0.2)
    if len(whole) >= _THREE_PARTS:
        shares = dict(train=0.7, val=0.15, test=0.15)
    groups, told = _twins([image.path for image in whole])
    places = draw(groups, [_classes(image) for image in whole], shares, seed)
    several = [len(group) for group in groups if len(group) > 1]
    how = f'drawn by chance (seed {seed}), {", ".join(f"{p} {s:.0%}" for p, s in shares.items())}'
    if several:
        how += f'; {sum(several)} images in {len(several)} groups of twins, each in one part'
    drawn = {part: [whole[i] for i in sorted(found)] for part, found in places.items()}
    return Parts(drawn, how + told + left_out, 0)


def _twins(paths: Sequence[Path]) -> tuple[list[list[int]], str]:
    """The numbers of images that belong together, and what is worth saying of it."""
    thumbs, told = thumbnails(paths), ''
    for alike, mirrored in ((ALIKE, MIRRORED), *STRICTER):
        groups = twin_groups(thumbs, alike, mirrored)
        if max(map(len, groups)) <= max(_LARGEST * len(paths), 1) or len(groups) == len(paths):
            return groups, told
        told = '; the images are so alike that only the nearest count as twins'
    told = '; all images look alike, so that twins could not be kept apart'
    return [[i] for i in range(len(paths))], told


def draw(
    groups: Sequence[Sequence[int]],
    labels: Sequence[Counter[str]],
    shares: Mapping[str, float],
    seed: int = 0,
) -> dict[str, list[int]]:
    """Give each group to one part, the classes in proportion (Sechidis et al., ECML 2011).

    The group whose rarest class is rarest comes first, to the part that lacks most of that class.
    Each part gets each class of which there are enough groups, the first part before all others;
    and images with objects.

    Args:
        groups: the numbers of images that stay together.
        labels: of each image, how many objects of each class.
        shares: of the parts; they add up to 1.
        seed: of the draw.

    Example:
        >>> draw([[0, 1], [2], [3]], [Counter('a')] * 4, dict(train=0.75, val=0.25))
        {'train': [0, 1, 3], 'val': [2]}
    """
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    content = [_sum([labels[i] for i in group]) for group in groups]
    total = _sum(content)
    lacking = {
        part: Counter({name: share * count for name, count in total.items()})
        for part, share in shares.items()
    }
    room = {part: share * len(labels) for part, share in shares.items()}
    chosen: dict[int, str] = {}
    filled = dict.fromkeys(shares, False)
    order.sort(key=lambda g: min((total[name] for name in content[g]), default=len(labels) ** 2))
    left = _sum([Counter(set(found)) for found in content])
    shown: dict[str, set[str]] = {part: set() for part in shares}
    for place, g in enumerate(order):
        with_objects = sum(bool(content[other]) for other in order[place:])
        empty = [part for part in shares if not filled[part]]
        wanted: Counter[str] = Counter()  # what is not learned need not be tested
        for name in content[g]:
            wanted.update({p: 10**-i for p, i in _waiting(name, left[name], shown).items()})
        if content[g] and empty and with_objects <= len(empty):
            part = empty[0]
        else:
            rarest = min(content[g], key=lambda name: total[name], default='')
            open_parts = [p for p in shares if room[p] >= 0.5] or list(shares)
            if wanted:
                open_parts = [p for p in shares if wanted[p] == max(wanted.values())]
            part = max(open_parts, key=lambda p: (lacking[p][rarest] if rarest else 0, room[p]))
        chosen[g] = part
        lacking[part].subtract(content[g])
        room[part] -= len(groups[g])
        filled[part] = filled[part] or bool(content[g])
        shown[part] |= set(content[g])
        left.subtract(set(content[g]))
    _exchange(chosen, content, list(shares))
    return {
        part: sorted(i for g, own in chosen.items() if own == part for i in groups[g])
        for part in shares
    }


def _waiting(name: str, left: int, shown: Mapping[str, set[str]]) -> dict[str, int]:
    """The parts that must get a class now, since no more groups have it than parts lack it.

    The first parts go before the others; the number of each is told.
    """
    lacking = {p: i for i, (p, names) in enumerate(shown.items()) if name not in names}
    return dict(list(lacking.items())[:left]) if left <= len(lacking) else {}


def _exchange(
    chosen: dict[int, str], content: Sequence[Counter[str]], parts: Sequence[str]
) -> None:
    """Move groups to a part that lacks one of their classes, from one that can do without them."""
    count = {part: Counter[str]() for part in parts}
    for g, part in chosen.items():
        count[part].update(set(content[g]))
    names = sorted(_sum(list(count.values())))
    for (place, part), name in product(enumerate(parts), names):
        for g, own in chosen.items():
            if count[part][name] or name not in content[g]:
                continue
            # For a part before its own the class may go, but not all that there is.
            spared = {name} if own in parts[place:] else set()
            keeps = all(count[own][n] > 1 for n in set(content[g]) - spared)
            if keeps and count[own].total() > len(content[g]):
                count[own].subtract(set(content[g]))
                count[part].update(set(content[g]))
                chosen[g] = part


def _classes(image: LabelledImage) -> Counter[str]:
    return Counter(one.name for one in image.objects if not one.crowd)


def _found(images: Sequence[LabelledImage]) -> bool:
    return any(map(_classes, images))


def _sum(counts: Sequence[Counter[str]]) -> Counter[str]:
    whole: Counter[str] = Counter()
    for count in counts:
        whole.update(count)
    return whole


def _twins_across(parts: Mapping[str, Sequence[LabelledImage]]) -> int:
    paths = [(part, image.path) for part, found in parts.items() for image in found]
    groups, _ = _twins([path for _, path in paths])
    mixed = [[paths[i][0] for i in group] for group in groups]
    return sum(names.count('train') for names in mixed if set(names) - {'train'})
