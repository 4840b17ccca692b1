"""A data set in VOC form: an XML file for each image."""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmkd.config.names import first_of
from mmkd.datasets.part_names import part_of
from mmkd.datasets.split import Faults
from mmkd.datasets.voc_files import listed_images, read_voc
from mmkd.fileio.files_below import files_below
from mmkd.scaffold.labelled_images import Annotated, Files, LabelledImage, Source, told_sizes
from mmkd.scaffold.readable import told, unreadable


def xml_files(data: Path) -> list[Path]:
    """The annotation files in a folder and below it, in order."""
    if not data.is_dir():
        return []
    return sorted(path for path in map(Path, files_below(data, ('.xml',))) if path.is_file())


def read_voc_folder(data: Path, images: Path | None = None) -> Source:
    """Read XML files that lie beside their images, or in folders of their own.

    The parts are those of ``ImageSets/Main/train.txt`` (or ``trainval.txt``), ``val.txt`` and
    ``test.txt``, or else folders ``train``, ``val`` and ``test``. The classes are the names of the
    objects, in the order of ``classes.txt`` where there is one, else of the alphabet.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: a file breaks a rule of docs/data.md.
    """
    files = Files([images] if images is not None else [data])
    if images is None and not files.all():
        files = Files([data.parent])  # the folder "Annotations" was named
    lists = _lists(data)
    paths = xml_files(data)
    wanted = {name for names in lists.values() for name in names}
    if lists:
        paths = [path for path in paths if _name(data, path) in wanted or path.stem in wanted]
    faults, broken, lost = Faults('DATA', str(data)), [], []
    found: list[tuple[Path, Path, tuple[int, int] | None, list[Annotated]]] = []
    for path in paths:
        try:
            if ET.parse(path).getroot().tag != 'annotation':
                continue
            size, objects = read_voc(str(path), None, unknown=True)
        except (ET.ParseError, ValueError, OverflowError, LookupError, OSError) as error:
            broken.append(f'{path.name} ({error})')
            continue
        image = files.of_stem(path)
        if image is None:
            lost.append(f'{path.stem}.*')
            continue
        given = (int(size[0]), int(size[1])) if size[0] < float('inf') else None
        kept = [
            Annotated(str(name).strip(), (box[0], box[1], box[2], box[3]), hard)
            for name, box, hard in objects
            if box is not None
        ]
        found.append((path, image, given, kept))
    faults.refuse(
        'each XML file must give an image size above 0, if any, and for each object a name, four '
        'finite coordinates, and a whole number as difficult, if any',
        broken,
        'Correct the files; without <size>, the size is that of the image.',
    )
    if lost:
        raise FileNotFoundError(
            f'each XML file must have an image of its name, but in "{data}" {len(lost)} have '
            f'none, or several: {first_of(lost)}. Put them there, or name their folder by --images.'
        )
    out = unreadable(item[1] for item in found)
    notes = told(out, len(found))
    found = [item for item in found if item[1] not in out]
    sizes, as_stored = told_sizes([item[1] for item in found], [item[2] for item in found])
    parts: dict[str, list[LabelledImage]] = {}
    for (path, image, _, kept), size in zip(found, sizes, strict=True):
        for part in _parts_of(data, path, lists):
            parts.setdefault(part, []).append(LabelledImage(image, size, kept))
    classes = _classes(data, [item[3] for item in found])
    return Source('VOC', classes, parts, notes, as_stored=as_stored)


def _lists(data: Path) -> dict[str, set[str]]:
    """The names in each list of ``ImageSets/Main`` that a part is made of."""
    folder = data / 'ImageSets/Main'
    if not folder.is_dir():
        folder = data.parent / 'ImageSets/Main'
    found = {p: folder / f'{p}.txt' for p in ('train', 'trainval', 'val', 'test')}
    lists = {p: set(listed_images(str(f))) for p, f in found.items() if f.is_file()}
    both = lists.pop('trainval', set())
    if 'train' not in lists:  # VOC 2007 as people train on it: trainval against test
        lists['train'] = both - lists.get('val', set())
    return {part: names for part, names in lists.items() if names}


def _name(data: Path, path: Path) -> str:
    """The name of an XML file as lists have it, which may hold folders."""
    parts = path.relative_to(data).with_suffix('').parts
    return '/'.join(parts[1:] if parts[0].lower() == 'annotations' else parts)


def _parts_of(data: Path, path: Path, lists: dict[str, set[str]]) -> list[str]:
    if lists:
        own = {_name(data, path), path.stem}
        return [part for part, names in lists.items() if own & names]
    named = [part_of(folder) for folder in path.relative_to(data).parts[:-1]]
    return [next((part for part in named if part), 'all')]


def _classes(data: Path, objects: Sequence[Sequence[Annotated]]) -> tuple[str, ...]:
    counts = Counter(one.name for kept in objects for one in kept)
    files = [folder / 'classes.txt' for folder in (data, data.parent)]
    file = next((path for path in files if path.is_file()), None)
    listed = file.read_text(encoding='utf-8-sig').splitlines() if file is not None else []
    names = list(dict.fromkeys(line.strip() for line in listed if line.strip() in counts))
    return tuple(names if set(names) == set(counts) else sorted(counts))
