"""A teacher that is known by its detections, as a detector of the data that is tested."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from mmengine.structures import InstanceData
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.algorithms.build_teacher import build_given
from mmkd.algorithms.class_names import names_of_given
from mmkd.config.names import first_of
from mmkd.detections.feed import fit_dataset, leaf_datasets
from mmkd.detections.results_file import Results, read_results
from mmkd.detections.student_classes import one_of_each, student_classes
from mmkd.label.detectors import pixels_of
from mmkd.teachers.given_detections import FileOfDetections
from mmkd.teachers.teacher_list import TeacherEntry

RULE = '--teacher measures a file of detections on the images that it looked at'


@MODELS.register_module()
class DetectionsOnData(BaseModel):
    """Gives what a file holds of an image, or what an ONNX file or a function finds in it.

    These are shown the image as its file has it, whatever the test pipeline makes of it. Each
    detection counts with its own class and score, as those of a network do: of two classes that a
    row scores both stay, whatever the scores of all classes beside them.

    Args:
        teacher (dict | str): of a pair: see :mod:`mmkd.config.given_teacher`.
        classes (list[str]): names of the data's classes, in the order of the labels.
        class_map (dict, optional): of its classes. Defaults to None.
        common (dict, optional): that of several teachers. Defaults to None.
    """

    def __init__(
        self,
        teacher: Any,
        classes: Sequence[str],
        class_map: Mapping[str, str | None] | None = None,
        common: Mapping[str, str | None] | None = None,
    ) -> None:
        super().__init__()
        self.none = nn.Parameter(torch.zeros(1))  # several processes ask for one
        entry = TeacherEntry(teacher, class_map=class_map)
        self.given = build_given(entry, len(classes))
        names_of_given(self.given, entry, classes, common)
        self.classes = list(classes)
        self._of_file: dict[str, tuple[Tensor, Tensor]] = {}

    def begin(self, dataset: Any, trained: Any = None) -> list[str]:
        """Find what a file holds of the images of a data set; returns lines for the log.

        Args:
            dataset: that is tested.
            trained: the config of the data set of the training. Defaults to None.

        Raises:
            ValueError: it did not look at all of these images, or may have looked at others.
        """
        if not isinstance(self.given, FileOfDetections):
            self.given.take_classes(self.classes)
            return []
        results = read_results(self.given.file)
        _check_ids(results, dataset, trained)
        try:
            alone = replace(results, distributions=None)
            fitted, tally = fit_dataset(dataset, alone, self.given.class_map)
        except ValueError as error:
            raise ValueError(f'{RULE}, which must be those that are tested. {error}') from None
        if tally.lost or (_by_ids(results) and tally.other_images):
            raise ValueError(
                f'{RULE}, which must be those that are tested, but "{results.path}" '
                + (
                    f'did not look at {tally.lost} of {tally.images}'
                    if tally.lost
                    else f'has {tally.other_images} detections of others'
                )
                + '. Label the test images with "mmkd label", and name that file.'
            )
        for part, found in zip(leaf_datasets(dataset), fitted, strict=True):
            for i in range(len(part)):
                info = part.get_data_info(i)
                boxes, scores = found.of(info)
                self._of_file[str(info.get('img_path'))] = boxes, scores
        return tally.notes(results.path)

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """The samples of a batch, with what is found in each."""
        for sample in data_samples:
            boxes, scores = self._found(sample.get('img_path'))
            surest = scores.max(1) if len(scores) else (scores.new_zeros(0), torch.zeros(0).long())
            sample.pred_instances = InstanceData(bboxes=boxes, scores=surest[0], labels=surest[1])
        return data_samples

    def _found(self, path: Any) -> tuple[Tensor, Tensor]:
        if path is None:
            raise ValueError(
                'the test pipeline must pack img_path, by which the image is known that is '
                "measured. Add 'img_path' to meta_keys of PackDetInputs."
            )
        if isinstance(self.given, FileOfDetections):
            return self._of_file[str(path)]
        [one] = self.given.detector([pixels_of(str(path))])
        assert self.given.classes is not None  # begin() has told them
        labels, scores = student_classes(self.given.classes, one.labels, one.scores)
        known = labels >= 0
        boxes, hard = one.boxes[known].astype('float32'), np.zeros(int(known.sum()), bool)
        once, sure = one_of_each(boxes, one.labels[known], scores[known], hard)
        return torch.from_numpy(boxes[once]), torch.from_numpy(sure)


def _check_ids(results: Results, dataset: Any, trained: Any) -> None:
    """Check that ids of a list of results cannot be those of training images instead.

    Raises:
        ValueError: they can.
    """
    if trained is None or not _by_ids(results):
        return
    try:
        tested, other = _paths(dataset), _paths(DATASETS.build(trained))
    except OSError:  # they are not there where it is only tested
        return
    both = {key for key in results.image_ids if tested.get(key) and other.get(key)}
    doubtful = [key for key in both if tested[key].isdisjoint(other[key])]
    if doubtful:
        raise ValueError(
            f'{RULE}, but of "{results.path}" the image_id {first_of(map(str, doubtful), 3)} may '
            'be that of a test image or of a training image. Give each result its file_name, or '
            'label the test images with "mmkd label", which tells it.'
        )


def _by_ids(results: Results) -> bool:
    """Whether a file tells by ids alone which images it is of."""
    return results.images is None and not all(results.file_names)


def _paths(dataset: Any) -> dict[Any, set[str]]:
    """By image id the files that it is of."""
    found: dict[Any, set[str]] = {}
    for part in leaf_datasets(dataset):
        part.full_init()
        for i in range(len(part)):
            info = part.get_data_info(i)
            found.setdefault(info.get('img_id'), set()).add(str(info.get('img_path')))
    return found
