"""A data set in YOLO form: a text file of labels for each image, and mostly a ``data.yaml``."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmkd.config.names import first_of
from mmkd.datasets.part_names import WORDS, part_of
from mmkd.datasets.split import Faults
from mmkd.scaffold.labelled_images import (
    SUFFIXES,
    Annotated,
    LabelledImage,
    Source,
    images_in,
    told_sizes,
)
from mmkd.scaffold.readable import told, unreadable
from mmkd.scaffold.yolo_labels import in_pixels, label_file, labels_of

#: Files with a class on each line, where there is no ``data.yaml``.
_NAMES = ('classes.txt', 'obj.names', '_darknet.labels', 'labels/classes.txt', 'names.txt')


def yolo_file(data: Path) -> Path | None:
    """The file that describes a data set in YOLO form: the one that is named, or in the folder."""
    if data.is_file():
        return data if data.suffix.lower() in ('.yaml', '.yml') else None
    files = [p for p in sorted(data.glob('*.y*ml')) if p.suffix.lower() in ('.yaml', '.yml')]
    files.sort(key=lambda path: path.stem != 'data')
    for path in files:
        try:
            content = _yaml(path)
        except ValueError:
            if path.stem == 'data':
                raise
            continue
        if {'names', 'nc', 'train'} & set(content):
            return path
    return None


def read_yolo(data: Path, images: Path | None = None) -> Source:
    """Read images and their labels; ``download`` and all else in ``data.yaml`` is left alone.

    ``train``, ``val`` and ``test`` may each be a folder, a text file that lists images, or a list
    of these; without them the folders say the part. A label is a class and a box (centre, width,
    height) or a polygon, in shares of the image's sides; behind a box may come a score or, with
    ``kpt_shape`` in ``data.yaml``, the points of a pose. An image without a file of labels, or
    with an empty one, has no object.

    Raises:
        FileNotFoundError: a folder, a list or an image is missing.
        ValueError: ``data.yaml`` or a label breaks a rule; the message names it.
    """
    file = yolo_file(data)
    root = file.parent if file is not None else data
    content = _yaml(file) if file is not None else {}
    bases = _bases(root, content, images)
    parts = {}
    for part in WORDS:
        value = next((content[word] for word in WORDS[part] if content.get(word)), None)
        if value is not None:
            parts[part] = _listed(value, bases, f'{part} of {file}', must=part == 'train')
    notes = [
        f'{part}: its folder is missing or empty' for part, found in parts.items() if not found
    ]
    parts = {part: found for part, found in parts.items() if found}
    if 'train' not in parts:
        parts = _by_folder([images] if images is not None else bases)
    if not any(parts.values()):
        raise FileNotFoundError(
            f'there must be images, but "{data}" has none ({", ".join(sorted(SUFFIXES))}). Put '
            'them there, or name their folder by --images.'
        )
    every = dict.fromkeys(path for found in parts.values() for path in found)
    broken = unreadable(every)
    notes += told(broken, len(every))
    parts = {part: [p for p in found if p not in broken] for part, found in parts.items()}
    names = _names(content, root)
    faults = Faults('DATA', str(file or data))
    pose = 'kpt_shape' in content
    labelled = {
        path: labels_of(label_file(path, root), pose) for found in parts.values() for path in found
    }
    kinds = {kind for _, rows in labelled.values() for kind, _ in rows}
    unknown = sorted(kinds - set(names)) if names else []
    faults.refuse(
        f'each label must be one of the {len(names)} classes ({first_of(names.values())}), which '
        'count from 0',
        (f'class {k} in "{p}"' for k in unknown for p, rows in labelled.values()
         if k in {kind for kind, _ in rows}),
        'Name the class in names, or correct the labels.',
    )  # fmt: skip
    names = names or {kind: f'class {kind}' for kind in sorted(kinds)}
    paths = list(labelled)
    sizes, _ = told_sizes(paths, [None] * len(paths))
    read = {}
    for path, size in zip(paths, sizes, strict=True):
        rows = labelled[path][1]
        objects = [Annotated(names[kind], in_pixels(box, size)) for kind, box in rows]
        read[path] = LabelledImage(path, size, objects)
    if not any(image.objects for image in read.values()):
        raise ValueError(
            f'some image must have a label, but of {len(read)} in "{root}" none has. Labels lie '
            'beside the images, or in a folder "labels" where the images are in "images".'
        )
    used = {one.name for image in read.values() for one in image.objects}
    classes = tuple(dict.fromkeys(names[kind] for kind in sorted(names)))
    unused = [name for name in classes if name not in used]
    if unused:  # as where COCO's 80 names stayed in a file for a few classes
        notes.append(f'classes without an object are left out: {first_of(unused)}')
    classes = tuple(name for name in classes if name in used)
    return Source(
        'YOLO', classes, {p: [read[q] for q in found] for p, found in parts.items()}, notes
    )


def _yaml(path: Path) -> dict[str, Any]:
    try:
        # All is text, so that a class may be called "no", "1.0" or "2024-01-01".
        content = yaml.load(path.read_text(encoding='utf-8-sig'), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} must be YAML, but {error}. Correct the file.') from None
    if not isinstance(content, dict):
        raise ValueError(
            f'{path} must be YAML with train, val and names, but is {type(content).__name__}. '
            'Correct the file.'
        )
    return content


def _bases(root: Path, content: dict[str, Any], images: Path | None) -> list[Path]:
    """Folders from which a path of ``data.yaml`` may count."""
    given = content.get('path')
    own = [root / given, Path(given), root / Path(given).name] if given else []
    folders = [images] if images is not None else []
    folders += [path for path in own if path.is_dir()]
    return list(dict.fromkeys([*folders, root]))


def _listed(value: Any, bases: Sequence[Path], what: str, must: bool) -> list[Path]:
    """The images that a value of ``data.yaml`` stands for."""
    found: list[Path] = []
    for item in value if isinstance(value, list) else [value]:
        path = _there(str(item), bases)
        if path is None:
            if must:
                raise FileNotFoundError(
                    f'{what} must be there, but there is no "{item}" (seen from '
                    f'"{first_of(bases)}"). Correct path or the folder.'
                )
            continue
        if path.is_dir():
            found += images_in(path)
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            lines = path.read_text(encoding='utf-8-sig').splitlines()
            found += _of_list([line.strip() for line in lines if line.strip()], path, bases)
    return list(dict.fromkeys(found))


def _of_list(lines: Sequence[str], file: Path, bases: Sequence[Path]) -> list[Path]:
    found = [(line, _nearest(line, [file.parent, *bases])) for line in lines]
    lost = [line for line, path in found if path is None]
    if lost:
        raise FileNotFoundError(
            f'each image of "{file}" must be there, but of {len(lines)} {len(lost)} are not: '
            f'{first_of(lost)}. Correct the list, or put them there.'
        )
    return [path for _, path in found if path is not None]


def _there(name: str, bases: Iterable[Path]) -> Path | None:
    """A path as it counts from one of the folders; leading "../" of exporters may be too many."""
    name = name.replace('\\', '/')
    bare = name
    while bare.startswith(('../', './')):
        bare = bare.partition('/')[2]
    for base in bases:
        for wanted in (name, bare):
            if (base / wanted).exists():
                return base / wanted
    return None


def _nearest(name: str, bases: Sequence[Path]) -> Path | None:
    """An image of a list that may be of another machine: by as much of its path as is found."""
    words = name.replace('\\', '/').split('/')
    tails = ('/'.join(words[i:]) for i in range(len(words)))
    return next((path for tail in tails if (path := _there(tail, bases)) is not None), None)


def _by_folder(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The images of the first folder that has some, by the part that their folders name."""
    for base in folders:
        parts: dict[str, list[Path]] = {}
        for path in images_in(base):
            named = [part_of(folder) for folder in path.relative_to(base).parts[:-1]]
            parts.setdefault(next((part for part in named if part), 'all'), []).append(path)
        if parts:
            return parts if 'train' in parts else {'all': [p for f in parts.values() for p in f]}
    return {}


def _names(content: dict[str, Any], root: Path) -> dict[int, str]:
    """The classes by label; empty where nothing says them."""
    names = content.get('names')
    if isinstance(names, dict):
        try:
            return {int(key): str(name) for key, name in names.items()}
        except ValueError:
            raise ValueError(
                f'names must have numbers as keys, but got {first_of(names)}. Correct them.'
            ) from None
    if isinstance(names, list):
        return {i: str(name) for i, name in enumerate(names)}
    if names and not (root / names).is_file():
        raise ValueError(
            'names must be a list of classes, classes by number, or a file with a class on each '
            f'line, but got the text "{names}". Write [{names}].'
        )
    for file in (root / name for name in [*filter(None, [names]), *_NAMES]):
        if file.is_file():
            lines = file.read_text(encoding='utf-8-sig').splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip()))
    count = str(content.get('nc') or '')
    return {i: f'class {i}' for i in range(int(count))} if count.isdigit() else {}
