"""No step on a loss or gradient that is not finite: stop with the state before it, or skip."""

from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from mmkd.config.names import first_of
from mmkd.distributed.unwrapped import unwrapped
from mmkd.errors import NonFiniteError
from mmkd.losses.log_keys import is_term


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Stop the training before a step whose loss or gradient is NaN or infinite.

    The error names the terms, their values, the images and the iteration. The state before the
    step is saved as ``before_non_finite.pth`` in the run's log directory, where no earlier
    checkpoint lies. ``mmkd train`` adds this hook. If one rank meets such a term, all stop or
    skip. Gradients that overflow in float16 are left to the loss scaler.

    Args:
        max_skips (int): how many batches of a run are left out, as if they had not been drawn,
            before the next one stops it. Defaults to 0.

    Raises:
        NonFiniteError: in training, as said.
    """

    def __init__(self, max_skips: int = 0) -> None:
        if max_skips < 0:
            raise ValueError(f'max_skips must be 0 or more, but got {max_skips}.')
        self.max_skips = max_skips
        self.skips = 0

    def before_train(self, runner: Runner) -> None:
        """Put the checks between forward, backward and step, and the decision around them."""
        model = unwrapped(runner.model)
        wrapper: Any = runner.optim_wrapper
        optimizer = getattr(wrapper, 'optimizer', None)
        check = _Check(model, optimizer, waits=not _steps_each_time(wrapper))
        model.register_forward_hook(check.losses, with_kwargs=True)
        if optimizer is not None:
            optimizer.register_step_pre_hook(lambda *_: check.gradients())
        train_step = runner.model.train_step

        def guarded(data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
            # BN statistics change in the forward already.
            before = [buffer.clone() for buffer in model.buffers()]
            try:
                return train_step(data, optim_wrapper=optim_wrapper)
            except NonFiniteError as error:
                for buffer, value in zip(model.buffers(), before, strict=True):
                    buffer.copy_(value)
                self._stop_or_skip(runner, data, str(error))
                return {}

        runner.model.train_step = guarded

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, **kwargs: Any
    ) -> None:
        """Remember which batch it is."""
        self._batch_idx = batch_idx

    def _stop_or_skip(self, runner: Runner, data: Any, fault: str) -> None:
        faults = all_gather_object((fault, _images(runner, self._batch_idx, data)))
        what = '; '.join(
            f'rank {rank}: {fault}, images {images}' if len(faults) > 1 else f'{fault}, in {images}'
            for rank, (fault, images) in enumerate(faults)
            if fault
        )
        message = f'Not finite in iteration {runner.iter + 1} (epoch {runner.epoch + 1}): {what}.'
        if self.skips < self.max_skips:
            self.skips += 1
            runner.logger.warning(f'{message} Batch skipped ({self.skips} of {self.max_skips}).')
            return
        path = Path(runner.log_dir, 'before_non_finite.pth')
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        runner.save_checkpoint(str(path.parent), path.name, meta=meta)
        pointer = Path(runner.work_dir, 'last_checkpoint')
        last = pointer.read_text().strip() if pointer.is_file() else 'none yet'
        raise NonFiniteError(
            f'{message} The weights before this step are in {path}; the last regular checkpoint: '
            f'{last}. Look at the images and at the term; a lower learning rate or loss_weight, a '
            f'longer warm-up or clip_grad may help{_without_amp(runner)}. '
            'To leave out such batches: '
            "default_hooks=dict(non_finite=dict(type='NonFiniteHook', max_skips=10))."
        )


def _without_amp(runner: Runner) -> str:
    """bfloat16 and float16 may be the cause, on a CPU of single convolutions, too."""
    amp = 'Amp' in type(runner.optim_wrapper).__name__  # mmengine's, and mmkd's for the CPU
    return ', and so may a run in float32 (without --amp, or type="OptimWrapper")' if amp else ''


def _steps_each_time(wrapper: Any) -> bool:
    """Whether each backward is followed by a step, to which nothing else can say no."""
    return (
        isinstance(wrapper, OptimWrapper)
        and wrapper._accumulative_counts == 1
        and not hasattr(wrapper, 'loss_scaler')
    )


class _Check:
    """Looks at the losses and gradients of a step.

    Both are read at once, before the optimizer's step, so that a GPU is waited for once in a step.
    Where not each backward is followed by a step, the losses are read before the backward, so that
    the gradients that are being accumulated stay good.

    Args:
        model: the detector or pair.
        optimizer: that trains it.
        waits: whether the losses are read before the backward.
    """

    def __init__(self, model: nn.Module, optimizer: Any, waits: bool) -> None:
        self.model, self.optimizer, self.waits = model, optimizer, waits
        self._names: list[str] = []
        self._values: Tensor | None = None  # of the terms, not yet read

    def losses(self, _: nn.Module, args: Any, kwargs: dict[str, Any], losses: Any) -> None:
        """Look at what the model returned."""
        if kwargs.get('mode') != 'loss':
            return
        terms = {name: _mean(term) for name, term in losses.items() if is_term(name)}
        self._names, self._values = list(terms), torch.stack([*terms.values()])
        if self.waits:
            self._read({})

    def gradients(self) -> None:
        """Look at the gradients, and at the losses that have not been looked at."""
        # A fused optimizer in float16 sees for itself what the loss scaler found.
        scaled = getattr(self.optimizer, 'found_inf', None) is not None
        grads = {} if scaled else dict(_gradients(self.model))
        try:
            self._read(grads)
        except NonFiniteError:
            self.optimizer.zero_grad()
            raise

    def _read(self, grads: Mapping[str, Tensor]) -> None:
        values, self._values = self._values, None
        flags = []
        if values is not None:
            flags.append((~values.isfinite().all()).float())
            all_reduce(flags[0], 'max')
        if grads:
            largest = torch.stack(torch._foreach_norm([*grads.values()], float('inf')))
            flags.append((~largest.isfinite().all()).float())
        if not flags or not any(torch.stack(flags).tolist()):
            return
        if values is not None and flags[0]:
            numbers = zip(self._names, values.tolist(), strict=True)
            raise NonFiniteError(', '.join(f'{n} = {v}' for n, v in numbers if not isfinite(v)))
        finite = zip(grads, largest.isfinite().tolist(), strict=True)
        bad = [name for name, good in finite if not good]
        raise NonFiniteError(
            f'the gradient of {len(bad)} parameters ({first_of(bad, 3)}) of finite losses'
        )


def _gradients(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and parameter.numel():
            grad = parameter.grad
            yield name, grad.coalesce().values() if grad.is_sparse else grad


def _mean(term: Any) -> Tensor:
    if isinstance(term, Tensor):
        return term.detach().float().mean()
    return torch.stack([_mean(part) for part in term]).sum()


def _images(runner: Runner, batch_idx: int, data: Any) -> str:
    samples = data.get('data_samples') if isinstance(data, dict) else None
    if isinstance(samples, list | tuple):
        return ', '.join(str(sample.metainfo.get('img_path')) for sample in samples)
    # MMYOLO's collate drops the paths; a sampler that depends on the epoch alone gives them again.
    loader = runner.train_dataloader
    if not isinstance(runner.train_loop, EpochBasedTrainLoop) or not isinstance(
        loader.sampler, DefaultSampler
    ):
        return f'a batch without paths, number {batch_idx}'
    indices = list(loader.batch_sampler)[batch_idx]
    paths = [str(loader.dataset.get_data_info(i).get('img_path')) for i in indices]
    return f'{", ".join(paths)} (and what mosaic and mixup added to them)'
