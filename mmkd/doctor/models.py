"""The two models as they were built: weights, preprocessing, heads. Cheap, without data."""

import ast
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mmkd.algorithm import DetectionDistill, build_detector
from mmkd.checkpoint import load_detector, read_weights
from mmkd.checks import DIFFERENCE
from mmkd.doctor.report import Section


def check_weights(
    section: Section,
    pair: DetectionDistill,
    model_cfg: Mapping,
    classes: Sequence[str] | None = None,
    fresh: bool = True,
) -> None:
    """Share of the keys that hold what their file holds, and what the teacher's file tells.

    Args:
        section: gets rows of model, file, loaded keys, keys, their share.
        pair: the built pair.
        model_cfg: its config.
        classes: names of the data set's classes.
        fresh: whether the student has not been trained or resumed since.
    """
    teacher = _as_loaded(pair, model_cfg)
    for side, model in (('teacher', teacher), ('student', pair.student)):
        path, own = model_cfg.get(f'{side}_ckpt'), model.state_dict()
        if not path:
            section.rows.append([side, 'none: as initialised', 0, len(own), 0.0])
            continue
        if side == 'student' and not fresh:
            section.rows.append([side, 'another since', None, len(own), None])
            continue
        weights, meta = read_weights(model, path, f'{side}_ckpt')
        held = {k for k in own if k in weights and _same(own[k], weights[k])}
        section.rows.append([side, path, len(held), len(own), len(held) / len(own)])
        # BN counters are of no use to a detector: older files lack them.
        lacking = [k for k in own if k not in held and not k.endswith('num_batches_tracked')]
        if lacking:
            section.warn(
                f'{len(lacking)} of {len(own)} keys of the {side} do not hold the weights of '
                f'"{path}": {", ".join(lacking[:3])}...',
                f'Give the checkpoint of this config, or the config of this checkpoint, and '
                f'{side}_ckpt_strict=True.',
            )
        if side == 'teacher':
            _check_origin(section, pair.teacher, meta, classes)
    if not model_cfg.get('teacher_ckpt'):
        section.error(
            'teacher_ckpt is not set: the teacher is untrained.',
            "Set model.teacher_ckpt to the trained teacher's checkpoint.",
        )


def _as_loaded(pair: DetectionDistill, model_cfg: Mapping) -> nn.Module:
    """The teacher with the keys that its file has: a lean one has lost its BatchNorms since."""
    source, path = model_cfg.get('teacher'), model_cfg.get('teacher_ckpt')
    if not path or model_cfg.get('lean_teacher') is None or isinstance(source, nn.Module):
        return pair.teacher
    with torch.random.fork_rng(devices=[]):
        twin = build_detector(deepcopy(source), 'teacher')
    load_detector(twin, path, 'teacher_ckpt', model_cfg.get('teacher_ckpt_strict', True))
    return twin


def _same(own: Tensor, weight: Tensor) -> bool:
    return torch.equal(own.cpu(), weight.to('cpu', own.dtype))


def _check_origin(
    section: Section, teacher: nn.Module, meta: Mapping, classes: Sequence[str] | None
) -> None:
    """What mmengine wrote beside the weights: the training's preprocessing and classes."""
    trained = trained_preprocessor(str(meta.get('cfg', '')))
    own = preprocessing(teacher)
    for key in ('mean', 'std', 'bgr_to_rgb') if trained else ():
        value = trained.get(key, trained.get('rgb_to_bgr', False) if key == 'bgr_to_rgb' else None)
        if own[key] != (_rounded(value) if isinstance(value, list | tuple) else value):
            section.error(
                f"the teacher's data_preprocessor has {key}={own[key]}, but its checkpoint was "
                f'trained with {value}.',
                f'Set {key}={value} in data_preprocessor of the teacher, or give the teacher the '
                'config that it was trained with.',
            )
    dataset_meta = meta.get('dataset_meta') or {}
    names = list(dataset_meta.get('classes', dataset_meta.get('CLASSES', ())))
    same_count = getattr(getattr(teacher, 'bbox_head', None), 'num_classes', None) == len(names)
    if classes and names and same_count and names != list(classes) and len(names) == len(classes):
        add = section.error if set(names) == set(classes) else section.warn
        add(
            f'the teacher was trained on the classes {", ".join(names[:8])}, but the data set has '
            f'{", ".join(classes[:8])}, in this order.',
            'Put metainfo.classes of the data sets into the order of the teacher, or train a '
            'teacher on these classes.',
        )


def trained_preprocessor(config: str) -> dict[str, Any]:
    """``model.data_preprocessor`` in a config's text, which is read, never run.

    Args:
        config: Python text as mmengine writes it into a checkpoint.

    Example:
        >>> trained_preprocessor('model = dict(data_preprocessor=dict(mean=[1.0], type=Unknown))')
        {'mean': [1.0]}
    """
    try:
        tree = ast.parse(config)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', None) == 'model':
            student = _keywords(node.value).get('architecture', node.value)
            found = _keywords(_keywords(student).get('data_preprocessor'))
            return {key: ast.literal_eval(value) for key, value in found.items() if _literal(value)}
    return {}


def _keywords(node: Any) -> dict[str, Any]:
    return (
        {str(item.arg): item.value for item in node.keywords} if isinstance(node, ast.Call) else {}
    )


def _literal(node: ast.AST) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return False
    return True


def preprocessing(model: nn.Module) -> dict[str, Any]:
    """What a detector does to an image, by the names of ``DetDataPreprocessor``'s arguments."""
    own: Any = model.data_preprocessor
    normalised = own._enable_normalize
    return dict(
        mean=_rounded(own.mean.flatten().tolist()) if normalised else None,
        std=_rounded(own.std.flatten().tolist()) if normalised else None,
        bgr_to_rgb=own._channel_conversion,
        pad_size_divisor=own.pad_size_divisor,
        pad_value=own.pad_value,
    )


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f'{value:.5g}') for value in values]


def check_preprocessing(section: Section, pair: DetectionDistill) -> None:
    """Both preprocessings side by side, and how the teacher's input is made of the student's."""
    student, teacher = preprocessing(pair), preprocessing(pair.teacher)
    section.rows += [[key, student[key], teacher[key]] for key in student]
    translation: Any = pair._teacher.translation
    section.notes.append(
        'The teacher sees the batch of the student as it is.'
        if translation.identity
        else 'The teacher sees the batch of the student times '
        f'{_rounded(translation.scale.flatten().tolist())} plus '
        f'{_rounded(translation.shift.flatten().tolist())}'
        + (', its channels swapped.' if translation.swap else '.')
    )


def check_heads(section: Section, pair: DetectionDistill) -> None:
    """Classes, strides, priors and coders, student against teacher."""
    heads: list[Any] = [getattr(model, 'bbox_head', None) for model in (pair.student, pair.teacher)]
    section.rows += [
        ['model', type(pair.student).__name__, type(pair.teacher).__name__, None],
        [
            'parameters',
            *(sum(p.numel() for p in m.parameters()) for m in (pair.student, pair.teacher)),
            None,
        ],
    ]
    if None in heads:
        section.notes.append('Heads are left out: a model without bbox_head.')
        return
    describe = {
        'head': lambda head: type(head).__name__,
        'classes': lambda head: getattr(head, 'num_classes', None),
        'strides': lambda head: _of_priors(head, 'strides'),
        'priors per cell': lambda head: _of_priors(head, 'num_base_priors'),
        'priors': lambda head: _name(getattr(head, 'prior_generator', None)),
        'coder': lambda head: _name(getattr(head, 'bbox_coder', None)),
    }
    for name, of in describe.items():
        same = not DIFFERENCE[name](*heads) if name in DIFFERENCE else of(heads[0]) == of(heads[1])
        section.rows.append([name, *map(of, heads), same])


def _of_priors(head: nn.Module, attribute: str) -> Any:
    found = getattr(getattr(head, 'prior_generator', None), attribute, None)
    return [v[0] if isinstance(v, tuple) and v[0] == v[-1] else v for v in found] if found else None


def _name(module: Any) -> str | None:
    return None if module is None else type(module).__name__
