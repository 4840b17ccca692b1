"""How long and in which batches a detector is trained, by the number of its images."""

import math
from typing import NamedTuple

#: Epochs that did best here: 40 on 205 images of one instrument, 80 on 240 to 300 photographs.
_EPOCHS = {True: (40, 205), False: (80, 240)}
_LEAST, _MOST = 12, 200

#: Steps in an epoch that a batch leaves at least, where there are so many images.
_STEPS = 8

#: Of the steps at most this share, and this many, warm up.
_WARM_UP, _WARM_UP_STEPS = 0.15, 150

#: A teacher is trained so much longer than its student.
_TEACHER = 1.25


class Schedule(NamedTuple):
    """A schedule.

    Args:
        batch: images in a step.
        epochs: of the student.
        teacher_epochs: of the teacher.
        warm_up: steps at the start with a rising rate.
        rate: by which a rate for the recipe's own batch is multiplied.
        why: in words.
    """

    batch: int
    epochs: int
    teacher_epochs: int
    warm_up: int
    rate: float
    why: str


def choose_schedule(images: int, one_instrument: bool, batch: int, factor: float) -> Schedule:
    """Choose a schedule.

    Epochs go down with the square root of the number of images: many images are seen more
    often in all, each of them less often.

    Args:
        images: for training.
        one_instrument: whether their light and place vary little, so that augmentation is weak.
        batch: of the recipe, where there are enough images.
        factor: by which the recipe's epochs differ from those of a small SSD.

    Example:
        >>> choose_schedule(160, False, 16, 1.0)[:4]
        (16, 98, 122, 147)
    """
    epochs, at = _EPOCHS[one_instrument]
    own = min(max(round(epochs * factor * math.sqrt(at / images)), _LEAST), _MOST)
    size = batch
    while size > 2 and images / size < _STEPS:
        size //= 2
    steps = own * math.ceil(images / size)
    kind = 'of one instrument and light' if one_instrument else 'photographs'
    return Schedule(
        size,
        own,
        round(own * _TEACHER),
        min(max(int(steps * _WARM_UP), 1), _WARM_UP_STEPS),
        math.sqrt(size / batch),
        f'{images} training images, {kind}: {steps} steps',
    )
