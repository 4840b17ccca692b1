"""Which image of a data set each detection of a file is of."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkd.checkpoints.fetch import sha256_of
from mmkd.config.names import first_of
from mmkd.detections.results_file import WHERE, Results

#: So many images, evenly spread, are read before a run, to see whether they are those that were
#: looked at. Of all others their size is compared.
READ = 8


class Places:
    """The images of a data set that a file's detections are of.

    Args:
        infos: what the data set knows of each image.
        results: of the file.
    """

    def __init__(self, infos: Sequence[Mapping[str, Any]], results: Results) -> None:
        self.infos, self.results = infos, results
        self._by_id = {info.get('img_id'): i for i, info in enumerate(infos)}
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for i, info in enumerate(infos):
            self._by_name[os.path.basename(str(info.get('img_path')))].append(i)
        self._listed = [image for image in results.images or () if isinstance(image, Mapping)]
        self._named = {image.get('id'): image.get('file_name') for image in self._listed}

    def rows(self) -> dict[int, list[int]]:
        """By the place of an image, the results that are of it."""
        found = defaultdict(list)
        known: dict[tuple[Any, str | None], int | None] = {}
        keys = zip(self.results.image_ids, self.results.file_names, strict=True)
        for row, key in enumerate(keys):
            if key not in known:
                known[key] = self.of(*key)
            place = known[key]
            if place is not None:
                found[place].append(row)
        return found

    def of(self, image_id: Any, name: str | None) -> int | None:
        """The place of an image, by its file name or else its id; None where it is not there."""
        name = name or self._named.get(image_id)
        if not name:
            return self._by_id.get(image_id)
        wanted = Path(name).parts
        same = self._by_name.get(wanted[-1], []) if wanted else []
        if len(same) > 1:  # of files of one name, the one in folders of that name
            paths = {i: Path(str(self.infos[i]['img_path'])).parts for i in same}
            same = [i for i in same if paths[i][-len(wanted) :] == wanted]
        if len(same) > 1:
            own = self._by_id.get(image_id)
            return own if own in same else None
        return same[0] if same else None

    def not_looked_at(self) -> int:
        """How many images of the data set the file does not list, if it lists any."""
        if self.results.images is None:
            return 0
        return len(self.infos) - len({place for place, _ in self._pairs()})

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
                f'detected, but {first_of(names, 3, counted=True)} changed since. Label them again.'
            )

    def _pairs(self) -> list[tuple[int, Mapping[str, Any]]]:
        """The images of both, and where they are in the data set."""
        placed = [
            (self.of(image.get('id'), image.get('file_name')), image) for image in self._listed
        ]
        return [(place, image) for place, image in placed if place is not None]

    def _resized(self, place: int, image: Mapping[str, Any]) -> bool:
        info = self.infos[place]
        sides = [(image.get(key), info.get(key)) for key in ('width', 'height')]
        return any(told and own and told != own for told, own in sides)

    def _rewritten(self, place: int, image: Mapping[str, Any]) -> bool:
        told = image.get('sha256')
        path = Path(str(self.infos[place].get('img_path')))
        return bool(told) and path.is_file() and sha256_of(path) != told
