"""Which images of data sets each detection of a file is of."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmkd.checkpoints.fetch import sha256_of
from mmkd.config.names import first_of
from mmkd.datasets.mixed_batches import UNLABELLED
from mmkd.detections.results_file import WHERE, Results

#: So many images, evenly spread, are read before a run, to see whether they are those that were
#: looked at. Of all others their size is compared.
READ = 8

_ORIENTATION = 0x0112  # the EXIF tag


class Places:
    """The images of data sets that a file's detections are of.

    An image is known by its file name, where the file tells one, else by its id; a text that is no
    image's id may be the name of its file, without the ending or with it. Of files of one
    name it is that whose folders are called alike, from the last one up. A folder of images goes
    with those folders of the file alone whose names are most like its own. What is still that of
    several images is decided by their content, where the file tells it, and by the id.

    Args:
        infos: what the data sets know of each image, one after the other.
        results: of the file.
    """

    def __init__(self, infos: Sequence[Mapping[str, Any]], results: Results) -> None:
        self.infos, self.results = infos, results
        self._paths = [Path(str(info.get('img_path'))) for info in infos]
        self._by_id: dict[Any, list[int]] = defaultdict(list)
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        for i, info in enumerate(infos):
            self._by_id[info.get('img_id')].append(i)
            if info.get('listed_id') is not None:
                self._by_id[info['listed_id']].append(i)
            self._by_name[self._paths[i].name].append(i)
            self._by_stem[self._paths[i].stem].append(i)
        self._listed = [image for image in results.images or () if isinstance(image, Mapping)]
        self._named = {image.get('id'): image.get('file_name') for image in self._listed}
        self._digests = {image.get('id'): image.get('sha256') for image in self._listed}
        names = set(filter(None, [*results.file_names, *self._named.values()]))
        folders = {_folders(name) for name in names}
        tails = {folder[i:] for folder in folders for i in range(len(folder))}
        alike = {
            folder: next((tail for tail in _tails(folder.parts) if tail in tails), ())
            for folder in {path.parent for path in self._paths}
        }
        #: By the folders that are called as some of the file's, and the name.
        self._by_place: dict[tuple[tuple[str, ...], str], list[int]] = defaultdict(list)
        for i, path in enumerate(self._paths):
            self._by_place[alike[path.parent], path.name].append(i)
        self._times = Counter(self._named.values())
        self._sizes: dict[int, tuple[Any, Any]] | None = None
        self._known: dict[tuple[Any, str | None], list[int]] = {}
        self._read: dict[int, str] = {}
        self._bare: dict[str, list[int]] | None = None

    def rows(self) -> dict[int, list[int]]:
        """By the place of an image, the results that are of it.

        Raises:
            ValueError: a result may be of several images.
        """
        found = defaultdict(list)
        keys = zip(self.results.image_ids, self.results.file_names, strict=True)
        for row, key in enumerate(keys):
            for place in self.of(*key):
                found[place].append(row)
        return found

    def of(self, image_id: Any, name: str | None) -> list[int]:
        """The places of an image, several where data sets share it; none where it is not there.

        Raises:
            ValueError: it may be several images.
        """
        name = name or self._named.get(image_id)
        if (image_id, name) not in self._known:
            self._known[image_id, name] = self._found(image_id, name)
        return self._known[image_id, name]

    def _found(self, image_id: Any, name: str | None) -> list[int]:
        if not name:
            found = self._by_id.get(image_id, [])
            if not found and isinstance(image_id, str):  # as Ultralytics writes them
                found = self._by_name.get(image_id) or self._by_stem.get(image_id, [])
            if self._are_several(found):
                raise ValueError(
                    f'{WHERE}: an image_id must be that of one training image, but {image_id!r} of '
                    f'"{self.results.path}" is that of {self._shown(found)}. Give each result its '
                    'file_name, or label the images with "mmkd label", which tells it.'
                )
            return self._with_copies(found)
        folders, base = _folders(name), Path(name).name
        found = self._by_name.get(base, [])
        if folders:
            each = (self._by_place.get((tail, base), []) for tail in _tails(folders))
            found = next(filter(None, each), [])
        told = self._digests.get(image_id)
        if not self._are_several(found) and (self._times[name] < 2 or not told):
            return found
        if told:
            return [i for i in found if self._digest(i) == told]
        same = [i for i in found if i in self._by_id.get(image_id, ())]
        if same and not self._are_several(same):
            return same
        raise ValueError(
            f'{WHERE}: a file_name must be that of one training image, but "{name}" of '
            f'"{self.results.path}" is that of {self._shown(found)}. Write it with its folder, or '
            'label the images with "mmkd label", which tells their content.'
        )

    def _with_copies(self, found: list[int]) -> list[int]:
        """Places, and those of the same files that are named as images without annotations."""
        if self._bare is None:
            self._bare = defaultdict(list)
            for i, info in enumerate(self.infos):
                if info.get(UNLABELLED):
                    self._bare[os.path.realpath(self._paths[i])].append(i)
        paths = {os.path.realpath(self._paths[i]) for i in found} if self._bare else ()
        return [*found, *(i for path in paths for i in self._bare[path] if i not in found)]

    def _are_several(self, places: Sequence[int]) -> bool:
        return len(places) > 1 and len({os.path.realpath(self._paths[i]) for i in places}) > 1

    def _shown(self, places: Sequence[int]) -> str:
        return first_of([str(self._paths[i]) for i in places], 3)

    def _digest(self, place: int) -> str:
        if place not in self._read:
            path = self._paths[place]
            self._read[place] = sha256_of(path) if path.is_file() else ''
        return self._read[place]

    def looked_at(self) -> Callable[[int], bool]:
        """Whether the file looked at the image at a place.

        A list of results does not say at what it looked. There an image without annotations was
        looked at if something is detected in it, and each annotated one was.
        """
        found = self.rows()
        if self.results.images is not None:  # what it has found something in it has seen, too
            return {*(place for place, _ in self._pairs()), *found}.__contains__
        return lambda place: place in found or not self.infos[place].get(UNLABELLED)

    def check_images(self) -> None:
        """Compare the images with what the file says of those that were looked at.

        Raises:
            ValueError: some have another size, or another content.
        """
        pairs = self._pairs()
        changed = [place for place, image in pairs if self._resized(place, image)]
        step = max(len(pairs) // READ, 1)
        changed += [place for place, image in pairs[::step][:READ] if self._rewritten(place, image)]
        if changed:
            names = [str(self.infos[place].get('img_path')) for place in dict.fromkeys(changed)]
            raise ValueError(
                f'{WHERE}: the training images must be those in which "{self.results.path}" was '
                f'detected, but {first_of(names, 3, counted=True)} changed since, or have but the '
                'name of one. Label them again.'
            )

    def _pairs(self) -> list[tuple[int, Mapping[str, Any]]]:
        """The images of both, and where they are in the data sets."""
        return [
            (place, image)
            for image in self._listed
            for place in self.of(image.get('id'), image.get('file_name'))
        ]

    def _resized(self, place: int, image: Mapping[str, Any]) -> bool:
        info = self.infos[place]
        sides = [(image.get(key), info.get(key)) for key in ('width', 'height')]
        numbers = (pair for pair in sides if all(isinstance(side, int | float) for side in pair))
        return any(told and own and told != own for told, own in numbers)

    def _rewritten(self, place: int, image: Mapping[str, Any]) -> bool:
        told, path = image.get('sha256'), self._paths[place]
        return bool(told) and path.is_file() and self._digest(place) != told

    def size(self, place: int) -> tuple[Any, Any]:
        """Height and width of an image: of its data set, of the file, or of the image itself."""
        info = self.infos[place]
        if info.get('height') and info.get('width'):
            return info['height'], info['width']
        if self._sizes is None:
            told = self._pairs()
            self._sizes = {i: (image.get('height'), image.get('width')) for i, image in told}
        sides = self._sizes.get(place, (None, None))
        return sides if all(sides) else _size_of(self._paths[place])


def _folders(name: str) -> tuple[str, ...]:
    return tuple(part for part in Path(name).parts[:-1] if part not in ('.', '..'))


def _tails(folders: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The last folders, fewer each time, down to none."""
    return (folders[n:] for n in range(len(folders) + 1))


def _size_of(path: Path) -> tuple[Any, Any]:
    """Height and width of an image as it is shown; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
    except (OSError, ValueError):
        return None, None
    return (width, height) if turned else (height, width)
