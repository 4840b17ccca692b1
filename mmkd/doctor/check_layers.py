"""Layers that are not what a training takes them for: frozen without weights, shared statistics."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkd.checkpoints.loading import kept
from mmkd.config.names import first_of
from mmkd.doctor.report import Section

LAYER_COLUMNS = ('model', 'frozen parameters', 'never loaded')

#: Parts of a detector that find boxes; constants of theirs are no layers to be loaded.
_HEADS = ('head', 'roi_head', 'bbox_head', 'rpn_head', 'mask_head')


def check_layers(section: Section, student: nn.Module) -> None:
    """Layers of the student that are frozen, and were loaded from no file.

    Args:
        section: gets rows of model, frozen parameters, those of them that were never loaded.
        student: after its weights have been initialised and loaded.
    """
    loaded = kept(student)
    frozen = [
        name
        for name, parameter in student.named_parameters()
        if not parameter.requires_grad and name.split('.')[0] not in _HEADS
    ]
    trainable = any(parameter.requires_grad for parameter in student.parameters())
    never = [name for name in frozen if not _is_loaded(name, loaded)] if trainable else []
    section.rows.append(['student', len(frozen), len(never)])
    if never:
        section.warn(
            f'{len(never)} parameters of the student are frozen and were never loaded: '
            f'{first_of(never, 3, counted=True)}. They stay as random as they are.',
            'Set frozen_stages=-1 and norm_cfg.requires_grad=True, or give the backbone weights '
            '(init_cfg=dict(type="Pretrained", checkpoint=...)) or the pair student_ckpt.',
        )


def _is_loaded(name: str, loaded: dict[str, Any]) -> bool:
    for part, found in loaded.items():
        inner = name if not part else name.removeprefix(f'{part}.')
        if (not part or inner != name) and inner not in found.lacking:
            return True
    return False


class SharedNorms:
    """Which BatchNorms of a model are given maps of several sizes in one forward."""

    def __init__(self) -> None:
        self.sizes: dict[tuple[str, str], set[tuple[int, ...]]] = {}

    @contextmanager
    def watch(self, side: str, model: nn.Module) -> Iterator[None]:
        """Look on while a model runs."""
        handles = [
            module.register_forward_pre_hook(self._look((side, name)))
            for name, module in model.named_modules()
            if isinstance(module, _BatchNorm)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _look(self, key: tuple[str, str]) -> Any:
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            own_statistics = module.training or key[0] == 'teacher'
            if args and args[0].dim() == 4 and own_statistics:
                self.sizes.setdefault(key, set()).add(tuple(args[0].shape[2:]))

        return look

    def tell(self, section: Section) -> None:
        """Add a finding for each model with such layers."""
        for side in ('student', 'teacher'):
            found = [n for (of, n), sizes in self.sizes.items() if of == side and len(sizes) > 1]
            if found:
                section.warn(
                    f'{len(found)} BatchNorms of the {side} are shared by levels: '
                    f'{first_of(found, 3, counted=True)}. In training each level has its own '
                    'statistics, in eval all have the mean of them, and boxes become loose.',
                    "Take norm_cfg=dict(type='GN', num_groups=32) there, or a head with a "
                    'BatchNorm for each level (RTMDetSepBNHead, RetinaSepBNHead).',
                )
