"""The cheap part of the examination, at the start of each training."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmkd.algorithm import DetectionDistill
from mmkd.connectors.imitation_mask_connector import ground_truth
from mmkd.distill_weights import active_losses
from mmkd.doctor import models
from mmkd.doctor.report import Report
from mmkd.teacher import FrozenTeacher


@HOOKS.register_module()
class PairReportHook(Hook):
    """Log at the start what student and teacher are, and stop where nothing is taught.

    Before the first step: weights, preprocessing, heads. After the first step with objects and a
    distillation weight above 0: the value of each term.

    Raises:
        ValueError: after the first step: a term that is not finite, or distillation terms that are
            all exactly 0 although their weights are not.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.judged = False

    def before_train(self, runner: Runner) -> None:
        """Log the report on the models, on the first rank."""
        pair = _pair(runner)
        self.judged = pair is None or runner.iter > 0  # a resumed run has been judged
        # A cache has been checked against its teacher already, and keeps none in memory.
        if pair is None or not is_main_process() or not isinstance(pair._teacher, FrozenTeacher):
            return
        classes = getattr(runner.train_loop.dataloader.dataset, 'metainfo', {}).get('classes')
        fresh = runner.iter == 0 and not runner.cfg.get('load_from')
        report = Report(str(runner.cfg.filename))
        with report.section('Weights', 'model', 'file', 'keys loaded', 'of', 'share') as section:
            models.check_weights(section, pair, runner.cfg.model, classes, fresh)
        with report.section('Preprocessing', 'setting', 'student', 'teacher') as section:
            models.check_preprocessing(section, pair)
        with report.section('Models', 'part', 'student', 'teacher', 'equal') as section:
            models.check_heads(section, pair)
        lines = [line for section in report.sections for line in section.lines()]
        log = runner.logger.info if report.ok else runner.logger.warning
        log('\n'.join(['The pair:', *lines, 'More of it: python tools/check_pair.py CONFIG']))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        """Judge the terms of the first step whose batch has an object, on any rank."""
        if self.judged or not outputs or not isinstance(data_batch, Mapping):
            return
        terms = {
            key: torch.as_tensor(value).item() for key, value in outputs.items() if '.loss' in key
        }
        pair = _pair(runner)
        if pair is None or pair.distillation_stopped:
            return
        active = active_losses(pair.distiller, pair.distill_factors)
        taught = [f'distill.{name}' for name in active if f'distill.{name}' in terms]
        counts = torch.tensor(
            [len(ground_truth(data_batch['data_samples'])[0]), sum(terms[k] != 0 for k in taught)],
            dtype=torch.float32,
        )
        all_reduce(counts)
        objects, at_work = counts.tolist()
        if not objects or not taught:
            return
        self.judged = True
        runner.logger.info(
            'First step: ' + ', '.join(f'{key} {value:.4g}' for key, value in terms.items())
        )
        _judge(terms, taught, at_work > 0, runner)


def _judge(terms: dict, taught: Sequence[str], at_work: bool, runner: Runner) -> None:
    lost = [key for key, value in terms.items() if not math.isfinite(value)]
    if lost:
        raise ValueError(
            f'each loss must be finite at the first step, but got {", ".join(lost)} = '
            f'{", ".join(str(terms[key]) for key in lost)}. python tools/check_pair.py CONFIG '
            'tells what the loss was given.'
        )
    if not at_work:
        raise ValueError(
            f'a distillation loss must not be 0 at the first step, but {", ".join(taught)} '
            'are exactly 0: nothing would be taught. python tools/check_pair.py CONFIG tells why.'
        )
    zero = [key for key in taught if terms[key] == 0]
    if zero:
        runner.logger.warning(f'Exactly 0 at the first step: {", ".join(zero)}')


def _pair(runner: Runner) -> DetectionDistill | None:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model if isinstance(model, DetectionDistill) else None
