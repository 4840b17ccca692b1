"""A teacher of which nothing is known but what it detects."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.models import DetDataPreprocessor
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmkd.datasets.data_samples import metas_of
from mmkd.detections.results_file import read_results
from mmkd.detections.student_classes import one_of_each, student_classes
from mmkd.heads.class_map import ClassMap
from mmkd.heads.given import DetectionsHead
from mmkd.teachers.frozen_teacher import check_shuffled

Found = Sequence[tuple[Tensor, Tensor]]  # of each image boxes (n, 4) and scores (n, C)


class GivenDetections(BaseModel):
    """Stands where a pair has its teacher's network, and gives detections in place of maps.

    A recorder ``Predictions`` records them as it records the rows of any head. There is nothing
    else to be recorded.

    Args:
        num_classes: C, how many classes the student has.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(DetDataPreprocessor())
        self.num_classes = num_classes
        self.bbox_head = DetectionsHead(num_classes)
        self.class_map: Mapping[str, str | None] = {}
        self._columns: list[int] | None = None
        #: Of each image of the batch whether it was not looked at; empty if all were.
        self.unseen: Sequence[bool] = ()

    @property
    @abstractmethod
    def known_classes(self) -> tuple[str, ...] | None:
        """The names of all classes that it may find; None where they are not told."""

    def keep(self, columns: Sequence[int]) -> None:
        """Give the scores of some of the student's classes alone, those that it knows."""
        self._columns = list(columns)
        self.bbox_head.num_classes = len(self._columns)

    @property
    @abstractmethod
    def shown(self) -> str:
        """Where its detections come from, for reports."""

    @abstractmethod
    def detect(self, inputs: Tensor, data_samples: Any) -> Found:
        """The detections of each image of a batch (B, C, H, W)."""

    def extract_feat(self, inputs: Tensor) -> Any:
        """There are no features.

        Raises:
            ValueError: always.
        """
        raise ValueError('a teacher of which only detections are known has no features.')

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """The detections of a batch, as the head hands them on."""
        found = []
        for boxes, scores in self.detect(inputs, data_samples):
            kept = scores if self._columns is None else scores[:, self._columns]
            found.append((boxes.to(inputs.device), kept.to(inputs.device)))
        return self.bbox_head(found, self.unseen)


class FileOfDetections(GivenDetections):
    """The teacher is a file: what it detected comes with the batch, augmented as the images are.

    Args:
        num_classes: C.
        file: where the detections are.
        class_map: the student's name for classes that the file calls otherwise.
    """

    def __init__(
        self, num_classes: int, file: str, class_map: Mapping[str, str | None] | None = None
    ) -> None:
        super().__init__(num_classes)
        self.file, self.class_map = file, class_map or {}
        self.batch: Found | None = None

    @property
    def known_classes(self) -> tuple[str, ...] | None:
        """What the file says."""
        found = read_results(self.file) if Path(self.file).is_file() else None
        if found is None or found.classes is None:
            return None
        return tuple(dict.fromkeys([*found.classes, *filter(None, found.names)]))

    @property
    def found_classes(self) -> tuple[str, ...]:
        """The names that its results have, of classes that it may not know alone."""
        found = read_results(self.file) if Path(self.file).is_file() else None
        return () if found is None else tuple(dict.fromkeys(filter(None, found.names)))

    @property
    def shown(self) -> str:
        """The file."""
        return self.file

    def detect(self, inputs: Tensor, data_samples: Any) -> Found:
        """Those of the batch that was preprocessed last."""
        if self.batch is None or len(self.batch) != len(inputs):
            raise ValueError(
                'a batch must bring the detections of its images, but this one has '
                f'{0 if self.batch is None else len(self.batch)} for {len(inputs)} images. Train '
                'with "mmkd train", or call '
                'mmkd.algorithms.build_teacher.begin_teaching(pair, loader) before.'
            )
        return self.batch


class LiveDetections(GivenDetections):
    """The teacher is a program that looks at the student's images as they are, in training.

    Args:
        num_classes: C.
        detector: sees images (H, W, 3), uint8 in BGR order, and knows its ``classes``.
        class_map: the student's name for classes that it calls otherwise.
    """

    def __init__(
        self, num_classes: int, detector: Any, class_map: Mapping[str, str | None] | None = None
    ) -> None:
        super().__init__(num_classes)
        self.detector, self.class_map = detector, class_map or {}
        self.classes: ClassMap | None = None

    @property
    def known_classes(self) -> tuple[str, ...] | None:
        """What the detector says."""
        return tuple(self.detector.classes) or None

    @property
    def shown(self) -> str:
        """The detector."""
        return str(self.detector.name)

    def take_classes(self, classes: Sequence[str]) -> None:
        """Find the partners of the student's classes.

        Raises:
            ValueError: see :meth:`mmkd.heads.class_map.ClassMap.from_names`.
        """
        self.classes = ClassMap.from_names(self.detector.classes, classes, self.class_map)

    def detect(self, inputs: Tensor, data_samples: Any) -> Found:
        """What the detector finds in each image, without the padding around it."""
        if self.classes is None:
            raise ValueError(
                "the names of the student's classes must be known to those of the teacher, but "
                'were not told. Train with "mmkd train", or call '
                'mmkd.algorithms.build_teacher.begin_teaching(pair, loader) before.'
            )
        pixels = inputs.clamp(0, 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        sizes = [meta.get('img_shape', inputs.shape[-2:]) for meta in metas_of(data_samples) or ()]
        images = [
            np.ascontiguousarray(image[: size[0], : size[1]])
            for image, size in zip(pixels, sizes or [inputs.shape[-2:]] * len(pixels), strict=True)
        ]
        found = []
        for one in self.detector(images):
            labels, scores = student_classes(
                self.classes, one.labels, one.scores, one.distribution, self.detector.softmax
            )
            known = labels >= 0
            boxes = np.asarray(one.boxes, np.float32)[known]
            soft = np.full(len(boxes), one.distribution is not None)
            once, sure = one_of_each(boxes, one.labels[known], scores[known], soft)
            found.append((torch.from_numpy(boxes[once]), torch.from_numpy(sure)))
        return found


class FileTeacher:
    """Fills the teacher's recorders with the detections that came with a batch.

    Args:
        model: stands for the teacher.
        preprocessor: the first to get a batch. It does not see the detections, but its
            ``batch_augments`` move them with the ground truth.
        key: of the batch, under which they come.
        shuffle: show each image's detections with the next image. Defaults to False.
    """

    translation = None
    features = None
    crops = ()
    scale = 1.0

    def __init__(
        self, model: FileOfDetections, preprocessor: nn.Module, key: str, shuffle: bool = False
    ) -> None:
        self.model: Any = model.eval()
        self.shuffle, self.key = shuffle, key
        preprocessor.register_forward_pre_hook(self._take)
        for augment in getattr(preprocessor, 'batch_augments', None) or ():
            augment.register_forward_pre_hook(self._join)
            # Of several the last to join is the first to part.
            augment.register_forward_hook(self._part, prepend=True)

    @property
    def parts(self) -> dict[str, 'FileTeacher']:
        """By name the teachers that look: this one."""
        return {'teacher': self}

    def view(self, inputs: Tensor, data_samples: Any = None) -> tuple[Tensor, Any]:
        """The student's batch, which no network looks at."""
        return inputs, data_samples

    def _take(self, preprocessor: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        data = args[0]
        if not isinstance(data, Mapping):
            return None
        given = data.get(self.key)
        self.model.unseen = [one is None for one in given or ()]
        none = torch.zeros(0, 4), torch.zeros(0, self.model.num_classes)
        self.model.batch = None if given is None else [none if g is None else g for g in given]
        return {k: v for k, v in data.items() if k != self.key}, *args[1:]

    @torch.no_grad()
    def __call__(self, inputs: Tensor, data_samples: Any = None) -> Any:
        """Hand on the detections of the student's batch (B, C, H, W)."""
        held, unseen = self.model.batch, self.model.unseen
        if self.shuffle and held is not None:
            check_shuffled(len(held))
            self.model.batch = [*held[-1:], *held[:-1]]
            self.model.unseen = [*unseen[-1:], *unseen[:-1]]
        try:
            return self.model(inputs, data_samples, mode='tensor')
        finally:
            self.model.batch, self.model.unseen = held, unseen

    def _join(self, augment: nn.Module, args: tuple[Any, ...]) -> None:
        """Let a batch augmentation take the detections for ground truth."""
        batch, samples = self.model.batch, args[1]
        if batch is None:
            return
        if isinstance(samples, dict):
            truth = samples['bboxes_labels']
            self._count = len(truth)
            rows = [truth]
            for i, (boxes, _) in enumerate(batch):
                given = truth.new_zeros(len(boxes), truth.size(1))
                given[:, 0], given[:, 2:6] = i, boxes.to(truth)
                rows.append(given)
            samples['bboxes_labels'] = torch.cat(rows)
            return
        self._truth = [sample.gt_instances for sample in samples]
        for sample, (boxes, _) in zip(samples, batch, strict=True):
            own = sample.gt_instances.bboxes
            plain = own if isinstance(own, Tensor) else own.tensor
            joined = torch.cat([plain, boxes.to(plain)])
            both = joined if isinstance(own, Tensor) else type(own)(joined, clone=False)
            sample.gt_instances = InstanceData(bboxes=both)

    def _part(self, augment: nn.Module, args: tuple[Any, ...], outputs: Any) -> None:
        batch, samples = self.model.batch, outputs[1]
        if batch is None:
            return
        if isinstance(samples, dict):
            rows = samples['bboxes_labels']
            samples['bboxes_labels'], rows = rows[: self._count], rows[self._count :]
            moved = rows[:, 2:6].split([len(boxes) for boxes, _ in batch])
        else:
            moved = []
            for sample, truth in zip(samples, self._truth, strict=True):
                both, count = sample.gt_instances.bboxes, len(truth)
                truth.bboxes = both[:count]
                sample.gt_instances = truth
                moved.append(getattr(both, 'tensor', both)[count:])
        self.model.batch = [
            (boxes, scores) for boxes, (_, scores) in zip(moved, batch, strict=True)
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> 'FileTeacher':
        return self
