"""What the steps of a comparison have left behind."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from mmkd.algorithms.build_detector import build_detector
from mmkd.compare.arms import Arm
from mmkd.compare.comparison import Comparison
from mmkd.compare.configs import digest, evaluators
from mmkd.compare.detector import Detector
from mmkd.compare.measure.evidence import Evidence, evidence_of, read_samples
from mmkd.compare.other_work import was_disturbed
from mmkd.compare.report.results import key_of
from mmkd.compare.report.run import Run, read_run


def runs_of(comparison: Comparison, detectors: Sequence[Detector] | None = None) -> list[Run]:
    """The runs of the detectors that have been evaluated; by default all."""
    detectors = comparison.detectors if detectors is None else detectors
    parameters = {
        name: sum(
            p.numel() for p in build_detector(str(comparison.path(f'test_{name}'))).parameters()
        )
        for name in {detector.test for detector in detectors}
    }
    return [
        read_run(
            d.arm,
            d.seed,
            parameters[d.test],
            d.folder if d.trained else None,
            d.folder / 'test',
            disturbed=is_disturbed(comparison, d),
        )
        for d in detectors
    ]


def is_disturbed(comparison: Comparison, detector: Detector) -> bool:
    """Whether other work ran beside the training of a detector."""
    return was_disturbed(comparison.work_dir / f'logs/{detector.folder.name}-train.load')


def look_closer(comparison: Comparison, runs: Sequence[Run], errors: bool = True) -> Evidence:
    """What the predictions of runs show image by image.

    Raises:
        ValueError: they do not give the mAP that was reported.
    """
    config = comparison.tests['student']
    init_default_scope(config.get('default_scope', 'mmdet'))
    metrics = evaluators(config)
    coco = [metric for metric in metrics if 'CocoMetric' in str(metric['type'])]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of its loading
        meta = DATASETS.build(config.test_dataloader.dataset).metainfo
    reported = {key_of(run): run.map for run in runs}
    files = {(d.arm, d.seed): d.predictions for d in comparison.detectors}
    return evidence_of(
        {key: files[key] for key in reported}, reported, (coco or metrics)[0], meta, errors
    )


def settings_of(comparison: Comparison) -> dict[str, Any]:
    """What was compared, for the report; no paths."""
    loop, loader = comparison.pair.train_cfg, comparison.pair.train_dataloader
    length = {key: loop[key] for key in ('max_epochs', 'max_iters') if key in loop}
    digests = {name: digest(config) for name, config in comparison.configs.items()}
    teacher, told = comparison.teacher, 'given'
    if teacher is None:
        told = 'given, not evaluated here'
    elif teacher.trained:
        told = 'trained here'
    return dict(
        pair=comparison.name,
        seeds=comparison.seeds,
        teacher=told,
        **length,
        batch_size=loader.get('batch_size'),
        learning_rate={arm: _rate(config) for arm, config in comparison.configs.items()},
        image_size=_image_size(comparison),
        config_digests=digests,
    )


def _rate(config: Any) -> str:
    optimizer = (config.get('optim_wrapper') or {}).get('optimizer') or {}
    return f'{optimizer.get("lr")} ({optimizer.get("type")})'


def _image_size(comparison: Comparison) -> str:
    """Width and height of the test images as the student sees them."""
    [detector, *_] = [d for d in comparison.detectors if d.arm is Arm.BASELINE]
    shapes = sorted(
        {tuple(sample['img_shape'][:2]) for sample in read_samples(detector.predictions)}
    )
    sizes = [f'{width}x{height}' for height, width in shapes]
    return sizes[0] if len(sizes) == 1 else f'{len(sizes)} sizes, {sizes[0]} to {sizes[-1]}'
