"""What the arguments of a loss are mapped to."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from mmkd.rules.side import side_of
from mmkd.rules.taps import Tap, tap


class Feed(NamedTuple):
    """What an argument of a loss is mapped to."""

    loss: str  # its name in distill_losses
    argument: str
    from_student: bool
    recorder: str  # with its side, as in the config
    tap: Tap
    part: str  # of the head, of the item of the record that is taken
    connectors: list[nn.Module]

    @property
    def where(self) -> str:
        """The argument's key."""
        return f'loss_forward_mappings.{self.loss}.{self.argument}'


def feeds_of(name: str, distiller: Any, student: nn.Module, teacher: nn.Module) -> Iterator[Feed]:
    """What the mapping of the loss ``name`` feeds it, argument by argument."""
    for argument, record in getattr(distiller, 'loss_forward_mappings', {}).get(name, {}).items():
        side = side_of(record)
        own = side == 'student'
        recorder = getattr(distiller, f'{side}_recorders').get_recorder(record['recorder'])
        found = tap(student if own else teacher, recorder)
        connector = record.get('connector')
        used = [distiller.connectors[connector]] if connector else []
        if used and isinstance(used[0], nn.Sequential):
            used = list(used[0])
        part = found.of(record.get('data_idx'))
        key = f'{side}_recorders.{record["recorder"]}'
        yield Feed(name, argument, own, key, found, part, used)
