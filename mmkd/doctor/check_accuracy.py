"""mAP of teacher and student on the first validation images, as distillation sees them."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Subset

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.checkpoints.data_origin import data_differences
from mmkd.checkpoints.loading import kept
from mmkd.doctor.report import Section
from mmkd.heads import describe_head, predicting_head
from mmkd.heads.class_map import ClassMap
from mmkd.teachers.given_detections import GivenDetections

#: mAP by which two ways of preprocessing may differ: rounding, and padding of another value.
TOLERANCE = 0.02

#: A teacher below this mAP finds boxes by chance.
LEAST = 0.01

#: By how much a part of the mAP must be lower to be told; on few objects by more, see `_clearly`.
CLEARLY = 0.05


class Figures(NamedTuple):
    """Of one model: its mAP, and by name its parts, AP75 and the AP of each class."""

    mAP: float
    parts: dict[str, float]


Predict = Callable[[dict[str, Any]], list[Any]]


def check_accuracy(
    section: Section,
    pair: DetectionDistill,
    runner: Runner,
    images: int,
    progress: Callable[[int, int], None],
) -> bool:
    """Evaluate the teacher behind the distillation pipeline, and the student.

    Args:
        section: gets rows of model, input, mAP, images.
        pair: the built pair.
        runner: whose ``val_dataloader`` and ``val_evaluator`` are used.
        images: how many, from the first on; 0 leaves this out.
        progress: is told the images done, and of how many.

    Returns:
        Whether the teacher has weights and, where that was measured, finds objects with them.
    """
    cfg, teachers = runner.cfg, pair.teachers
    models = {name: m for name, m in teachers.items() if not isinstance(m, GivenDetections)}
    trained = all('' in kept(model) for model in models.values())
    if not images or not cfg.get('val_dataloader') or not cfg.get('val_evaluator'):
        section.notes.append('Left out: no validation data, or no image of it asked for.')
        return trained
    count = _classes(pair.student)
    predictors: dict[tuple[str, str], Predict] = {}
    for name in (name for name in teachers if name not in models):
        section.notes.append(
            f'{"The teacher" if len(teachers) == 1 else name} is left out: its detections are '
            'measured by "mmkd test --teacher".'
        )
    for name in models:
        source = pair.teacher_source.parts[name]
        who = 'The teacher' if len(teachers) == 1 else name
        of_teacher, classes = _classes(source.model), pair.class_maps[name]
        if count != of_teacher and classes is None:
            section.notes.append(
                f'{who} is left out: it has {of_teacher} classes, the data {count}.'
            )
        elif '' not in kept(source.model):
            section.notes.append(f'{who} is left out: it is untrained.')
        else:
            predictors[name, 'through the distillation pipeline'] = through_pipeline(pair, name)
            if not (source.translation and source.translation.same_padding):
                own = through_preprocessor(source.model, source.model)
                predictors[name, 'through its own preprocessing'] = _relabelled(own, classes)
    predictors['student', 'at its start'] = through_preprocessor(pair.student, pair)
    loader = first_images(cfg.val_dataloader, images)
    found = evaluate(predictors, loader, runner, progress)
    number = min(images, len(loader.sampler))  # type: ignore[arg-type]
    section.rows += [[*key, value.mAP, number] for key, value in found.items()]
    taught = []
    for name in models:
        teacher = [value for (model, _), value in found.items() if model == name]
        if teacher:
            named = loader.dataset.dataset.metainfo.get('classes')  # type: ignore[attr-defined]
            student, objects = found['student', 'at its start'], objects_of(loader)
            _judge(section, teacher, student, _told(pair, cfg, named), objects)
            taught += teacher
    return trained and all(one.mAP >= LEAST for one in taught)


def _classes(model: Any) -> int | None:
    head = predicting_head(model)[1]
    return head and describe_head(head).classes


def _relabelled(predict: Predict, classes: ClassMap | None) -> Predict:
    return lambda batch: with_own_classes(predict(batch), classes)


def _told(pair: DetectionDistill, cfg: Mapping[str, Any], classes: Any) -> str:
    """In what the teacher's file says other than the config, as a sentence."""
    found = []
    for name, model in pair.teachers.items():
        loaded = kept(model).get('')
        if loaded is not None:
            named = classes if pair.class_maps[name] is None else None
            found += [*loaded.differences, *data_differences(loaded, cfg, named)]
    return f' The config has {"; and ".join(map(str, found))}.' if found else ''


def _judge(
    section: Section,
    teachers: list[Figures],
    student: Figures,
    told: str,
    objects: Mapping[str, int],
) -> None:
    teacher = [one.mAP for one in teachers]
    if teacher[0] < max(student.mAP, LEAST):
        section.error(
            f"the teacher's mAP through the distillation pipeline is {teacher[0]:.3f}, the "
            f"student's {student.mAP:.3f}: it has nothing to teach.{told}",
            "Give teacher_ckpt a trained teacher of these classes in this order, and the teacher's "
            'model the data_preprocessor (mean, std, bgr_to_rgb) that it was trained with.',
        )
    else:
        judge_parts(section, teachers[0], student, objects)
    if len(teacher) > 1 and abs(teacher[0] - teacher[1]) > TOLERANCE:
        section.warn(
            f"the teacher's mAP is {teacher[0]:.3f} on the student's images and {teacher[1]:.3f} "
            'behind its own data_preprocessor.',
            'Bring the data_preprocessor of the student nearer to that of the teacher: the same '
            'pad_size_divisor and pad_value.',
        )


def judge_parts(
    section: Section, teacher: Figures, student: Figures, objects: Mapping[str, int]
) -> None:
    """A teacher that is better in all may be worse in a part, and teach the student that.

    Args:
        section: gets a warning.
        teacher: its figures.
        student: its figures.
        objects: see :func:`objects_of`.
    """
    worse = [
        f'{name} {teacher.parts[name]:.3f} against {value:.3f}'
        for name, value in student.parts.items()
        if value > teacher.parts.get(name, value) + _clearly(name, objects)
    ]
    if worse:
        section.warn(
            f'the teacher is worse than its student in {", ".join(worse)}.',
            'Train the teacher longer or with more data of that kind; a loss on classes or on '
            'boxes alone (docs/methods.md) leaves out what it is bad at.',
        )


def _clearly(part: str, objects: Mapping[str, int]) -> float:
    """By how much a part must be lower: more than by chance in its objects.

    Whether n objects are found differs by chance by 0.5 / sqrt(n) at most; this is twice that.
    """
    count = objects.get('' if part == 'AP75' else part.removeprefix('AP of '), 0)
    return max(CLEARLY, count**-0.5) if count else CLEARLY


def objects_of(loader: DataLoader[Any]) -> Counter[str]:
    """By class the objects on the images of :func:`first_images`, '' for all that count."""
    first: Any = loader.dataset
    found: Counter[str] = Counter()
    classes = first.dataset.metainfo.get('classes')
    for index in first.indices if classes and hasattr(first.dataset, 'get_data_info') else ():
        for item in first.dataset.get_data_info(index).get('instances', ()):
            label = item.get('bbox_label', -1)
            if 0 <= label < len(classes) and not item.get('ignore_flag'):
                found.update(('', classes[label]))
    return found


def through_pipeline(pair: DetectionDistill, name: str = 'teacher') -> Predict:
    """A teacher's predictions on the student's normalised batch, translated."""
    source: Any = pair.teacher_source.parts[name]

    def predict(batch: dict[str, Any]) -> list[Any]:
        data = pair.data_preprocessor(batch, training=False)
        found = source.model(*source.view(data['inputs'], data['data_samples']), mode='predict')
        return with_own_classes(found, pair.class_maps[name])

    return predict


def with_own_classes(samples: list[Any], classes: ClassMap | None) -> list[Any]:
    """A teacher's predictions with the student's labels; those of other classes are left out."""
    if classes is not None:
        for sample in samples:
            found = sample.pred_instances
            places = [-1 if place is None else place for place in classes.places]
            labels = found.labels.new_tensor(places)[found.labels]
            found.labels = labels
            sample.pred_instances = found[labels >= 0]
    return samples


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
) -> dict[Any, Figures]:
    """Figures of each predictor, by the config's ``val_evaluator``; 0 if nothing is predicted."""
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
            if hasattr(metric, 'classwise'):
                metric.classwise = True
        metrics = evaluator.evaluate(len(ids))
        name = next((name for name in metrics if name.endswith('mAP')), next(iter(metrics), None))
        whole = max(float(metrics[name]), 0.0) if name else 0.0
        found[key] = Figures(whole, _parts(metrics))
    return found


def _parts(metrics: Mapping[str, Any]) -> dict[str, float]:
    """AP75 and the classes' AP, by COCO's metric; -1 or NaN without objects."""
    names = {key: key.rpartition('/')[2] for key in metrics}
    parts = {
        'AP75' if name.endswith('mAP_75') else f'AP of {name.removesuffix("_precision")}': key
        for key, name in names.items()
        if name.endswith(('bbox_mAP_75', '_precision'))
    }
    return {name: float(metrics[key]) for name, key in parts.items() if metrics[key] >= 0}
