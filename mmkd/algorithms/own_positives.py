"""What a dense head's own loss takes for objects in a batch: asked of the loss itself."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from mmkd.geometry.multi_level_maps import upcast
from mmkd.recorders.replaced import replaced


class OwnPositives:
    """Which priors a head assigns to objects, whatever assigns them.

    A trial of the head's loss, on its outputs without their graph, tells it: what is assigned to an
    object pulls a class's score up, or has a gradient in its box, and no background has. What
    chose the objects in the trial (assigners, PAA's losses of its candidates) gives the same in
    the run that follows, so that scores which are changed there change no choice.

    Args:
        head: a dense head with a map of scores for each level first, and one of boxes next.
        channels: of a prior's scores.
        background: whether the last of them is the background's.
    """

    def __init__(self, head: Any, channels: int, background: bool) -> None:
        self.head, self.channels, self.background = head, channels, background
        #: What the head gave in the trial, with its graph.
        self.outputs: Any = None
        self._kept: dict[tuple[int, str], list[Any]] = defaultdict(list)

    def find(self, loss: Callable[[], dict[str, Any]]) -> list[Tensor]:
        """Of each level (B, A, H, W), whether a prior is an object's.

        Args:
            loss: runs the head's loss. Generators of random numbers are afterwards as before.
        """
        made: list[Any] = []
        forward, recorded = self.head.forward, torch.is_grad_enabled()

        def outputs(*args: Any, **kwargs: Any) -> Any:
            with torch.set_grad_enabled(recorded):
                self.outputs = forward(*args, **kwargs)
            made.append(_leaves(self.outputs))
            return made[-1]

        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=devices))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(replaced(self.head, 'forward', outputs))
            for owner, name in self._choosers():
                stack.enter_context(replaced(owner, name, self._keeping(owner, name)))
            total = sum(_scalars(loss()), start=torch.zeros(()))
        scores, boxes = made[-1][0], [_tensors(level) for level in made[-1][1]]
        leaves = [*scores, *(one for level in boxes for one in level)]
        if not total.requires_grad:
            return [
                torch.zeros_like(level[:, :: self.channels], dtype=torch.bool) for level in scores
            ]
        found = torch.autograd.grad(total, leaves, allow_unused=True)
        of = {id(leaf): grad for leaf, grad in zip(leaves, found, strict=True)}
        return [
            self._level(score, of[id(score)], [(b, of[id(b)]) for b in box])
            for score, box in zip(scores, boxes, strict=True)
        ]

    def _level(
        self, score: Tensor, pull: Tensor | None, boxes: Sequence[tuple[Tensor, Tensor | None]]
    ) -> Tensor:
        priors = score.unflatten(1, (-1, self.channels))  # (B, A, K, H, W)
        found = torch.zeros_like(priors[:, :, 0], dtype=torch.bool)
        if pull is not None:
            pull = pull.unflatten(1, (-1, self.channels))
            pull = pull[:, :, :-1] if self.background else pull
            found |= ~(pull >= 0).all(2)
        for box, moved in boxes:
            if moved is None or box.shape[-2:] != score.shape[-2:]:
                continue
            if box.size(1) % found.size(1) == 0:
                found |= (moved.unflatten(1, (found.size(1), -1)) != 0).any(2)
            else:
                found |= (moved != 0).any(1, keepdim=True)
        return found

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """While the head's loss runs once more, what chooses objects gives what it gave."""
        with ExitStack() as stack:
            for owner, name in self._choosers():
                results = iter(self._kept[id(owner), name])
                stack.enter_context(
                    replaced(owner, name, lambda *_, results=results, **__: next(results))
                )
            yield

    def _choosers(self) -> Iterator[tuple[Any, str]]:
        """The head's assigners, each once, by the method that assigns; and what PAA sorts by."""
        held = {**vars(self.head), **self.head._modules}
        assigners = [one for name, one in held.items() if name.endswith('assigner')]
        for one in {id(a): a for a in assigners if a is not None}.values():
            name = 'assign' if hasattr(one, 'assign') else 'forward'
            if hasattr(one, name):
                yield one, name
        if hasattr(self.head, 'get_pos_loss'):
            yield self.head, 'get_pos_loss'

    def _keeping(self, owner: Any, name: str) -> Callable[..., Any]:
        method, kept = getattr(owner, name), self._kept[id(owner), name]

        def choose(*args: Any, **kwargs: Any) -> Any:
            with torch.no_grad():
                found = method(*args, **kwargs)
            kept.append(copy.deepcopy(found))
            return found

        return choose


def _leaves(outputs: Any) -> Any:
    """The same maps, each of which may be asked for its gradient; in float32."""
    if isinstance(outputs, Tensor):
        return upcast(outputs.detach()).requires_grad_() if outputs.is_floating_point() else outputs
    if isinstance(outputs, list | tuple):
        return type(outputs)(_leaves(one) for one in outputs)
    return outputs


def _tensors(node: Any) -> list[Tensor]:
    if isinstance(node, Tensor):
        return [node]
    return [t for one in node for t in _tensors(one)] if isinstance(node, list | tuple) else []


def _scalars(terms: dict[str, Any]) -> Iterator[Tensor]:
    """All that is trained, as numbers."""
    for name, value in terms.items():
        if 'loss' in name:
            yield from (one.sum().cpu() for one in _tensors(value) if one.requires_grad)
