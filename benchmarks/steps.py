"""What a benchmark runs again and again: a step, the losses alone, and what a step holds."""

import copy
from collections.abc import Callable
from typing import Any

import measured_pairs  # noqa: F401  (first: it makes mmdet importable)
import torch

from mmkd.hooks.channels_last_hook import channels_last
from mmkd.targets.batch_targets import batch_targets


def with_options(model: Any) -> Any:
    """The model with the options of a run, for a detector on its own and for a pair alike."""
    reason = channels_last(getattr(model, 'student', model))
    assert not reason, reason
    batch_targets(model)
    return model


def stepper(
    model: torch.nn.Module, batch: dict, fused: bool = False, amp: bool = False
) -> Callable[[], dict]:
    """A function that trains the model for a step on the batch and returns its terms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-6, fused=fused or None)
    device = next(model.parameters()).device.type

    def step() -> dict:
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            data = model.data_preprocessor(copy.deepcopy(batch), True)
            terms = model(**data, mode='loss')
        optimizer.zero_grad()
        model.parse_losses(terms)[0].backward()
        optimizer.step()
        return {k: v.detach() for k, v in terms.items() if isinstance(v, torch.Tensor)}

    return step


def tensors(value) -> list[torch.Tensor]:
    """The tensors of nested lists."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


def recorded(manager) -> list[torch.Tensor]:
    """What the recorders of one side hold."""
    return [t for r in manager.recorders.values() for t in tensors(r.data_buffer)]


def record_bytes(model, batch: dict) -> int:
    """Bytes of what the teacher's recorders hold after a forward."""
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with model.distiller.teacher_recorders:
        model.teacher_source(data['inputs'], data['data_samples'])
    storages = {t.untyped_storage() for t in recorded(model.distiller.teacher_recorders)}
    model._release_records()
    return sum(storage.nbytes() for storage in {s.data_ptr(): s for s in storages}.values())


def loss_stepper(model, batch: dict) -> Callable[[], None]:
    """A function that runs the distillation losses and connectors alone, forward and backward."""
    distiller = model.distiller
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with distiller.teacher_recorders:
        model.teacher_source(data['inputs'], data['data_samples'])
    with distiller.student_recorders:
        model.student(data['inputs'], data['data_samples'], mode='loss')
    outputs = [t for t in recorded(distiller.student_recorders) if t.requires_grad]

    def run() -> None:
        total = sum(distiller.compute_distill_losses().values())
        torch.autograd.grad(total, outputs, allow_unused=True)

    return run
