"""Images without annotations: of a folder, of a COCO file, of a list."""

import glob
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmkd.datasets.kept_boxes import is_id
from mmkd.datasets.split import Faults
from mmkd.fileio.files_below import files_below
from mmkd.fileio.nearby import absent, hint

#: Endings by which a file in a folder is taken for an image; others are left out.
ENDINGS = frozenset(
    (
        *('.jpg', '.jpeg', '.jpe', '.jp2', '.png', '.bmp', '.dib', '.tif', '.tiff', '.webp'),
        *('.pbm', '.pgm', '.ppm', '.pnm', '.avif', '.hdr', '.exr'),
    )
)


@dataclass(frozen=True)
class ListedImage:
    """An image.

    Args:
        path: of its file.
        id: by which its results name it.
        file_name: in the results: as its COCO file has it, or seen from the folder of all.
        of_coco: whether a COCO file lists it.
        width, height: in pixels, where the COCO file tells them.
    """

    path: str
    id: Any
    file_name: str
    of_coco: bool = False
    width: int | None = None
    height: int | None = None

    def told(self) -> dict[str, Any]:
        """As plain values, for a config; the id if a COCO file gives it."""
        key = self.id if self.of_coco else None
        sides = dict(width=self.width, height=self.height)
        return dict(path=self.path, name=self.file_name, id=key, **sides)


def find_images(
    words: Sequence[str], root: str | None = None, besides: str | Path | None = None
) -> list[ListedImage]:
    """The images that words of a command line name, in order, each once.

    Args:
        words: folders, files and globs; a ``.json`` file in COCO's form, whose ids are kept; a
            ``.txt`` file with a path in each line, seen from its folder.
        root: the folder of a COCO file's images. Defaults to None: its own folder, or the first of
            the folders beside and above it that has them.
        besides: a folder that is left out where a folder or a glob would find it. Defaults to None.

    Raises:
        FileNotFoundError: there is no such file or image.
        ValueError: a COCO file is named beside others, is none, or has an id twice.
    """
    coco = [word for word in words if word.lower().endswith('.json')]
    if coco:
        if len(words) > 1:
            raise ValueError(
                f'a COCO file, whose ids are kept, must be named alone, but got {", ".join(words)}.'
            )
        return _of_coco(Path(coco[0]), root)
    files: dict[str, str] = {}
    for word in words:
        for path in _files(word, besides):
            files.setdefault(os.path.realpath(path), path)
    if not files:
        raise ValueError('images must be a folder, files, a list or a COCO file, but got none.')
    paths = [os.path.abspath(path) for path in files.values()]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [Path(os.path.relpath(path, shared)).as_posix() for path in paths]
    return [
        ListedImage(path, number, name)
        for number, (path, name) in enumerate(zip(files.values(), names, strict=True), 1)
    ]


def _files(word: str, besides: str | Path | None) -> list[str]:
    path = os.path.expanduser(word)
    if path.lower().endswith('.txt'):
        return _listed(Path(path))
    if os.path.isfile(path):
        return [path]
    matches = [path] if os.path.isdir(path) else sorted(glob.glob(path, recursive=True))
    left_out = set() if besides is None else {os.path.realpath(besides)}
    found: list[str] = []
    for match in matches:
        if os.path.isdir(match):
            found += files_below(match, ENDINGS, left_out)
        elif not left_out & set(map(str, Path(os.path.realpath(match)).parents)):
            found.append(match)
    if not found and os.path.isdir(path):
        raise FileNotFoundError(
            f'a folder of images must have some, but "{word}" (seen from {os.getcwd()}) has no '
            f'file that ends as one does ({", ".join(sorted(ENDINGS)[:6])}, ...). Correct it.'
        )
    if not found:
        raise FileNotFoundError(
            f'images must be a folder, files, a glob, a list (.txt) or a COCO file (.json), but '
            f'"{word}" (seen from {os.getcwd()}) names none. Correct it.'
            f'{hint(os.path.dirname(path), [os.path.basename(path)])}'
        )
    return found


def _listed(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(f'a list of images must be a file, but there is no "{path}".')
    lines = [line.strip() for line in path.read_text(encoding='utf-8-sig').splitlines()]
    found = [str(path.parent / line) for line in lines if line]
    lost = [line for line in found if not os.path.isfile(line)]
    if lost or not found:
        raise FileNotFoundError(
            f'each line of "{path}" must name an image, seen from its folder, but '
            + (f'there is no "{lost[0]}" ({len(lost)} in all).' if lost else 'it has none.')
        )
    return found


def _of_coco(path: Path, root: str | None) -> list[ListedImage]:
    if not path.is_file():
        raise FileNotFoundError(
            f'a COCO file must be there, but there is no "{path}" (seen from {os.getcwd()}). '
            f'Correct the path.{hint(str(path.parent), [path.name])}'
        )
    try:
        content = json.loads(path.read_bytes())
        images = {image['id']: str(image['file_name']) for image in content['images']}
        sizes = {image['id']: _size(image) for image in content['images']}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'a COCO file must list images with id and file_name, but "{path}" does not '
            f'({type(error).__name__}: {error}). Name the images themselves, or their folder.'
        ) from None
    _check_ids(path, [image['id'] for image in content['images']])
    if not images:
        raise ValueError(f'a COCO file must list images, but "{path}" has none.')
    folder = _folder(path, list(images.values()), root)
    return [
        ListedImage(os.path.join(folder, name), key, name, True, *sizes[key])
        for key, name in images.items()
    ]


def _size(image: Any) -> tuple[int | None, int | None]:
    """Width and height, where they are told."""
    sides = [image.get(key) for key in ('width', 'height')]
    width, height = (int(s) if isinstance(s, int | float) and s > 0 else None for s in sides)
    return width, height


def _check_ids(path: Path, ids: Sequence[Any]) -> None:
    twice = [key for key, count in Counter(ids).items() if count > 1]
    faults = Faults('a COCO file', str(path))
    faults.refuse('image ids must differ', twice, 'Give each image its own id.')
    none = [json.dumps(key) for key in ids if not is_id(key)]
    faults.refuse('image ids must be whole numbers or text', none, 'Correct them.')


def _folder(path: Path, names: list[str], root: str | None) -> str:
    """Where the images of a COCO file lie."""
    if root is not None:
        places = [Path(root)]
    else:
        above = [path.parent, path.parent.parent]
        beside = [p for place in above for p in sorted(place.iterdir()) if p.is_dir()]
        places = [*above, *beside]
    for place in places:
        if os.path.isfile(place / names[0]) and not absent(str(place), names):
            return str(place)
    raise FileNotFoundError(
        f'the images of "{path}" must be in one folder, its own or one beside or above it, but '
        f'"{names[0]}" or others are not{"" if root is None else f" in {root}"}. Name it: '
        '--root FOLDER.'
    )
