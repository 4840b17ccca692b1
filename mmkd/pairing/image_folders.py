"""The folder of a data set that holds the images of one of its parts."""

import filecmp
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from mmkd.config.names import first_of
from mmkd.datasets.part_names import WORDS, part_of

_IMAGES = {'images', 'image', 'imgs', 'img', 'jpegimages', 'pngimages'}


class Found(NamedTuple):
    """A folder, and whether others hold other images of the same names."""

    folder: Path
    rivals: bool


def image_folder(root: Path, split: str, file: Path, images: Sequence[dict[str, Any]]) -> Found:
    """The folder from which the names of a part's images count.

    Of several that hold files of these names, it is that one whose images have the sizes that are
    stated, then the one whose path speaks of the part, then the one that is named most plainly.

    Args:
        root: of the data set; the images lie in it or any folder below it.
        split: 'train', 'val' or 'test'.
        file: the annotations, for messages.
        images: those of the file.

    Raises:
        FileNotFoundError: no folder has them.
        ValueError: several have them, and nothing tells which are meant.
    """
    some = [*images[:3], *images[3 :: max(1, len(images) // 12)], *images[-1:]]
    some = [image for image in some if image.get('file_name')]
    folders = [*_folders(root)]
    there = [f for f in folders if some and _has(f, some)]
    there = there or [f for f in folders if some and _has(f, some[:3])]  # some are missing
    fitting = [f for f in there if all(_fits(f, image) for image in some)]
    if not fitting:  # of the wrong size: at least not those of another part
        fitting = [f for f in there if _rank(root, split, f) < _OTHER]
    if not fitting:
        names = [str(image.get('file_name')) for image in some[:3]]
        raise FileNotFoundError(
            f'the images of {file} must lie in "{root}" or a folder in it, but none has '
            f'{first_of(names)}{" of the sizes that it states" if there else ""}. '
            'Put or link them there.'
        )
    keys = {f: (_rank(root, split, f), _further_words(root, split, f)) for f in fitting}
    best = min(keys.values())
    first, *others = [f for f in fitting if keys[f] == best]
    unlike = [f for f in others if not _same(first, f, some)]
    if unlike:
        names = [f'"{f}"' for f in (first, *unlike)]
        raise ValueError(
            f'the images of {file} must lie in one folder, or in one whose path has the word '
            f'"{split}", but {first_of(names)} hold different ones of the same names. Name a '
            f'folder {split}, move the others out of "{root}", or write the folder into file_name.'
        )
    return Found(first, any(f != first and not _same(first, f, some) for f in there))


def _folders(root: Path) -> Iterator[Path]:
    """The folder and all below it, those nearer to it first; hidden ones are left out."""
    level = [root]
    while level:
        yield from level
        level = [
            Path(entry.path)
            for folder in level
            for entry in sorted(_entries(folder), key=lambda entry: entry.name)
            if not entry.name.startswith('.') and entry.is_dir() and not _leads_back(entry, folder)
        ]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [*entries]
    except OSError:  # what may not be read has no images
        return []


def _leads_back(entry: os.DirEntry[str], folder: Path) -> bool:
    """Whether a link leads to a folder that holds it."""
    return entry.is_symlink() and folder.resolve().is_relative_to(Path(entry.path).resolve())


def _has(folder: Path, images: Sequence[dict[str, Any]]) -> bool:
    return all((folder / str(image['file_name'])).is_file() for image in images)


def _fits(folder: Path, image: dict[str, Any]) -> bool:
    """Whether an image may be the one that is described: its sides may be turned by EXIF."""
    sides = [image.get('width'), image.get('height')]
    try:
        with Image.open(folder / str(image['file_name'])) as opened:
            return None in sides or set(opened.size) == set(sides)
    except Exception:  # unknown to Pillow, or broken: the checks of data tell
        return True


#: Ranks of folders: the path speaks of the part, has its word in another, of none, of another.
_OF_PART, _HAS_WORD, _NEUTRAL, _OTHER = range(4)


def _rank(root: Path, split: str, folder: Path) -> int:
    parts = folder.relative_to(root).parts
    named = next((part for part in map(part_of, reversed(parts)) if part), None)
    if named is not None:
        return _OF_PART if named == split else _OTHER
    words = '/'.join(parts).lower()
    return _HAS_WORD if any(word in words for word in WORDS[split]) else _NEUTRAL


def _further_words(root: Path, split: str, folder: Path) -> int:
    """How many parts of the path say more than the part and that there are images."""
    plain = {*_IMAGES, *WORDS[split]}
    parts = folder.relative_to(root).parts
    return sum(re.sub(r'\d{4}$', '', part.lower()) not in plain for part in parts)


def _same(one: Path, other: Path, images: Sequence[dict[str, Any]]) -> bool:
    """Whether two folders hold the same images."""
    names = [str(image['file_name']) for image in images]
    return all(
        (one / name).is_file()
        and (other / name).is_file()
        and filecmp.cmp(one / name, other / name, shallow=False)
        for name in names
    )


def check_shared(
    folder: Path, rivals: bool, one: tuple[Path, dict[str, Any]], other: tuple[Path, dict[str, Any]]
) -> list[str]:
    """Hold two parts that take their images from one folder to meaning the same by one name.

    Args:
        folder: of the images.
        rivals: whether another folder holds others of these names.
        one: the file of a part, and what it holds.
        other: those of the other.

    Returns:
        What is worth a note.

    Raises:
        ValueError: an image has two sizes, or other boxes in both while there are two of its name.
    """
    (file, content), (file_2, content_2) = one, other
    told, told_2 = _told(content), _told(content_2)
    shared = [name for name in told if name in told_2]
    sizes = [name for name in shared if told[name][0] != told_2[name][0]]
    unlike = [name for name in shared if told[name][1] != told_2[name][1]]
    all_unlike = len(unlike) == len(shared) == min(len(told), len(told_2)) > 0
    what = (
        f'{file.name} and {file_2.name} both name {first_of(sizes or unlike)}, of which '
        f'"{folder}" has one, with other {"sizes" if sizes else "boxes"}'
    )
    if sizes or (all_unlike and rivals):
        raise ValueError(
            f'parts must have images of their own, but {what}. Put the images of each in a folder '
            'that is named train or val, or write their folders into file_name.'
        )
    return [f'{what}: are the images of one in another folder?'] if all_unlike else []


def _told(content: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By the name of an image its size and its boxes, as a file has them."""
    boxes: dict[Any, list[str]] = {}
    for one in content.get('annotations') or ():
        boxes.setdefault(one.get('image_id'), []).append(str(one.get('bbox')))
    return {
        str(image.get('file_name')): (
            (image.get('width'), image.get('height')),
            sorted(boxes.get(image.get('id'), [])),
        )
        for image in content['images']
    }
