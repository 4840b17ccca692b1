"""mAP of teacher and student on the first validation images, as distillation sees them."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Subset

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.checkpoints.data_origin import data_differences
from mmkd.checkpoints.loading import kept
from mmkd.doctor.report import Section
from mmkd.heads import describe_head, predicting_head

#: mAP by which two ways of preprocessing may differ: rounding, and padding of another value.
TOLERANCE = 0.02

#: A teacher below this mAP finds boxes by chance.
LEAST = 0.01

Predict = Callable[[dict[str, Any]], list[Any]]


def check_accuracy(
    section: Section,
    pair: DetectionDistill,
    runner: Runner,
    images: int,
    progress: Callable[[int, int], None],
) -> None:
    """Evaluate the teacher behind the distillation pipeline, and the student.

    Args:
        section: gets rows of model, input, mAP, images.
        pair: the built pair.
        runner: whose ``val_dataloader`` and ``val_evaluator`` are used.
        images: how many, from the first on; 0 leaves this out.
        progress: is told the images done, and of how many.
    """
    cfg = runner.cfg
    if not images or not cfg.get('val_dataloader') or not cfg.get('val_evaluator'):
        section.notes.append('Left out: no validation data, or no image of it asked for.')
        return
    counts = [
        head and describe_head(head).classes
        for _, head in map(predicting_head, (pair.student, pair.teacher))
    ]
    translation: Any = pair.teacher_source.translation
    predictors: dict[tuple[str, str], Predict] = {}
    if counts[0] == counts[1]:
        predictors['teacher', 'through the distillation pipeline'] = through_pipeline(pair)
        if not translation.same_padding:
            predictors['teacher', 'through its own preprocessing'] = through_preprocessor(
                pair.teacher, pair.teacher
            )
    else:
        section.notes.append(
            f'The teacher is left out: it has {counts[1]} classes, the data {counts[0]}.'
        )
    predictors['student', 'at its start'] = through_preprocessor(pair.student, pair)
    loader = first_images(cfg.val_dataloader, images)
    found = evaluate(predictors, loader, runner, progress)
    count = min(images, len(loader.sampler))  # type: ignore[arg-type]
    section.rows += [[*key, value, count] for key, value in found.items()]
    teacher = [value for (model, _), value in found.items() if model == 'teacher']
    if teacher:
        classes = loader.dataset.dataset.metainfo.get('classes')  # type: ignore[attr-defined]
        _judge(section, teacher, found['student', 'at its start'], _told(pair, cfg, classes))


def _told(pair: DetectionDistill, cfg: Mapping[str, Any], classes: Any) -> str:
    """In what the teacher's file says other than the config, as a sentence."""
    loaded = kept(pair.teacher).get('')
    if loaded is None:
        return ''
    found = [*loaded.differences, *data_differences(loaded, cfg, classes)]
    return f' The config has {"; and ".join(map(str, found))}.' if found else ''


def _judge(section: Section, teacher: list[float], student: float, told: str) -> None:
    if teacher[0] < max(student, LEAST):
        section.error(
            f"the teacher's mAP through the distillation pipeline is {teacher[0]:.3f}, the "
            f"student's {student:.3f}: it has nothing to teach.{told}",
            "Give teacher_ckpt a trained teacher of these classes in this order, and the teacher's "
            'model the data_preprocessor (mean, std, bgr_to_rgb) that it was trained with.',
        )
    if len(teacher) > 1 and abs(teacher[0] - teacher[1]) > TOLERANCE:
        section.warn(
            f"the teacher's mAP is {teacher[0]:.3f} on the student's images and {teacher[1]:.3f} "
            'behind its own data_preprocessor.',
            'Bring the data_preprocessor of the student nearer to that of the teacher: the same '
            'pad_size_divisor and pad_value.',
        )


def through_pipeline(pair: DetectionDistill) -> Predict:
    """The teacher's predictions on the student's normalised batch, translated."""
    source: Any = pair.teacher_source

    def predict(batch: dict[str, Any]) -> list[Any]:
        data = pair.data_preprocessor(batch, training=False)
        return pair.teacher(*source.view(data['inputs'], data['data_samples']), mode='predict')

    return predict


def through_preprocessor(model: Any, owner: Any) -> Predict:
    """A detector's predictions behind the preprocessor of ``owner``."""

    def predict(batch: dict[str, Any]) -> list[Any]:
        return model(**owner.data_preprocessor(batch, training=False), mode='predict')

    return predict


def first_images(cfg: Mapping[str, Any], images: int) -> DataLoader[Any]:
    """A data loader, in this process, of the first images of a validation set."""
    dataset = DATASETS.build(cfg['dataset'])
    first = Subset(dataset, range(min(images, len(dataset))))
    kept = {key: cfg[key] for key in ('collate_fn', 'batch_size') if key in cfg}
    sampler = dict(type='DefaultSampler', shuffle=False)
    return Runner.build_dataloader(dict(dataset=first, num_workers=0, sampler=sampler, **kept))


@torch.no_grad()
def evaluate(
    predictors: Mapping[Any, Predict],
    loader: DataLoader[Any],
    runner: Runner,
    progress: Callable[[int, int], None],
) -> dict[Any, float]:
    """mAP of each predictor, by the config's ``val_evaluator``; 0 where nothing is predicted."""
    runner.model.eval()
    evaluators = {key: runner.build_evaluator(runner.cfg.val_evaluator) for key in predictors}
    dataset: Any = loader.dataset
    ids: list[Any] = []
    for batch in loader:
        for key, predict in predictors.items():
            samples = predict(copy.deepcopy(batch))
            evaluators[key].process(samples, batch)
        ids += [sample.metainfo.get('img_id') for sample in samples]
        progress(len(ids), len(dataset))
    found = {}
    for key, evaluator in evaluators.items():
        evaluator.dataset_meta = dataset.dataset.metainfo
        for metric in evaluator.metrics:
            if hasattr(metric, 'img_ids'):  # COCO's metrics count the objects of all images else
                metric.img_ids = ids
        metrics = evaluator.evaluate(len(ids))
        name = next((name for name in metrics if name.endswith('mAP')), next(iter(metrics), None))
        found[key] = max(float(metrics[name]), 0.0) if name else 0.0
    return found
