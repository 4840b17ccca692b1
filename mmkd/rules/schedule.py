"""What of a config would fail, or never happen, long after its run has started."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.registry import DATASETS, HOOKS, PARAM_SCHEDULERS

from mmkd.config.pair_config import is_distillation
from mmkd.config.registered import registered
from mmkd.rules.metric_keys import metric_keys, unknown_key

#: Arguments of hooks and schedulers that say when they first act, counted from 0.
_BEGINS = ('begin', 'begin_epoch', 'begin_iter', 'save_begin', 'stop_epoch', 'switch_epoch')


def check_schedule(cfg: Config) -> list[str]:
    """Check what comes late in the training of ``cfg``: hooks, schedulers, what is saved.

    Returns:
        What would never happen, a line each, for the log.

    Raises:
        ValueError: what would stop the run, or do another thing than is asked for, at its epoch.
    """
    loop = cfg.get('train_cfg')
    if not isinstance(loop, Mapping):
        return []
    by_epoch = bool(loop.get('max_epochs'))
    end = loop.get('max_epochs') or loop.get('max_iters')
    if not isinstance(end, int):
        return []
    notes: list[str] = []
    for where, hook in _hooks(cfg):
        kind = registered(HOOKS, hook, cfg)
        for name, check in _HOOK_CHECKS.items():
            if name in [base.__name__ for base in getattr(kind, '__mro__', ())]:
                notes += check(where, hook, kind, cfg, end if by_epoch else 1)
        notes += _too_late(where, hook, by_epoch, end)
    for where, scheduler in _schedulers(cfg):
        notes += _check_scheduler(where, scheduler, cfg, by_epoch, end)
    begin = loop.get('val_begin', 1)
    validates = isinstance(begin, int) and begin <= end
    if cfg.get('val_cfg') and not validates:
        notes.append(
            f'train_cfg.val_begin is {begin}, but the training ends after {end}: it is never '
            'validated, so nothing is the best and nothing stops it early. Lower val_begin.'
        )
    return [*notes, *_check_saving(cfg, by_epoch, validates)]


def _hooks(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    default, custom = cfg.get('default_hooks'), cfg.get('custom_hooks')
    named: list[tuple[str, Any]] = []
    if isinstance(default, Mapping):
        named += [(f'default_hooks.{name}', hook) for name, hook in default.items()]
    if isinstance(custom, list | tuple):
        named += [(f'custom_hooks.{i}', hook) for i, hook in enumerate(custom)]
    return ((where, hook) for where, hook in named if isinstance(hook, Mapping))


def _schedulers(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    found = cfg.get('param_scheduler') or []
    groups = found.items() if isinstance(found, Mapping) and 'type' not in found else [('', found)]
    for group, schedulers in groups:
        where = f'param_scheduler.{group}'.rstrip('.')
        schedulers = schedulers if isinstance(schedulers, list | tuple) else [schedulers]
        for i, scheduler in enumerate(schedulers):
            if isinstance(scheduler, Mapping):
                yield f'{where}.{i}', scheduler


def _built(hook: Mapping[str, Any], kind: Callable[..., Any]) -> Any:
    return kind(**{key: hook[key] for key in hook if key not in ('type', 'priority', '_scope_')})


def _too_late(where: str, part: Mapping[str, Any], by_epoch: bool, end: int) -> Iterator[str]:
    for key in _BEGINS:
        begin = part.get(key)
        in_epochs = not key.endswith('iter') and ('epoch' in key or part.get('by_epoch', True))
        if isinstance(begin, int) and in_epochs is by_epoch and begin >= end:
            unit = 'epoch' if by_epoch else 'iteration'
            yield (
                f'{where}.{key} is {begin}, but the last {unit} is {end - 1}, counted from 0: '
                f'{part.get("type")} never acts. Lower it or leave it out.'
            )


def _check_scheduler(
    where: str, scheduler: Mapping[str, Any], cfg: Config, by_epoch: bool, end: int
) -> Iterator[str]:
    kind = registered(PARAM_SCHEDULERS, scheduler, cfg)
    if 'ReduceOnPlateau' in getattr(kind, '__name__', ''):
        _check_figure(f'{where}.monitor', scheduler.get('monitor', 'loss'), cfg)
    own = scheduler.get('by_epoch', True)
    if own and not by_epoch and not scheduler.get('convert_to_iter_based'):
        yield (
            f'{where} ({scheduler.get("type")}) counts epochs, but train_cfg counts iterations: '
            'it never acts. Set by_epoch=False and give its numbers in iterations.'
        )
    elif not scheduler.get('convert_to_iter_based'):
        yield from _too_late(where, scheduler, by_epoch, end)


def _check_figure(where: str, key: str, cfg: Config) -> None:
    keys = metric_keys(cfg)
    fault = unknown_key(key, keys, cfg) if keys else None
    if fault:
        raise ValueError(f'{where} {fault}')


def _check_saving(cfg: Config, by_epoch: bool, validates: bool) -> Iterator[str]:
    """Whether anything is saved, and before the end."""
    savers = [
        (where, hook)
        for where, hook in _hooks(cfg)
        if _is_a(registered(HOOKS, hook, cfg), CheckpointHook)
    ]
    default = cfg.get('default_hooks') or {}
    if 'checkpoint' not in default:
        savers.append(('default_hooks.checkpoint', {}))  # mmengine's own: save_last
    for where, hook in savers:
        if hook.get('by_epoch', True) and not by_epoch:
            yield (
                f'{where} counts epochs, but train_cfg counts iterations: the only checkpoint is '
                'written at the end. Set by_epoch=False and an interval in iterations.'
            )
    if not any(
        hook.get('interval', -1) != -1
        or hook.get('save_last', True)
        or (hook.get('save_best') and validates)
        for _, hook in savers
    ):
        yield (
            'no hook saves a checkpoint: the weights are lost when the training ends, but for the '
            "student of a pair. Set default_hooks.checkpoint=dict(type='CheckpointHook')."
        )


def _is_a(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def _check_checkpoints(
    where: str, hook: Mapping[str, Any], kind: Callable[..., Any], cfg: Config, epochs: int
) -> Sequence[str]:
    best = hook.get('save_best') or []
    for key in [best] if isinstance(best, str) else best:
        if key != 'auto':
            _check_figure(f'{where}.save_best', key, cfg)
    return []


def _check_early_stop(
    where: str, hook: Mapping[str, Any], kind: Callable[..., Any], cfg: Config, epochs: int
) -> Sequence[str]:
    keys = metric_keys(cfg)
    fault = unknown_key(hook['monitor'], keys, cfg) if keys and 'monitor' in hook else None
    if fault and hook.get('strict'):
        raise ValueError(f'{where}.monitor {fault}')
    return [f'{where} never stops the training: its monitor {fault}'] if fault else []


def _check_mean_teacher(
    where: str, hook: Mapping[str, Any], kind: Callable[..., Any], cfg: Config, epochs: int
) -> Sequence[str]:
    if is_distillation(cfg):
        raise ValueError(
            f'{where} (MeanTeacherHook) writes the average of the student into model.teacher, but '
            f'the teacher of a pair is frozen. Leave it out; EMAHook averages the student.'
        )
    return []


def _check_yolox_switch(
    where: str, hook: Mapping[str, Any], kind: Callable[..., Any], cfg: Config, epochs: int
) -> Sequence[str]:
    switch = _built(hook, kind)
    if hasattr(switch, 'new_train_pipeline_cfg'):
        return _check_mmyolos_switch(where, switch, cfg, epochs)
    dataset, name, outer = _outermost(cfg)
    epoch = max(epochs - switch.num_last_epochs, 1)
    if epoch <= epochs and dataset is not None and not hasattr(outer, 'update_skip_type_keys'):
        raise _unfit(
            where, hook, epoch, 'which must be a MultiImageMixDataset', name, 'MultiImageMixDataset'
        )
    if not cfg.train_cfg.get('max_epochs'):
        return [f'{where} counts epochs, but train_cfg counts iterations: it acts at the start']
    return []


def _check_mmyolos_switch(where: str, switch: Any, cfg: Config, epochs: int) -> Sequence[str]:
    dataset, name, _ = _outermost(cfg)
    epoch = epochs - switch.num_last_epochs
    if not 1 <= epoch <= epochs:
        return [
            f'{where}.num_last_epochs is {switch.num_last_epochs} in a training of {epochs} '
            'epochs: YOLOXModeSwitchHook never acts. Lower it.'
        ]
    if switch.new_train_pipeline_cfg is None:
        raise ValueError(
            f'{where}.new_train_pipeline must be the pipeline of the last '
            f'{switch.num_last_epochs} epochs, but there is none. Give it.'
        )
    if dataset is not None and 'pipeline' not in dataset:
        plain = 'which must be a data set of images with a pipeline'
        raise _unfit(where, dict(type='YOLOXModeSwitchHook'), epoch, plain, name, 'data set')
    return []


def _check_pipeline_switch(
    where: str, hook: Mapping[str, Any], kind: Callable[..., Any], cfg: Config, epochs: int
) -> Sequence[str]:
    switch = _built(hook, kind)
    dataset, name, outer = _outermost(cfg)
    wrapper = dataset is not None and ('dataset' in dataset or 'datasets' in dataset)
    if switch.switch_epoch >= epochs:
        return []  # said as of any hook
    if wrapper and not _is_a(outer, BaseDataset) and not hasattr(outer, 'pipeline'):
        plain = 'which must be a data set of images with a pipeline of its own'
        raise _unfit(where, hook, max(switch.switch_epoch, 0) + 1, plain, name, 'data set')
    return []


def _outermost(cfg: Config) -> tuple[Mapping[str, Any] | None, str, Any]:
    """The config, the name and the class (or object) of the data set that a hook gets hold of."""
    loader = cfg.get('train_dataloader')
    dataset = loader.get('dataset') if isinstance(loader, Mapping) else None
    if not isinstance(dataset, Mapping):
        return None, type(dataset).__name__, dataset
    kind = registered(DATASETS, dataset, cfg)
    return dataset, getattr(kind, '__name__', str(dataset.get('type'))), kind


def _unfit(
    where: str, hook: Mapping[str, Any], epoch: int, rule: str, name: str, inner: str
) -> ValueError:
    return ValueError(
        f'{where} ({str(hook.get("type")).split(".")[-1]}) changes, in epoch {epoch}, the pipeline '
        f'of train_dataloader.dataset itself, {rule}, but got {name}. Put the {inner} outside and '
        f'{name} inside it, or leave out {name} (more epochs do what RepeatDataset does).'
    )


def _check_yolov5_schedule(
    where: str, hook: Mapping[str, Any], kind: Callable[..., Any], cfg: Config, epochs: int
) -> Sequence[str]:
    built = _built(hook, kind)
    below = next((epoch for epoch in range(epochs) if built.scheduler_fn(epoch) < 0), None)
    if below is not None:
        raise ValueError(
            f'{where}.max_epochs must be the length of the training ({epochs}), but with '
            f'{hook.get("max_epochs", 300)} the learning rate falls below 0 in epoch {below + 1}. '
            'Set it to train_cfg.max_epochs.'
        )
    return []


#: By the name of a hook's class or of one that it inherits from.
_HOOK_CHECKS: dict[str, Callable[..., Sequence[str]]] = {
    CheckpointHook.__name__: _check_checkpoints,
    EarlyStoppingHook.__name__: _check_early_stop,
    'MeanTeacherHook': _check_mean_teacher,
    'PipelineSwitchHook': _check_pipeline_switch,
    'YOLOXModeSwitchHook': _check_yolox_switch,
    'YOLOv5ParamSchedulerHook': _check_yolov5_schedule,
}
