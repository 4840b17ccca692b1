"""What only a built run shows of its later epochs, looked at before the first step."""

import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmcv.transforms import Compose
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkd.datasets.seeding import SeededDataset, seeded
from mmkd.distributed.unwrapped import unwrapped


class StartChecksHook(Hook):
    """Stop a run at its start where it would stop in a later epoch, or at its last batch.

    The static rules are in :func:`mmkd.rules.schedule.check_schedule`.

    Raises:
        ValueError: a hook that will change what the data set or the model does not have, or to a
            pipeline that fails; a schedule that is shorter than the run; a folder for checkpoints
            that cannot be made; a batch of one image before a BatchNorm on a map of 1x1.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.handles: list[Any] = []
        self.fault = ''

    def before_run(self, runner: Runner) -> None:
        """Look at hooks and schedules."""
        if not isinstance(runner._train_loop, BaseLoop):
            return
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.out_dir:
                _check_folder(str(hook.out_dir))
            _check_model(hook, runner)
            _rehearse(hook, runner)
        _check_lengths(runner)

    def before_train(self, runner: Runner) -> None:
        """Watch the BatchNorms in the first step, if some batch has one image."""
        if not _has_single_batch(runner):
            return
        for name, module in unwrapped(runner.model).named_modules():
            synced = isinstance(module, nn.SyncBatchNorm) and get_world_size() > 1
            if isinstance(module, _BatchNorm) and not synced:
                self.handles.append(module.register_forward_pre_hook(self._look(name)))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Stop if a batch of one image would."""
        while self.handles:
            self.handles.pop().remove()
        if self.fault:
            raise ValueError(self.fault)

    def _look(self, name: str) -> Any:
        def look(module: nn.Module, args: tuple[Any, ...]) -> None:
            maps = args[0]
            if not module.training or maps[0, 0].numel() > 1:
                return
            self.fault = (
                f'a BatchNorm in training needs more than one value per channel, but {name} sees a '
                'map of 1x1, and the last batch of an epoch, or each, has one image per process. '
                'Set train_dataloader.drop_last=True, or another batch_size.'
            )
            if len(maps) == 1:
                raise ValueError(self.fault)

        return look


def _has_single_batch(runner: Runner) -> bool:
    loader: Any = runner.train_dataloader
    batches = loader.batch_sampler
    size = getattr(batches, 'batch_size', None)
    inner = getattr(loader.sampler, 'sampler', loader.sampler)
    endless = any(word in type(inner).__name__ for word in ('Infinite', 'MultiSource'))
    if size is None or endless:
        return size == 1
    ends = isinstance(runner.train_loop, EpochBasedTrainLoop) or runner.max_iters >= len(loader)
    return size == 1 or (
        ends and not getattr(batches, 'drop_last', True) and len(loader.sampler) % size == 1
    )


def _check_folder(folder: str) -> None:
    if '://' in folder:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f'no permission to write into "{folder}"')
    except OSError as error:
        raise ValueError(
            f'CheckpointHook.out_dir must be a folder that can be written to, but got "{folder}" '
            f'({error}). Correct it or leave it out: checkpoints then go to the work dir.'
        ) from error


def _check_model(hook: Hook, runner: Runner) -> None:
    kind = type(hook).__name__
    model = unwrapped(runner.model)
    part = {'SetEpochInfoHook': 'set_epoch', 'YOLOXModeSwitchHook': 'bbox_head'}.get(kind)
    if part and not hasattr(getattr(model, 'detector', model), part):
        raise ValueError(
            f"{kind} needs a model with {part}, but {type(model).__name__}'s has none. Leave the "
            'hook out.'
        )


def _rehearse(hook: Hook, runner: Runner) -> None:
    """Draw an image as it will be drawn after a hook has changed the pipeline."""
    kind = type(hook).__name__
    if kind not in ('YOLOXModeSwitchHook', 'PipelineSwitchHook'):
        return
    dataset: Any = runner.train_dataloader.dataset
    try:
        late = copy.copy(dataset._dataset if isinstance(dataset, SeededDataset) else dataset)
        with seeded(runner.seed, kind):
            if hasattr(hook, 'skip_type_keys'):
                late.update_skip_type_keys(hook.skip_type_keys)
            else:
                new = getattr(
                    hook, 'switch_pipeline', getattr(hook, 'new_train_pipeline_cfg', None)
                )
                if new is None or not hasattr(late, 'pipeline'):
                    return  # it never acts, or not on this data set: see check_schedule
                late.pipeline = Compose(new)
            item = late[0]
            if not isinstance(item, Mapping) or 'inputs' not in item:
                raise ValueError('it ends without inputs: PackDetInputs is missing')
    except Exception as error:
        raise ValueError(
            f'the pipeline that {kind} will switch to must give an image for training, but with '
            f'the first image it fails: {type(error).__name__}: {error}. Correct it.'
        ) from error


def _check_lengths(runner: Runner) -> None:
    for scheduler in _flat(runner.param_schedulers):
        total = getattr(scheduler, 'total_steps', None)
        if total is None:
            continue
        unit = 'epochs' if scheduler.by_epoch else 'iterations'
        length = runner.max_epochs if scheduler.by_epoch else runner.max_iters
        if min(length, scheduler.end - 1) - scheduler.begin > total:
            raise ValueError(
                f'param_scheduler: {type(scheduler).__name__}.total_steps must not be less than '
                f'the {length} {unit} of the training, but got {total}. Set it to {length}.'
            )


def _flat(schedulers: Any) -> Iterator[Any]:
    if isinstance(schedulers, Mapping):
        schedulers = list(schedulers.values())
    if isinstance(schedulers, list):
        for scheduler in schedulers:
            yield from _flat(scheduler)
    elif schedulers is not None:
        yield schedulers
