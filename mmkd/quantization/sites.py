"""Where the tensors are that an INT8 convolution reads and writes, found by running the model."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkd.datasets.channels import input_channels
from mmkd.heads.description import PREDICTING
from mmkd.quantization.fake_quantizers import UNBOUNDED

#: Sides of the images that are tried: some detectors take no small ones.
_SIDES = (64, 128, 320, 640)
#: What is behind a convolution of a tower, and not behind one that predicts.
_OF_TOWERS = (
    *('torch.nn.modules.activation', 'torch.nn.modules.batchnorm', 'torch.nn.modules.instancenorm'),
    *('torch.nn.modules.normalization', 'mmcv.cnn.bricks'),
)

#: A tensor at one moment: in-place operations make another of it.
Moment = tuple[int, int]


@dataclass
class Sites:
    """What is quantised of a model, by the names of modules.

    Args:
        convolutions: those that the model runs, and whether each needs a quantiser for its input;
            else that is the output of another.
        outputs: the module behind which a convolution's output is, itself or its BatchNorm, and
            the limits of a ReLU right behind.
        predictors: convolutions of the head with neither norm nor activation behind them.
    """

    convolutions: dict[str, bool] = field(default_factory=dict)
    outputs: dict[str, tuple[float, float]] = field(default_factory=dict)
    predictors: set[str] = field(default_factory=set)


def find_sites(model: Any, left_out: Any = lambda name, predictor: False) -> Sites:
    """Run a detector on noise and see which tensor goes where.

    Args:
        model: a detector; afterwards it is as it was.
        left_out: of the name of a convolution and whether it predicts, whether it stays in float.

    Raises:
        ValueError: the model does not run alone.
    """
    names = {module: name for name, module in model.named_modules()}
    for side in _SIDES:
        trace = _Trace(names)
        try:
            with _undisturbed(model), trace.watching(model):
                _run(model, side)
            break
        except Exception as error:  # whatever a detector says of a small image
            fault = error
    else:
        raise ValueError(
            f'quantize needs a student that runs on an image alone, but {type(model).__name__} '
            f'does not ({type(fault).__name__}: {str(fault)[:200]}). Leave quantize out.'
        ) from fault
    return trace.sites(left_out)


def _run(model: Any, side: int) -> None:
    like = next(model.parameters())
    channels = input_channels(getattr(model, 'backbone', model))
    features = model.extract_feat(torch.randn(1, channels, side, side).to(like))
    for name in dict.fromkeys((*PREDICTING, 'rpn_head')):
        head = getattr(model, name, None)
        if head is None or hasattr(model, 'forward_transformer'):
            continue
        needed = [
            p
            for p in inspect.signature(head.forward).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        if len(needed) == 1:
            head(features)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Trace:
    def __init__(self, names: dict[nn.Module, str]) -> None:
        self.names = names
        self.kept: list[Any] = []  # so that no address is used again
        self.entering: list[Moment | None] = []
        self.reads: dict[nn.Module, list[Moment]] = {}  # of each convolution
        self.writes: dict[nn.Module, list[Moment]] = {}  # of convolutions and BatchNorms
        self.norms: dict[Moment, nn.Module] = {}  # by what each reads
        self.bounds: dict[Moment, tuple[tuple[float, float], Moment]] = {}  # by what a ReLU reads
        self.towers: set[Moment] = set()  # read by a norm or an activation

    def _moment(self, found: Any) -> Moment | None:
        self.kept.append(found)
        return (id(found), found._version) if isinstance(found, Tensor) else None

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        own = nn.Conv2d._conv_forward
        trace = self

        def conv_forward(
            conv: nn.Conv2d, inputs: Tensor, weight: Tensor, bias: Tensor | None
        ) -> Tensor:
            read = trace._moment(inputs)
            found = own(conv, inputs, weight, bias)
            wrote = trace._moment(found)
            if conv in trace.names and read and wrote:
                trace.reads.setdefault(conv, []).append(read)
                trace.writes.setdefault(conv, []).append(wrote)
            return found

        leaves = [m for m in model.modules() if not any(m.children())]
        hooks = [m.register_forward_pre_hook(self._enter) for m in leaves]
        hooks += [m.register_forward_hook(self._leave) for m in leaves]
        nn.Conv2d._conv_forward = conv_forward  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            nn.Conv2d._conv_forward = own  # type: ignore[method-assign]
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.entering.append(self._moment(args[0]) if args else None)

    def _leave(self, module: nn.Module, args: Any, found: Any) -> None:
        read, wrote = self.entering.pop(), self._moment(found)
        if read is None or wrote is None:
            return
        kind = type(module)
        if kind.__module__.startswith(_OF_TOWERS) and kind.__name__ != 'Scale':
            self.towers.add(read)
        if isinstance(module, _BatchNorm):
            self.norms[read] = module
            self.writes.setdefault(module, []).append(wrote)
        in_place = wrote[0] == read[0]  # so that nothing else sees what was there before
        if in_place and isinstance(module, nn.ReLU):
            self.bounds[read] = (0.0, float('inf')), wrote
        elif in_place and isinstance(module, nn.ReLU6):
            self.bounds[read] = (0.0, 6.0), wrote

    def sites(self, left_out: Any) -> Sites:
        found, written = Sites(), set()
        heads = tuple(f'{name}.' for name in (*PREDICTING, 'rpn_head'))
        for conv, wrote in self.writes.items():
            name = self.names.get(conv, '')
            if not isinstance(conv, nn.Conv2d):
                continue
            predicts = name.startswith(heads) and self.towers.isdisjoint(wrote)
            if predicts:
                found.predictors.add(name)
            if left_out(name, predicts):
                continue
            found.convolutions[name] = True
            behind = [self.norms.get(moment) for moment in wrote]
            owners = {norm for norm in behind if norm is not None} if all(behind) else {conv}
            for owner in owners:
                outputs = self.writes[owner]
                bounds = {self.bounds[m][0] if m in self.bounds else UNBOUNDED for m in outputs}
                limits = bounds.pop() if len(bounds) == 1 else UNBOUNDED
                found.outputs[self.names[owner]] = limits
                written.update(outputs)
                if limits != UNBOUNDED:
                    written.update(self.bounds[m][1] for m in outputs)
        for conv, read in self.reads.items():
            if self.names[conv] in found.convolutions:
                found.convolutions[self.names[conv]] = not written.issuperset(read)
        return found
