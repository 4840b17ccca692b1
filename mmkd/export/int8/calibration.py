"""The images by which ranges are found: of the training set, and of no other."""

from os.path import realpath
from pathlib import Path

from mmkd.datasets.image_paths import MEASURED, image_paths
from mmkd.export.trained import Trained

#: How many images the ranges are taken from.
CALIBRATION = 200


def calibration_images(trained: Trained, count: int = CALIBRATION) -> list[str]:
    """Images of the training set, spread evenly over it; none that a figure is measured on.

    Only their places are taken from the data set. They are prepared as the file prepares each
    image, which is what the test pipeline does, so no augmentation widens the ranges.

    Args:
        trained: the detector with its config.
        count: how many; all, if there are fewer.

    Raises:
        ValueError: the config has no training set, or all of its images are validation images.
        FileNotFoundError: the training set is not here.
    """
    loader = trained.config.get('train_dataloader')
    if not loader or not loader.get('dataset'):
        raise ValueError(
            '--int8 takes the ranges of its numbers from the training set, so the config must have '
            'a train_dataloader, but has none. Give the config of the training: CONFIG CHECKPOINT.'
        )
    measured = {realpath(path) for key in MEASURED for path in _paths(trained, key, lost=True)}
    given = _paths(trained, 'train_dataloader')
    paths = [path for path in dict.fromkeys(given) if realpath(path) not in measured]
    if not paths:
        raise ValueError(
            '--int8 takes the ranges of its numbers from training images, never from those that '
            f'the mAP is measured on, but each of the {len(given)} images of train_dataloader is '
            'in val_dataloader or test_dataloader. Split the data: "mmkd data split".'
        )
    chosen = (
        paths if len(paths) <= count else [paths[i * len(paths) // count] for i in range(count)]
    )
    missing = [path for path in chosen if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(
            f'--int8 takes the ranges of its numbers from the training set, but its image '
            f'"{missing[0]}" is not here. Correct train_dataloader.dataset.data_root.'
        )
    return chosen


def _paths(trained: Trained, key: str, lost: bool = False) -> list[str]:
    """The images of a data set; none of one that is missing, if it may be ``lost``."""
    try:
        return image_paths(trained.config, key, trained.scope, lost)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            '--int8 takes the ranges of its numbers from the training set, which is not here '
            f'({error.filename or error}). Correct train_dataloader.dataset, or get the data.'
        ) from error
