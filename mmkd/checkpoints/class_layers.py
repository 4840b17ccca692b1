"""Weights that fit a detector but for the number of its classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from mmkd.checkpoints.checkpoint_meta import origin
from mmkd.checkpoints.loading import Fit
from mmkd.config.names import first_of
from mmkd.heads import Description, describe_head, predicting_head

#: What a prior or a proposal may have beside its classes: the background, a box with objectness.
_BESIDE = (0, 1, 5)


def other_classes(
    model: nn.Module,
    fit: Fit,
    meta: Mapping[str, Any],
    what: str,
    path: str,
    classes: Sequence[str] = (),
) -> str | None:
    """What to say of a file whose weights are of another number of classes.

    Args:
        model: the detector.
        fit: how its keys and the file's go together.
        meta: of the file.
        what: the config key or the option that names the file.
        path: the file.
        classes: of the model, where they are known. Defaults to none.

    Returns:
        The fault and its remedies; None if something else does not fit, or all fits.
    """
    head = predicting_head(model)[1]
    own = None if head is None else describe_head(head).classes
    if own is None or fit.missing or fit.unexpected or not fit.misshaped:
        return None
    names = origin(meta).classes
    counts = _counts(fit, own, describe_head(head))
    if not counts:
        return None
    count = len(names) if len(names) in counts else counts[0]
    theirs = _listed(names if len(names) == count else ())
    remedy = (
        'Train the teacher on your data first, and name that checkpoint: "mmkd pair" without '
        '--teacher-ckpt writes a config for it, and "mmkd compare" trains it. Or write the pair by '
        f'hand, with a teacher of its own {count} classes and a class_map (docs/any_teacher.md).'
        if 'teacher' in what
        else f'Name a checkpoint of {own} classes, or set num_classes={count} in the config.'
    )
    random = f' {what}_strict=False would leave them random.' if what.endswith('_ckpt') else ''
    return (
        f'{what} must hold weights for the {own} classes of the config{_listed(classes)}, but '
        f'those of "{path}" score {count}{theirs}: all keys fit but the {len(fit.misshaped)} of '
        f'class layers.{random} {remedy}'
    )


def _listed(names: Sequence[str]) -> str:
    return f' ({first_of(names)})' if names else ''


def _counts(fit: Fit, own: int, head: Description) -> list[int]:
    """The numbers of classes that explain each shape; the likeliest first."""
    beside = head.class_channels - own
    each = {1, *head.priors_per_cell, *((4,) if head.rows == 'proposals' else ())}
    found: list[int] | None = None
    for theirs, ours in fit.misshaped.values():
        if isinstance(theirs, str) or not ours or theirs[1:] != ours[1:]:
            return []
        explained = []
        for extra in sorted(_BESIDE, key=lambda extra: extra != beside):
            rows, rest = divmod(ours[0], own + extra)  # priors, or coordinates of a box
            if rows in each and not rest and theirs[0] % rows == 0 and theirs[0] // rows > extra:
                explained.append(theirs[0] // rows - extra)
        found = explained if found is None else [count for count in found if count in explained]
    return [count for count in found or () if count != own]
