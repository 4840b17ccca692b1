"""The configs of a comparison, all derived from the pair's: one schedule, one data order."""

import hashlib
import pprint
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EarlyStoppingHook

from mmkd.checkpoints.fetch import is_address
from mmkd.checkpoints.reader import find_checkpoint
from mmkd.checkpoints.ultralytics import is_yolov5_file
from mmkd.config.key_finder import RUNNER_KEYS
from mmkd.config.pair_config import is_distillation
from mmkd.config.read_config import read_config
from mmkd.config.scaled_schedule import TrainingLength
from mmkd.export.student_config import model_config, student_config
from mmkd.hooks.channels_last_hook import ChannelsLastHook

#: Of a training whose length is not known when it is planned.
LONGER_CHECKPOINT = 'detector.pth'

_METRICS = ('CocoMetric', 'VOCMetric')


def read_pair(
    path: str | Path,
    options: Mapping[str, Any],
    val_interval: int | None,
    length: TrainingLength | None = None,
) -> Config:
    """The pair's config, made ready to be compared.

    Args:
        path: a pair's config.
        options: merged into it.
        val_interval: epochs (or iterations) between validations; None for the config's own, but
            at least ten validations.
        length: of the training. Defaults to None, the config's own.

    Raises:
        ValueError: it is no pair, or is not evaluated by CocoMetric or VOCMetric.
    """
    config = read_config(path, 'the pair', options)
    if not is_distillation(config) or 'teacher' not in config.model:
        raise ValueError(
            f'the config to compare must be a pair, whose model has architecture and teacher, but '
            f'"{path}" is not. Give the config that distils; docs/pairs.md says how to write one.'
        )
    for key in ('train_cfg', 'train_dataloader', 'test_dataloader', 'test_evaluator', 'test_cfg'):
        if not config.get(key):
            raise ValueError(
                f'a comparison trains and evaluates, so the config must have {key}, but "{path}" '
                f'has none. Add it; docs/your_own_data.md shows a whole config.'
            )
    for metric in evaluators(config):
        if str(metric.get('type')).split('.')[-1] not in _METRICS:
            raise ValueError(
                f'test_evaluator must be {" or ".join(_METRICS)}, whose figures the report reads, '
                f'but "{path}" has {metric.get("type")}. Change it.'
            )
        if 'CocoMetric' in str(metric['type']):
            metric['classwise'] = True
    if length is not None:
        length.apply(config)
    own = _ten_validations(config.train_cfg)
    config.train_cfg.val_interval = own if val_interval is None else val_interval
    return config


def _ten_validations(loop: Any) -> int:
    """The interval of a training's own validations, but for at least ten in all."""
    epochs = loop.get('max_epochs')
    usual = 1 if epochs else 1000  # mmengine's
    interval: int = loop.get('val_interval', usual)
    length: int = epochs or loop.get('max_iters')
    return min(interval, max(length // 10, 1))


def evaluators(config: Config) -> list[dict[str, Any]]:
    """The test metrics, one or several."""
    found = config.test_evaluator
    return list(found) if isinstance(found, list | tuple) else [found]


def baseline(pair: Config) -> Config:
    """The student without its teacher, from the weights that the pair's student starts from.

    Raises:
        ValueError: those weights are an Ultralytics checkpoint.
    """
    start = pair.model.get('student_ckpt') or pair.get('load_from')
    if start and _is_yolov5(str(start)):
        raise ValueError(
            f'student_ckpt must be a file that mmdet itself can start from, but is "{start}". '
            'Convert it with "mmkd convert" and name the .pth file.'
        )
    student = _of_the_run(student_config(pair), pair)
    if start:
        student.load_from = start
    if pair.model.get('quantize') is not None:
        hook = dict(type='QuantizeHook', **pair.model.quantize)
        student.custom_hooks = [*(student.get('custom_hooks') or ()), hook]
    return student


def _is_yolov5(start: str) -> bool:
    if is_address(start) and not start.endswith('.pt'):
        return False  # most likely; a plan is made without fetching, and the reader looks later
    try:
        return is_yolov5_file(find_checkpoint(start, 'student_ckpt'))
    except FileNotFoundError:
        return start.endswith('.pt')


def with_model(pair: Config, model: Any) -> Config:
    """All of the pair's config but its model: data, schedule, evaluation."""
    config = Config(pair.to_dict())
    config.pop('model')
    config.model = model
    return _of_the_run(student_config(config), pair)


def _of_the_run(config: Config, pair: Config) -> Config:
    """A detector's config with the pair's options of a run, and without its variables."""
    # The pair's method is among these: another recipe must not train the same control again.
    used = RUNNER_KEYS | {'custom_imports'}
    run = Config({key: value for key, value in config.to_dict().items() if key in used})
    # mmkd's own options are no part of a student's config, but all arms are trained alike.
    if 'batched_targets' in pair:
        run.batched_targets = pair.batched_targets
    for name, hook in (pair.get('default_hooks') or {}).items():
        if _is_a(hook, ChannelsLastHook):
            run.setdefault('default_hooks', {})[name] = hook
    custom = [hook for hook in pair.get('custom_hooks') or () if _is_a(hook, ChannelsLastHook)]
    if custom:
        run.custom_hooks = [*(run.get('custom_hooks') or ()), *custom]
    return run


def teacher_training(
    pair: Config, options: Mapping[str, Any], length: TrainingLength | None = None
) -> Config:
    """What trains the teacher: its own config file, or else the pair's data and schedule.

    Args:
        pair: its models not yet written out.
        options: merged into the file's config, but for the model's.
        length: of the pair's training. Defaults to None, the config's own.
    """
    source = pair.model.teacher
    if isinstance(source, str) and '::' not in source:
        config = read_config(source, 'model.teacher')
        if 'train_dataloader' in config:
            own = {key: value for key, value in options.items() if key.split('.')[0] != 'model'}
            config.merge_from_dict(deepcopy(own))
            if length is not None:
                length.apply_to_teacher(config)
            loops = config.train_cfg, pair.train_cfg
            by_epoch, as_pair = (bool(loop.get('max_epochs')) for loop in loops)
            config.train_cfg.val_interval = (
                pair.train_cfg.val_interval
                if by_epoch is as_pair
                else _ten_validations(config.train_cfg)
            )
            return config
    return with_model(pair, model_config(source))


def taught(
    pair: Config, teacher_ckpt: str | None, form: Path | None = None, shuffled: bool = False
) -> Config:
    """The pair with its teacher's weights, and a file's form; ``shuffled`` for the control."""
    config = Config(pair.to_dict())
    config.model.teacher_ckpt = teacher_ckpt
    if form:
        config.model.lean_teacher = str(form)
    if config.get('default_hooks'):
        config.default_hooks.pop('export_student', None)  # "mmkd train" has its own
    if shuffled:
        config.model.shuffle_teacher = True
    return config


def last_checkpoint(config: Config) -> str:
    """Name of the file that holds the detector when its training has ended."""
    if is_distillation(config):
        return 'student.pth'
    if any(_is_a(hook, EarlyStoppingHook) for hook in _hooks(config)):
        return LONGER_CHECKPOINT  # after which epoch is not known yet
    loop = config.train_cfg
    epochs = loop.get('max_epochs')
    return f'epoch_{epochs}.pth' if epochs else f'iter_{loop.max_iters}.pth'


def keep_last(config: Config) -> Config:
    """See to it that the training of a detector on its own leaves :func:`last_checkpoint`.

    ``CheckpointHook`` may give it another name or place, save by another unit, or not at the end.
    """
    name, by_epoch = last_checkpoint(config), bool(config.train_cfg.get('max_epochs'))
    saved = [
        hook.get('filename_tmpl') or ('epoch_{}.pth' if by_epoch else 'iter_{}.pth')
        for hook in _hooks(config)
        if _is_a(hook, CheckpointHook)
        and hook.get('by_epoch', True) is by_epoch
        and hook.get('save_last', True)
        and not hook.get('out_dir')
    ]
    last = config.train_cfg.get('max_epochs') or config.train_cfg.get('max_iters')
    if not is_distillation(config) and name not in [text.format(last) for text in saved]:
        hooks = config.get('default_hooks') or {}
        config.default_hooks = {**hooks, 'export': dict(type='ExportStudentHook', filename=name)}
    return config


def _hooks(config: Config) -> list[Any]:
    default = {'checkpoint': dict(type='CheckpointHook'), **(config.get('default_hooks') or {})}
    return [*default.values(), *(config.get('custom_hooks') or ())]


def _is_a(hook: Any, kind: type) -> bool:
    return isinstance(hook, Mapping) and str(hook.get('type')).split('.')[-1] == kind.__name__


def text_of(config: Config) -> str:
    """The config as a file, which says all by itself; ``pretty_text`` takes seconds."""
    items = config.to_dict().items()
    return ''.join(
        f'{key} = {pprint.pformat(value, width=100, sort_dicts=False)}\n' for key, value in items
    )


def digest(config: Config) -> str:
    """Short fingerprint of a config."""
    return hashlib.sha256(text_of(config).encode()).hexdigest()[:12]
