"""No step on a loss or gradient that is not finite: stop with the state before it, or skip."""

from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
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
        model.register_forward_hook(_check_losses, with_kwargs=True)
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if optimizer is not None:
            optimizer.register_step_pre_hook(lambda *_: _check_gradients(optimizer, model))
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
            'longer warm-up or clip_grad may help. To leave out such batches: '
            "default_hooks=dict(non_finite=dict(type='NonFiniteHook', max_skips=10))."
        )


def _check_losses(model: nn.Module, args: Any, kwargs: dict[str, Any], losses: Any) -> None:
    if kwargs.get('mode') != 'loss':
        return
    values = {name: _mean(term) for name, term in losses.items() if is_term(name)}
    found = torch.stack([*values.values()])
    bad = (~found.isfinite().all()).float()
    all_reduce(bad, 'max')
    if bad:
        numbers = zip(values, found.tolist(), strict=True)
        raise NonFiniteError(
            ', '.join(f'{n} = {v}' for n, v in numbers if not torch.tensor(v).isfinite())
        )


def _mean(term: Any) -> Tensor:
    if isinstance(term, Tensor):
        return term.detach().float().mean()
    return torch.stack([_mean(part) for part in term]).sum()


def _check_gradients(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    if getattr(optimizer, 'found_inf', None) is not None:
        return  # a fused optimizer in float16 sees for itself what the loss scaler found
    named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    finite = torch.stack([grad.sum() for _, grad in named]).isfinite()
    if not finite.all():
        bad = [name for (name, _), good in zip(named, finite.tolist(), strict=True) if not good]
        optimizer.zero_grad()
        raise NonFiniteError(
            f'the gradient of {len(bad)} parameters ({first_of(bad, 3)}) of finite losses'
        )


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
