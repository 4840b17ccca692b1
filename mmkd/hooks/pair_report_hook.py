"""The cheap part of the examination, at the start of each training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.algorithms.distill_terms import active_losses
from mmkd.algorithms.idle_terms import PATIENCE, IdleTerms
from mmkd.cache.cached_teacher import CachedTeacher
from mmkd.compat.logging import numbers
from mmkd.datasets.data_samples import ground_truth
from mmkd.distributed.unwrapped import unwrapped
from mmkd.doctor import models
from mmkd.doctor.check_layers import LAYER_COLUMNS, check_layers
from mmkd.doctor.report import Report
from mmkd.losses.log_keys import DISTILL, STUDENT, is_term

#: Of a section so many rows are logged: what is said before the first step fits a screen.
_MOST_ROWS = 16


@HOOKS.register_module()
class PairReportHook(Hook):
    """Log at the start what student and teacher are, and stop where nothing is taught.

    Before the first step: weights, preprocessing, heads. After the first step with objects and a
    distillation weight above 0: the value of each term. From then on, each term that is exactly 0.

    Raises:
        ValueError: after the first step: a term that is not finite, or distillation terms that are
            all exactly 0 although their weights are not. After ten: a term that was exactly 0 with
            its gradient in each of the first ten batches that hold objects, although its weight is
            not, and although the loss does not say that there was nothing to teach (the item of
            its ``logs`` that ``idle_without`` names is 0: no positives, no masked cell, a student
            that is better already).
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.judged = False
        self.idle = IdleTerms()

    def before_train(self, runner: Runner) -> None:
        """Log the report on the models, on the first rank."""
        pair = _pair(runner)
        self.judged = pair is None or runner.iter > 0  # a resumed run has been judged
        train_set = runner.train_loop.dataloader.dataset
        classes = getattr(train_set, 'metainfo', {}).get('classes')
        if pair is not None:
            pair.check_data_origin(runner.cfg, classes)
            names = set(pair.distiller.distill_losses)
            self.idle = IdleTerms(names if self.judged else ())
            pair.loss_watch.suspects = names - self.idle.at_work
        if pair is None or not is_main_process():
            return
        if isinstance(pair.teacher_source, CachedTeacher):
            return  # a cache has been checked against its teacher, and keeps none in memory
        report = Report(str(runner.cfg.filename))
        with report.section('Weights', 'model', 'file', 'keys loaded', 'of', 'share') as section:
            models.check_weights(section, pair, runner.cfg, classes)
        with report.section('Preprocessing', 'setting', 'student', 'teacher') as section:
            models.check_preprocessing(section, pair)
        with report.section('Models', 'part', 'student', 'teacher', 'equal') as section:
            models.check_heads(section, pair)
        if models.paired_classes(pair, classes):
            with report.section('Classes', 'class', 'taught by') as section:
                models.check_classes(section, pair, classes)
        with report.section('Layers', *LAYER_COLUMNS) as section:
            check_layers(section, pair.student)
        lines = [line for section in report.sections for line in section.lines(_MOST_ROWS)]
        log = runner.logger.info if report.ok else runner.logger.warning
        log('\n'.join(['The pair:', *lines, 'More of it: mmkd check CONFIG']))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Judge the terms of a step."""
        pair = _pair(runner)
        if pair is None or pair.distillation_stopped or not outputs:
            return
        active = active_losses(pair.distiller, pair.distill_factors)
        if self.judged and pair.loss_watch.suspects.isdisjoint(active) and runner.iter % PATIENCE:
            return  # all are at work: a GPU would be waited for in each step
        shown = [key for key in outputs if key.startswith((STUDENT, DISTILL)) and is_term(key)]
        terms = dict(zip(shown, numbers([outputs[key] for key in shown]), strict=True))
        found = {name: _state(pair, name, terms) for name in active if f'{DISTILL}{name}' in terms}
        if not found or not isinstance(data_batch, Mapping):
            return
        objects = len(ground_truth(data_batch['data_samples'])[0])
        if not self.judged:
            self._judge_first(terms, found, objects, runner)
        lost, quiet = self.idle.add(found, objects)
        pair.loss_watch.found.clear()
        pair.loss_watch.suspects = {
            name
            for name in pair.distiller.distill_losses
            if name not in self.idle.at_work or found.get(name) in ('idle', 'excused', 'unknown')
        }
        if lost:
            raise ValueError(
                f'a distillation loss with a weight must teach something, but {", ".join(lost)} '
                f'and its gradient were exactly 0 in each of the first {PATIENCE} batches that '
                'hold objects. "mmkd check CONFIG" tells what it is fed; '
                'loss_weight=0 turns it off.'
            )
        for name in quiet:
            runner.logger.warning(
                f'{DISTILL}{name} and its gradient have been exactly 0 in {PATIENCE} batches that '
                f'hold objects{_why(pair, name)}.'
            )

    def after_train(self, runner: Runner) -> None:
        """Tell of a term that has not taught anything in a run of a few batches."""
        short = [n for n, count in self.idle.idle.items() if count and n not in self.idle.at_work]
        if short:
            runner.logger.warning(f'Exactly 0 in the whole run: {", ".join(short)}')

    def _judge_first(
        self, terms: dict[str, float], found: Mapping[str, str], objects: int, runner: Runner
    ) -> None:
        """The first step whose batch has an object, on any rank."""
        at_work = sum(state in ('works', 'excused') for state in found.values())
        counts = torch.tensor([objects, at_work], dtype=torch.float32)
        all_reduce(counts)
        objects_of_all, at_work_of_all = counts.tolist()
        if not objects_of_all:
            return
        self.judged = True
        runner.logger.info(
            'First step: ' + ', '.join(f'{key} {value:.4g}' for key, value in terms.items())
        )
        taught = [f'{DISTILL}{name}' for name in found]
        _judge(terms, taught, at_work_of_all > 0, runner)


def _state(pair: DetectionDistill, name: str, terms: Mapping[str, float]) -> str:
    """Whether a term teaches in this step; its weight counts for nothing where it was watched."""
    known = pair.loss_watch.found.get(name)
    return known or ('unknown' if terms[f'{DISTILL}{name}'] == 0 else 'works')


def _why(pair: DetectionDistill, name: str) -> str:
    statistic = getattr(pair.distiller.distill_losses[name], 'idle_without', None)
    return f': look at its {statistic} in the log' if statistic else ''


def _judge(terms: dict[str, Any], taught: Sequence[str], at_work: bool, runner: Runner) -> None:
    lost = [key for key, value in terms.items() if not math.isfinite(value)]
    if lost:
        raise ValueError(
            f'each loss must be finite at the first step, but got {", ".join(lost)} = '
            f'{", ".join(str(terms[key]) for key in lost)}. "mmkd check CONFIG" '
            'tells what the loss was given.'
        )
    if not at_work:
        raise ValueError(
            f'a distillation loss must not be 0 at the first step, but {", ".join(taught)} '
            'are exactly 0: nothing would be taught. "mmkd check CONFIG" tells why.'
        )
    zero = [key for key in taught if terms[key] == 0]
    if zero:
        runner.logger.warning(f'Exactly 0 at the first step: {", ".join(zero)}')


def _pair(runner: Runner) -> DetectionDistill | None:
    model = unwrapped(runner.model)
    return model if isinstance(model, DetectionDistill) else None
