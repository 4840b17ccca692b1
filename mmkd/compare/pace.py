"""How long the steps of a comparison will take, by a step that is timed beforehand."""

import contextlib
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner

from mmkd.algorithms.build_teacher import begin_teaching
from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.compare.arms import Arm
from mmkd.doctor.check_time import check_time
from mmkd.doctor.report import Section

_START = 8.0  # seconds until a process has imported and built all
_FEW = 4  # images of a step that is timed on a CPU
#: A step without its backward pass, which costs about twice the forward.
_FORWARD = 1 / 3


@dataclass(frozen=True)
class Pace:
    """Seconds for each image.

    Args:
        student: a training step of the student alone.
        teacher: the teacher's forward.
        taught: a training step of the pair.
        loading: one image through the training pipeline, in one process.
        images: of the training set.
        tested: images of the test set.
    """

    student: float
    teacher: float
    taught: float
    loading: float
    images: int
    tested: int

    def training(self, arm: Arm, config: Config) -> float:
        """Seconds that the training of an arm takes, with its validations."""
        loop, loader = config.train_cfg, config.train_dataloader
        epochs = loop.get('max_epochs')
        batch = loader.get('batch_size') or 1
        images = epochs * self.images if epochs else loop.max_iters * batch
        step = self.taught if arm.is_taught else self.student
        step = self.teacher / _FORWARD if arm is Arm.TEACHER else step
        if arm is Arm.LONGER:
            step = self.taught
        workers = loader.get('num_workers', 0)
        step = max(step, self.loading / workers) if workers else step + self.loading
        length = epochs or loop.max_iters
        validations = length // max(loop.get('val_interval', 1), 1)
        return _START + images * step + validations * self.testing(arm)

    def testing(self, arm: Arm) -> float:
        """Seconds that the images of one evaluation take."""
        forward = self.teacher if arm is Arm.TEACHER else self.student * _FORWARD
        return self.tested * (forward + self.loading)

    def evaluation(self, arm: Arm) -> float:
        """Seconds that an evaluation takes."""
        return _START + self.testing(arm)


def measure_pace(pair: DetectionDistill, config: Config, threads: int) -> Pace:
    """Time a step of a pair that was built without its weights.

    Args:
        pair: moved to the GPU if there is one.
        config: of its training.
        threads: that a training will have.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of its loading
        dataset = DATASETS.build(config.train_dataloader.dataset)
        tested = len(DATASETS.build(config.test_dataloader.dataset))
    loader = config.train_dataloader
    size = loader.get('batch_size') or 1
    if not torch.cuda.is_available():
        size = min(size, _FEW)  # there a step takes as long as its images
    kept = {key: loader[key] for key in ('collate_fn',) if key in loader}
    batches = Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=min(size, len(dataset)),
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            **kept,
        )
    )
    begin_teaching(pair, batches)
    begin = time.perf_counter()
    batch: Mapping[str, Any] = next(iter(batches))
    loading = time.perf_counter() - begin
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        if torch.cuda.is_available():
            pair.cuda()
        for _ in range(2):  # the first one finds memory and kernels
            section = Section('Time of a step')
            check_time(section, pair, batch, steps=1)
    finally:
        torch.set_num_threads(before)
        if torch.cuda.is_available():  # its memory is that of the trainings
            pair.cpu()
            torch.cuda.empty_cache()
    found = {row[0]: row[1] for row in section.rows}
    count = len(batch['data_samples'])
    return Pace(
        student=found['student'] / count,
        teacher=found['teacher'] / count,
        taught=found['whole step'] / count,
        loading=loading / count,
        images=len(dataset),
        tested=tested,
    )
