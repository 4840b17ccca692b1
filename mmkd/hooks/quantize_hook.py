"""Quantisation-aware training of a detector on its own."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmkd.config.pair_config import is_distillation
from mmkd.distributed.unwrapped import unwrapped
from mmkd.quantization.quantized import (
    Quantize,
    is_quantized,
    quantize,
    ranges_in,
    restore,
    stand_still,
)


@HOOKS.register_module()
class QuantizeHook(Hook):
    """Put fake quantisers into a detector that no teacher teaches, so that it can be compared.

    A pair has the same by its argument ``quantize``, and its comparison gives this hook to the
    baseline.

    Args:
        settings: those of :class:`mmkd.quantization.Quantize`.

    Raises:
        ValueError: a setting that is none, or the model is a pair.
    """

    priority = 'VERY_HIGH'  # before an EMAHook copies the model

    def __init__(self, **settings: Any) -> None:
        self.settings = Quantize.of(settings) or Quantize()

    def before_run(self, runner: Runner) -> None:
        """Put them in, unless they are there."""
        if is_distillation(runner.cfg):
            raise ValueError(
                'QuantizeHook is for a detector on its own, but the model is a pair. Give the pair '
                'quantize=dict(...) and leave the hook out.'
            )
        model = unwrapped(runner.model)
        if not is_quantized(model):
            quantize(model, self.settings)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep BatchNorm as it is, if the settings say so."""
        if self.settings.freeze_norm:
            stand_still(unwrapped(runner.model))

    def load(self, model: Any, checkpoint: str) -> None:
        """Put them into a model as a checkpoint's training has left them, if it had any."""
        ranges = ranges_in(checkpoint)
        if ranges:
            restore(model, ranges)
