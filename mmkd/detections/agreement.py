"""Whether a file's detections lie on the objects that are annotated, and have their classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmkd.detections.feed import leaf_datasets
from mmkd.detections.fitted import FittedResults
from mmkd.detections.following import DETECTIONS
from mmkd.detections.results_file import WHERE
from mmkd.heads.fusion import overlaps

IMAGES = 400  # so many of a data set, evenly spread, are looked at
SAME = 0.5  # overlap from which on a detection shows an object
FEW = 20  # objects that tell something
LEAST = 0.1  # the part of them below which something is likely to be wrong


@dataclass
class Agreement:
    """What a file's detections are of the annotated objects, in images where it has something.

    Objects of classes of which it has no detection do not count, nor those that are to be ignored.

    Args:
        objects: how many there are.
        found: of how many the surest detection that overlaps them by half has their class.
        called_otherwise: of how many it has another.
    """

    objects: int = 0
    found: int = 0
    called_otherwise: int = 0

    def note(self, path: str) -> str:
        """A line for the log; '' where too little is known."""
        if not self.objects:
            return ''
        return (
            f'{WHERE}: "{path}" finds {self.found} of {self.objects} annotated objects, and '
            f'{self.called_otherwise} more that it takes for another class'
        )

    def warning(self, path: str) -> str:
        """What may be wrong, where hardly anything fits; '' else."""
        if self.objects < FEW or self.found >= LEAST * self.objects:
            return ''
        if self.called_otherwise > self.objects / 2:
            remedy = (
                'Its boxes fit, so its classes may be counted from another number or in another '
                'order: give each result its category_name, or name them by class_map.'
            )
        else:
            remedy = (
                'Its boxes may be of another form: write x, y, width and height, in pixels of the '
                'image as it is in its file.'
            )
        return f'{self.note(path)}. If its detector is no worse than that, correct it. {remedy}'


def compare_with_truth(dataset: Any) -> list[Agreement]:
    """Compare what files have of the images of a data set with the annotations.

    Args:
        dataset: has been given its detections: :func:`mmkd.detections.feed.give_detections`.

    Returns:
        Of each file, in order.
    """
    found: list[Agreement] = []
    for part in leaf_datasets(dataset):
        held = vars(part).get(DETECTIONS)
        files = [] if held is None else getattr(held, 'files', [held])
        found += [Agreement() for _ in range(len(files) - len(found))]
        infos = [part.get_data_info(i) for i in range(0, len(part), max(len(part) // IMAGES, 1))]
        for file, agreement in zip(files, found, strict=False):
            _count(file, infos, agreement)
    return found


def _count(file: FittedResults, infos: list[Any], agreement: Agreement) -> None:
    """Add what a file has of some images."""
    given = [[part.numpy() for part in file.of(info)] for info in infos]
    known = {label for _, scores in given for label in scores.argmax(1)} if given else set()
    for info, (boxes, scores) in zip(infos, given, strict=True):
        order = np.argsort(-scores.max(1, initial=0), kind='stable')
        for one in info.get('instances') or () if len(order) else ():
            label, box = one.get('bbox_label'), np.asarray(one.get('bbox', ()), float)
            if one.get('ignore_flag') or label not in known or box.shape != (4,):
                continue
            agreement.objects += 1
            on_it = overlaps(box, boxes[order]) >= SAME
            if on_it.any():
                same = scores[order][on_it.argmax()].argmax() == label
                agreement.found += int(same)
                agreement.called_otherwise += int(not same)
