"""The towers of convolutions of a dense head: what runs in them, and the rest of a head alone."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mmkd.heads.predictions import Batch, Predictions
from mmkd.heads.readers import read

TOWERS = ('cls_convs', 'reg_convs')


class HeadAtWork:
    """A head, the images that it saw, and after which convolution of its towers to go on.

    Args:
        head: a dense head.
        batch: the images.
        depth: of its towers; 0 for the whole head.
    """

    def __init__(self, head: Any, batch: Batch, depth: int = 0) -> None:
        self.head, self.batch, self.depth = head, batch, depth

    def predictions(self, maps: Sequence[Sequence[Tensor]]) -> Predictions:
        """What the rest of the head makes of other maps, with their graph.

        Args:
            maps: the levels of the features for the whole head; of each tower, cls and reg, after
                the convolution at ``depth`` and before its activation.
        """
        return self.rows(self.outputs(maps))

    def outputs(self, maps: Sequence[Sequence[Tensor]]) -> Sequence[Any]:
        """The same, as the head returns it."""
        with ExitStack() as stack:
            for name, levels in zip(TOWERS, maps, strict=False) if self.depth else ():
                stack.enter_context(_fed(self.head, name, levels, self.depth))
            found: Sequence[Any] = self.head(tuple(maps[0]))
            return found

    def rows(self, outputs: Sequence[Any]) -> Predictions:
        """What the head predicts with these outputs of its forward."""
        return read(self.head, outputs, self.batch)


@dataclass(frozen=True)
class TowerRun:
    """One run of a head.

    Args:
        maps: of each tower, cls and reg, its levels (B, C, H, W) after the convolution at a depth,
            before the activation; nothing at depth 0.
        rows: what the head predicted.
        at_work: the head.
        outputs: of its forward. None where they are not known.
    """

    maps: Sequence[Sequence[Tensor]]
    rows: Predictions
    at_work: HeadAtWork
    outputs: Sequence[Any] | None = None


def towers(head: Any, name: str) -> list[nn.ModuleList]:
    """The tower ``name`` of each level, or the one that all share; nothing where there is none.

    MMYOLO's heads keep a convolution for each level under these names, which is no tower.
    """
    owner = getattr(head, 'head_module', head)
    convs = getattr(owner, name, None)
    if not isinstance(convs, nn.ModuleList) or not len(convs):
        return []
    if all(isinstance(level, nn.ModuleList) and len(level) for level in convs):
        return [level for level in convs if isinstance(level, nn.ModuleList)]
    return [convs] if type(owner).__module__.split('.')[0] != 'mmyolo' else []


def before_activation(conv: Any) -> nn.Module:
    """The part of a ConvModule whose output its activation gets."""
    if getattr(conv, 'with_norm', False):
        return conv.norm
    return getattr(conv, 'conv', conv)


class _Fed(nn.Module):
    """Gives level by level what it was given, activated, in the place of a tower's beginning."""

    def __init__(self, levels: Iterator[Tensor], conv: Any) -> None:
        super().__init__()
        self.levels = levels
        self.activate = conv.activate if getattr(conv, 'with_activation', False) else None

    def forward(self, _: Tensor) -> Tensor:
        found = next(self.levels)
        return (
            found if self.activate is None else self.activate(found.clone())
        )  # it may be in place


@contextmanager
def _fed(head: Any, name: str, levels: Sequence[Tensor], depth: int) -> Iterator[None]:
    """Let the tower ``name`` begin after its convolution at ``depth``, with these maps."""
    owner, there = getattr(head, 'head_module', head), towers(head, name)
    given = iter(levels)
    begun = [nn.ModuleList([_Fed(given, t[depth - 1]), *t[depth:]]) for t in there]
    whole = owner._modules[name]
    owner._modules[name] = begun[0] if there[0] is whole else nn.ModuleList(begun)
    try:
        yield
    finally:
        owner._modules[name] = whole
