"""What each loss is really fed, step by step, and whether it teaches.

A mapping says where an argument comes from; what arrives is known only in the step.
"""

import re
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import Tensor, nn

from mmkd.algorithms.gradient_balance import GRADIENT_SCALE
from mmkd.algorithms.term_values import reduced
from mmkd.connectors.adapter_text import adapter_text
from mmkd.geometry.multi_level_maps import describe
from mmkd.heads import Predictions
from mmkd.heads.obj_rows import ObjRows
from mmkd.rules.loss_facts import author, needs
from mmkd.rules.paired_arguments import paired_arguments
from mmkd.rules.side import side_of


class LossWatch:
    """Looks at the losses of a distiller as they are called.

    Args:
        distiller: the built distiller.
        settings: its config, or itself.
    """

    def __init__(self, distiller: Any, settings: Any = None) -> None:
        configs = settings.get('distill_losses') if isinstance(settings, Mapping) else None
        self._needs: dict[str, str] = {}
        self._same = False  # whether student and teacher gave the loss the same
        self._pairs: dict[str, list[tuple[str, str]]] = {}
        self._feeders: dict[str, dict[str, str]] = {}
        #: The loss that is being computed, and what it was fed, in words.
        self._now: tuple[str, str] | None = None
        #: The connector by which what it was fed would fit, as a sentence.
        self._adapter = ''
        #: The losses whose gradient is looked at where their value is 0; a GPU waits for that.
        self.suspects: set[str] = set()
        #: Of each suspect, in the last step: 'works', 'idle', or 'excused' where the loss says that
        #: the batch has nothing to teach.
        self.found: dict[str, str] = {}
        mappings = getattr(distiller, 'loss_forward_mappings', {})
        for name, loss in getattr(distiller, 'distill_losses', {}).items():
            mapping = mappings.get(name, {})
            self._needs[name] = needs(loss, (configs or {}).get(name))
            self._pairs[name] = paired_arguments(mapping)
            self._feeders[name] = {key: _feeder(record) for key, record in mapping.items()}
            before, after = _Call(self, name, '_before'), _Call(self, name, '_after')
            loss.register_forward_pre_hook(before, with_kwargs=True)
            loss.register_forward_hook(after, with_kwargs=True)

    def compute(self, distiller: Any) -> dict[str, Any]:
        """The distiller's terms.

        Raises:
            ValueError: a mapping takes the first of several records without saying so, student
                and teacher feed a loss maps that do not fit each other, or a loss fails on what
                it is fed.
        """
        _check_records(distiller)
        try:
            return distiller.compute_distill_losses()
        except ValueError as error:  # of a loss of mmkd, which knows of shapes, but of no connector
            if 'channels' not in str(error) or self._adapter in str(error):
                raise
            raise ValueError(f'{error}{self._adapter}') from error
        except (AssertionError, IndexError, TypeError, AttributeError, RuntimeError) as error:
            about_shapes = re.search('size|shape|dimension|channel', str(error))
            if self._now is None or (isinstance(error, RuntimeError) and not about_shapes):
                raise
            loss, fed = self._now
            where = f'distill_losses.{loss}'
            line = traceback.extract_tb(error.__traceback__)[-1].line
            kind, claim = type(distiller.distill_losses[loss]).__name__, str(error) or line
            raise ValueError(
                f'{where} ({kind}) must be fed what it can work on, but got {fed}, and '
                f'{type(error).__name__} came of it: {claim}. Map its arguments to records of the '
                f'form that it takes.{self._adapter}'
            ) from error
        finally:
            self._now = None
            self._adapter = ''

    def _before(self, name: str, loss: nn.Module, fed: Mapping[str, Any]) -> None:
        feeders = self._feeders[name]
        words = [f'{k} {describe(v)} from {feeders.get(k, "?")}' for k, v in fed.items()]
        self._now = (name, ', '.join(words))
        self._adapter = _adapter(name, self._pairs[name], fed, feeders)
        # Before, since a loss may write over what the teacher recorded.
        self._same = name in self.suspects and _alike(self._pairs[name], fed)
        for own, other in self._pairs[name]:
            if own in fed and other in fed and _differ(fed[own], fed[other], self._needs[name]):
                where = f'distill_losses.{name}'
                own_class = self._needs[name] == 'no broadcast' and author(loss) != 'mmdet'
                raise ValueError(
                    f'{where} ({type(loss).__name__}) must get maps that fit each other from '
                    f'student and teacher, level by level, but got {own} {describe(fed[own])} '
                    f'from {feeders[own]} and {other} {describe(fed[other])} from '
                    f'{feeders[other]}. {_REMEDY.get(type(loss).__name__, _OTHER_REMEDY)}'
                    f'{self._adapter}'
                    f'{_REMEDY_IN_THE_CLASS if own_class else ""}'
                )

    def _after(self, name: str, loss: nn.Module, fed: Mapping[str, Any], term: Any) -> None:
        self._now = None
        if name not in self.suspects or not torch.is_grad_enabled():
            return
        if _teaches(term, fed):
            self.found[name] = 'works'
        else:
            self.found[name] = 'excused' if self._same or excused(loss) else 'idle'


_OTHER_REMEDY = (
    'Map both to levels of the same stride and number (data_idx, record_idx), or give one side a '
    'connector, such as FeatureAdapter, which adapts channels and strides.'
)
_REMEDY_IN_THE_CLASS = (
    ' If the loss brings them to one shape itself, accepts_other_shapes = True in its class says '
    'so.'
)
_REMEDY = {
    'PKDLoss': f'{_OTHER_REMEDY} If the loss is meant to resize one level of each pair, write '
    'resize_stu=True or False into its config.'
}


def _adapter(
    loss: str, pairs: list[tuple[str, str]], fed: Mapping[str, Any], feeders: Mapping[str, str]
) -> str:
    """For the first pair of maps of other shapes that no connector has been at."""
    for own, other in pairs:
        if ' by connectors.' in f'{feeders.get(own)} {feeders.get(other)}':
            continue
        maps = fed.get(own), fed.get(other)
        text = adapter_text(*maps) if describe(maps[0]) != describe(maps[1]) else ''
        if text:
            return (
                f' For features: connectors=dict(adapter={text}) in the distiller, and '
                f"connector='adapter' in loss_forward_mappings.{loss}.{own}."
            )
    return ''


def _alike(pairs: list[tuple[str, str]], fed: Mapping[str, Any]) -> bool:
    """Whether a student that can learn gives what its teacher gives, as one that starts from it."""
    maps = [[list(_tensors(fed.get(key))) for key in pair] for pair in pairs]
    return bool(maps) and all(
        len(own) == len(other) > 0
        and all(s.requires_grad and torch.equal(s, t) for s, t in zip(own, other, strict=True))
        for own, other in maps
    )


def excused(loss: nn.Module) -> bool:
    """Whether a loss says of the batch that it was called on that there was nothing to teach.

    By the item of its ``logs`` that ``idle_without`` names; or by ``untold``, where its teacher has
    looked at none of the images.
    """
    if getattr(loss, 'untold', False):
        return True
    statistic = getattr(loss, 'idle_without', None)
    return bool(statistic) and float(getattr(loss, 'logs', {}).get(statistic, 1.0)) == 0


class _Call:
    """A forward hook on one loss; a class, so that a model with it can be copied and pickled."""

    def __init__(self, watch: LossWatch, name: str, method: str) -> None:
        self.watch, self.name, self.method = watch, name, method

    def __call__(
        self, loss: nn.Module, args: tuple[Any, ...], fed: dict[str, Any], *term: Any
    ) -> None:
        getattr(self.watch, self.method)(self.name, loss, fed, *term)


def _feeder(record: Mapping[str, Any]) -> str:
    side = side_of(record)
    items = [f'{key}={record[key]}' for key in ('record_idx', 'data_idx') if key in record]
    connector = [f'by connectors.{record["connector"]}'] if record.get('connector') else []
    words = [f'{side}_recorders.{record.get("recorder")}', *items, *connector]
    return ' '.join(words)


def _check_records(distiller: Any) -> None:
    for name, mapping in getattr(distiller, 'loss_forward_mappings', {}).items():
        for argument, record in mapping.items():
            side = side_of(record)
            recorder = getattr(distiller, f'{side}_recorders').get_recorder(record['recorder'])
            where = f'loss_forward_mappings.{name}.{argument}'
            what = f'{side}_recorders.{record["recorder"]} ("{recorder.source}")'
            records, index = recorder.data_buffer, record.get('record_idx')
            if index is None and len(records) > 1:
                raise ValueError(
                    f'{where} must say by record_idx which record it takes, but '
                    f'{side}_recorders.{record["recorder"]} has {len(records)}: '
                    f'"{recorder.source}" is called once for each level or part of the image, and '
                    f'the first record alone would be taught. Add record_idx (0 to '
                    f'{len(records) - 1}), with a loss for each record that is to be taught, or '
                    'record the whole output of the head.'
                )
            if not -len(records) <= (index or 0) < len(records):
                raise ValueError(
                    f'{where}.record_idx must be that of a record, but got {index or 0}, and '
                    f'{what} has {len(records) or "none"}: it is called as often while the '
                    f'{_PHASE[side]}. Correct it, or record what is called.'
                )
            taken, item = records[index or 0], record.get('data_idx')
            own = getattr(type(recorder), 'get_record_data', None)
            if item is None or own is not BaseRecorder.get_record_data:
                continue
            if not isinstance(taken, list | tuple) or not -len(taken) <= item < len(taken):
                raise ValueError(
                    f'{where}.data_idx must be that of an item, but got {item}, and {what} gives '
                    f'{describe(taken)} while the {_PHASE[side]}. Correct it or leave it out.'
                )


_PHASE = {'student': 'student trains', 'teacher': 'teacher is in eval'}


def _differ(own: Any, other: Any, needed: str) -> bool:
    """Whether what the two sides feed a loss does not fit each other."""
    if needed == 'own' or isinstance(other, ObjRows):
        return False
    if needed == 'last':
        own, other, needed = list(own)[-1:], list(other)[-1:], 'shape'
    lists = [isinstance(value, list | tuple) for value in (own, other)]
    if all(lists):
        return len(own) != len(other) or any(
            _differ(a, b, needed) for a, b in zip(own, other, strict=True)
        )
    if any(lists):
        return needed != 'no broadcast'
    if not all(isinstance(v, Tensor) and v.is_floating_point() for v in (own, other)):
        return False
    s, t = tuple(own.shape), tuple(other.shape)
    if needed == 'batch':
        return s[:1] != t[:1]
    if needed == 'space':
        return len(s) != len(t) or s[:1] + s[2:] != t[:1] + t[2:]
    if needed == 'resized':  # a loss that compares heights before it resizes
        return s[:2] != t[:2] or (s[2:3] == t[2:3] and s != t)
    if needed == 'no broadcast':
        return s != t and _broadcast(s, t)
    return s != t


def _broadcast(s: tuple[int, ...], t: tuple[int, ...]) -> bool:
    """Whether torch would repeat one to fit the other without a word."""
    ends = zip(reversed(s), reversed(t), strict=False)
    return all(a == b or 1 in (a, b) for a, b in ends)


def _teaches(term: Any, fed: Mapping[str, Any]) -> bool:
    """Whether a term is not 0, or its gradient at what the loss was fed is not."""
    value = reduced(term)
    if value.item() != 0:
        return True
    if not value.requires_grad:
        return False
    inputs = [tensor for tensor in _tensors(list(fed.values())) if tensor.requires_grad]
    if not inputs:
        return True  # it reaches the student by a way that is not seen here
    grads = torch.autograd.grad(
        value * GRADIENT_SCALE, inputs, retain_graph=True, allow_unused=True
    )
    return any(grad is not None and bool(grad.count_nonzero()) for grad in grads)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Predictions):  # what a model predicts; not where its priors are
        yield from _tensors([value.log_prob, value.boxes, value.quality, value.class_boxes])
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
