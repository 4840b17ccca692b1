"""Distillation losses, one file each; a file that is put here is imported with the others.

``forward(preds_S, preds_T, ...)`` takes a map or a list of levels and returns one scalar: the
weighted total, to be back-propagated. Its parts and statistics are left, detached, in the
attribute ``logs`` (a dict of scalars, new at every forward, keys without "loss"), from which the
algorithm logs them. Teacher tensors never receive a gradient; float16 and bfloat16 are computed
in float32.

All else that is asked of a loss it says itself, in attributes of its class: ``statistics``, what
each item of ``logs`` means (:class:`mmkd.losses.statistic.Statistic`); ``idle_without``, the one
at whose 0 a batch has nothing to teach; ``needs_equal``, what student and teacher must have in
common (:mod:`mmkd.rules.distiller_rules`); ``softmax_scores`` and others of
:mod:`mmkd.rules.loss_facts`; ``teacher_reads``, the codec in which a teacher cache may keep an
argument (:mod:`mmkd.cache.codecs`); ``joins_teachers``, whether it takes the rows of several
teachers at once (:mod:`mmkd.binding.several_teachers`).
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from mmrazor.registry import MODELS
from torch import nn


def _registered() -> dict[str, type[nn.Module]]:
    """The losses of this folder by name; importing their modules registers them."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f'{__name__}.{module.name}')
    found = {
        name: cls
        for name, cls in MODELS.module_dict.items()
        if cls.__module__.startswith(f'{__name__}.')
    }
    return dict(sorted(found.items()))


_LOSSES = _registered()
globals().update(_LOSSES)
__all__ = list(_LOSSES)

if TYPE_CHECKING:  # the names are not known before they are looked for

    def __getattr__(name: str) -> type[nn.Module]: ...
