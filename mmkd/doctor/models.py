"""The two models as they were built: weights, preprocessing, heads. Cheap, without data."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.binding.class_feeds import tell
from mmkd.checkpoints.data_origin import data_differences
from mmkd.checkpoints.loading import Loaded, kept
from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.checkpoints.weight_meaning import shown
from mmkd.config.names import first_of
from mmkd.doctor.report import Section
from mmkd.heads import Description, describe_head, predicting_head
from mmkd.heads.class_map import ClassMap
from mmkd.rules.distiller_rules import DIFFERENCE
from mmkd.teachers.given_detections import FileOfDetections, GivenDetections


def check_weights(
    section: Section,
    pair: DetectionDistill,
    config: Mapping[str, Any],
    classes: Sequence[str] | None = None,
    told: bool = False,
) -> None:
    """Share of the keys that hold what their file holds, and what the files tell.

    Args:
        section: gets rows of model or part, file, loaded keys, keys, their share.
        pair: the built pair, whose models keep what they were loaded with.
        config: of the run.
        classes: names of the data set's classes.
        told: whether it has been said why the teacher has no weights.
    """
    for side, model in [*pair.teachers.items(), ('student', pair.student)]:
        named = None if pair.class_maps.get(side) is not None else classes
        found = kept(model)
        if isinstance(model, GivenDetections):
            section.rows.append([side, model.shown, 0, 0, None])
            continue
        if '' not in found:
            section.rows.append([side, 'none: as initialised', 0, len(model.state_dict()), 0.0])
        for part, loaded in found.items():
            name = f'{side}.{part}' if part else side
            section.rows.append([name, loaded.path, loaded.fit, loaded.total, loaded.share])
            _check_loaded(section, name, loaded)
            if not part:
                _check_origin(section, side, loaded, config, named)
    untrained = [
        name
        for name, model in pair.teachers.items()
        if '' not in kept(model) and not isinstance(model, GivenDetections)
    ]
    if untrained and not told:
        which = 'the teacher' if len(pair.teachers) == 1 else ', '.join(untrained)
        section.error(
            f'teacher_ckpt is not set: {which} is untrained.',
            "Set model.teacher_ckpt to the trained teacher's checkpoint.",
        )


def _check_loaded(section: Section, name: str, loaded: Loaded) -> None:
    # load_from and init_cfg may mean it: a head of other classes, layers of the detector's own.
    if loaded.lacking and loaded.what.endswith('_ckpt'):
        section.warn(
            f'{len(loaded.lacking)} of {loaded.total} keys of the {name} do not hold the weights '
            f'of "{loaded.path}": {first_of(loaded.lacking, 3, counted=True)}.',
            'Give the checkpoint of this config, or the config of this checkpoint, and '
            f'{loaded.what}_strict=True.',
        )


def _check_origin(
    section: Section,
    side: str,
    loaded: Loaded,
    config: Mapping[str, Any],
    classes: Sequence[str] | None,
) -> None:
    """What stands beside the weights: the training's model, preprocessing, classes and scale."""
    for one in loaded.differences:
        add = section.error if one.clear and side != 'student' else section.warn
        add(f'the {side} has {one}.', one.change.format(model=f'the {side}'))
    for one in data_differences(loaded, config, classes):
        add = section.error if one.clear and side != 'student' else section.warn
        add(f'beside the {side} the data has {one}.', one.change)


def preprocessing(model: nn.Module) -> dict[str, Any]:
    """What a detector does to an image, by the names of ``DetDataPreprocessor``'s arguments."""
    return {
        key: shown(value.flatten().tolist()) if isinstance(value, Tensor) else value
        for key, value in vars(Preprocessing.of(model.data_preprocessor)).items()
    }


def check_preprocessing(section: Section, pair: DetectionDistill) -> None:
    """All preprocessings side by side, and how a teacher's input is made of the student's."""
    student = preprocessing(pair)
    several = len(pair.teachers) > 1
    for name, source in pair.teacher_source.parts.items():
        who = name if several else 'The teacher'
        if source.translation is None:
            section.notes.append(f'{who} sees no image: its detections come with the batch.')
            continue
        teacher = preprocessing(source.model)
        for key in student:
            row = key if not several else f'{key} ({name})'
            section.rows.append([row, student[key], teacher[key]])
        translation: Any = source.translation
        section.notes.append(
            f'{who} sees the batch of the student as it is.'
            if translation.identity
            else f'{who} sees the batch of the student times '
            f'{shown(translation.scale.flatten().tolist())} plus '
            f'{shown(translation.shift.flatten().tolist())}'
            + (', its channels swapped.' if translation.swap else '.')
        )
        if source.scale != 1:
            section.notes.append(f'{who} sees the images at {source.scale:g} times their size.')


def paired_classes(
    pair: DetectionDistill, classes: Sequence[str] | None = None
) -> dict[str, ClassMap]:
    """By teacher which of its classes is which of the student's, where they are not the same.

    Args:
        pair: the built pair.
        classes: names of the data set's classes.
    """
    found = {}
    for name, paired in pair.class_maps.items():
        model: Any = pair.teachers.get(name)
        known = model.known_classes if isinstance(model, GivenDetections) else None
        named = pair.class_names.get(name)
        own = classes or (named.student if named is not None else None)
        said = getattr(model, 'class_map', None)
        if known is None and own and isinstance(model, FileOfDetections):
            # A list of results teaches all classes, whichever it has found.
            found_there = model.found_classes
            pairs = (said or {}).items()
            said = {k: v for k, v in pairs if k in found_there and v in (None, *own)}
            partners = {said.get(one, one) for one in found_there}
            known = (*found_there, *(one for one in own if one not in partners))
        if known and own:  # its detections come with the student's classes
            told = ClassMap.from_names(known, own, said)
            paired = None if paired is None and told.identity else told
        if paired is not None:
            found[name] = paired
    return found


def check_classes(
    section: Section, pair: DetectionDistill, classes: Sequence[str] | None = None
) -> None:
    """Which classes of a teacher are which of the student, and what is left out."""
    for name, found in paired_classes(pair, classes).items():
        owned = getattr(pair.class_names[name], 'only', None)
        for own, partners in found.partners():
            shown_partners = partners if owned is None or own in owned else []
            row = own if len(pair.class_maps) == 1 else f'{own} ({name})'
            section.rows.append([row, shown_partners or None])
        who = '' if len(pair.class_maps) == 1 else f'{name}: '
        section.notes += [f'{who}{line[0].upper()}{line[1:]}.' for line in tell(found)]


def check_heads(section: Section, pair: DetectionDistill) -> None:
    """The heads that both predict with, student against teacher, in the terms of all heads."""
    several = len(pair.teachers) > 1
    for name, model in pair.teachers.items():
        rows = Section('')
        _compare_heads(rows, pair.student, model)
        section.rows += [[f'{row[0]} ({name})', *row[1:]] if several else row for row in rows.rows]
        section.notes += rows.notes


def _compare_heads(section: Section, student: nn.Module, teacher: nn.Module) -> None:
    models = (student, teacher)
    heads = [predicting_head(model)[1] for model in models]
    section.rows += [
        ['model', *(type(model).__name__ for model in models), None],
        ['parameters', *(sum(p.numel() for p in m.parameters()) for m in models), None],
    ]
    if any(head is None for head in heads):
        section.notes.append('Heads are left out: a model without one that finds boxes.')
        return
    known = [describe_head(head) for head in heads]
    for name, of in {
        'head': lambda head: head.name,
        'rows': lambda head: head.rows,
        'classes': lambda head: head.classes,
        'scores': _scores,
        'strides': lambda head: head.strides or None,
        'priors per cell': lambda head: head.priors_per_cell or None,
        'priors': lambda head: _name(head.priors),
        'coder': lambda head: _name(head.coder),
    }.items():
        same = not DIFFERENCE[name](*heads) if name in DIFFERENCE else of(known[0]) == of(known[1])
        section.rows.append([name, *map(of, known), same])


def _scores(head: Description) -> str | None:
    """By what the head ranks."""
    if head.sigmoid is None:
        return None
    return ('sigmoid' if head.sigmoid else 'softmax') + (f' x {head.factor}' if head.factor else '')


def _name(module: Any) -> str | None:
    return None if module is None else type(module).__name__
