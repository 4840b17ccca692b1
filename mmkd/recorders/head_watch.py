"""Watching a head at work without changing it: what it returned, and for which images."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from mmkd.heads.roi import RoICall

Listener = Callable[[dict[str, Any], Any], None]


class WatchedMethod:
    """Stands in for a method of one module while someone listens.

    It is in the module's ``__dict__`` only as long as that: copies of the model, its state and
    its hooks know nothing of it. Calls that pass by the hooks (``head.forward(x)``) are seen.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.own = module.__dict__.get(name)  # a compiled forward, for example
        self.method = getattr(module, name)
        self.signature = inspect.signature(self.method)
        self.before: list[Listener] = []
        self.after: list[Listener] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method, and tell those who listen before and after."""
        arguments = self.signature.bind(*args, **kwargs).arguments
        for listen in [*self.before]:
            listen(arguments, None)
        outputs = self.method(*args, **kwargs)
        for listen in [*self.after]:
            listen(arguments, outputs)
        return outputs


@contextmanager
def tapped(
    module: nn.Module, name: str, after: Listener | None = None, before: Listener | None = None
) -> Iterator[None]:
    """Tell ``before`` the arguments of each call by name, and ``after`` them and the result."""
    tap = module.__dict__.get(name)
    if not isinstance(tap, WatchedMethod):
        tap = module.__dict__[name] = WatchedMethod(module, name)
    places = [(tap.before, before), (tap.after, after)]
    for place, listen in places:
        if listen is not None:
            place.append(listen)
    try:
        yield
    finally:
        for place, listen in places:
            if listen is not None:
                place.remove(listen)
        if not tap.before and not tap.after:
            del module.__dict__[name]
            if tap.own is not None:
                module.__dict__[name] = tap.own


@contextmanager
def watch(head: Any) -> Iterator[list[Any]]:
    """What a dense head, a DETR's head or a RoI head returns while it runs.

    Yields:
        list: for each run of the head its outputs, as :func:`mmkd.heads.read` takes them.
    """
    runs: list[Any] = []
    with ExitStack() as stack:
        if hasattr(head, '_bbox_forward'):
            _watch_roi_head(head, runs, stack)
        elif hasattr(head, 'stages'):  # a Cascade RPN, which has no forward of its own
            for i, stage in enumerate(head.stages):
                record = functools.partial(_record_stage, runs, i)
                stack.enter_context(tapped(stage, 'forward', after=record))
        else:
            stack.enter_context(
                tapped(head, 'forward', after=lambda _, outputs: runs.append(outputs))
            )
        yield runs


def _record_stage(runs: list[Any], stage: int, _: dict[str, Any], outputs: Any) -> None:
    if stage == 0:
        runs.append([])
    runs[-1].append(outputs)


def _watch_roi_head(head: Any, runs: list[Any], stack: ExitStack) -> None:
    latest: list[Any] = []  # what a box head returned within the running _bbox_forward
    running: list[str] = []  # which of the head's methods are

    def record(arguments: dict[str, Any], _: Any) -> None:
        context, outputs = dict(arguments), latest.pop()
        if 'loss' in running and 'bbox_loss' not in running:
            return  # a sampler (OHEM, PISA's) that tries the head to choose its proposals
        stage = context.pop('stage', 0)
        call = RoICall(stage, context.pop('x'), context.pop('rois'), context, outputs)
        _record_stage(runs, stage, {}, call)

    for name in ('loss', 'bbox_loss'):
        enter = functools.partial(lambda name, *_: running.append(name), name)
        leave = functools.partial(lambda name, *_: running.remove(name), name)
        stack.enter_context(tapped(head, name, leave, enter))

    several = isinstance(head.bbox_head, nn.ModuleList)
    for box_head in head.bbox_head if several else [head.bbox_head]:
        stack.enter_context(
            tapped(box_head, 'forward', after=lambda _, outputs: latest.append(outputs))
        )
    stack.enter_context(tapped(head, '_bbox_forward', after=record))
