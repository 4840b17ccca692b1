"""The facts that arguments take: of the head that feeds them, of the maps that they are fed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mmrazor.registry import TASK_UTILS
from torch import nn

from mmkd.binding.probe import Probe
from mmkd.heads import describe_head, predicting_head
from mmkd.heads.towers import TOWERS, towers
from mmkd.rules.side import SIDES
from mmkd.rules.taps import tap


class Fed(NamedTuple):
    """A record that a mapping takes, on one side; of its levels those at ``levels``, or all."""

    side: str
    record: Mapping[str, Any]
    levels: Sequence[int] | None = None


class Models:
    """Student and teacher, with what their recorders see.

    Args:
        student: the built student.
        teacher: the built teacher.
        distiller: the config of the distiller, with the source of each recorder.
        scale: of the image that the teacher sees, by that of the student's. Defaults to 1.0.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        distiller: Mapping[str, Any],
        scale: float = 1.0,
    ) -> None:
        self.models = dict(zip(SIDES, (student, teacher), strict=True))
        self.recorders = {side: distiller.get(f'{side}_recorders') or {} for side in SIDES}
        self.probes = {
            side: Probe(self.models[side], self.recorders[side], by)
            for side, by in zip(SIDES, (1.0, scale), strict=True)
        }

    def head(self, side: str, record: Mapping[str, Any] | None) -> nn.Module | None:
        """The head that a record belongs to; else the detector's own."""
        recorder = self.recorders[side].get(record['recorder']) if record else None
        if recorder is not None:
            kind = f'{recorder["type"]}Recorder'
            built = TASK_UTILS.build({'_scope_': 'mmrazor', **recorder, 'type': kind})
            found = tap(self.models[side], built)
            if found.head is not None:
                return found.head
        return getattr(self.models[side], 'bbox_head', None)

    def fact(self, name: str, own: Fed, other: Fed | None) -> Any:
        """A fact by its name; None where the models do not tell.

        Args:
            name: one of ``HEAD_FACTS`` or 'channels', of the record itself, or with
                ``counterpart_`` in front, of what the other side gives for it; 'tower_channels', of
                towers where those of the two heads differ.
            own: the record that is fed.
            other: its counterpart, if it has one.
        """
        if name in ('tower_channels', 'counterpart_tower_channels'):
            widths = [self.tower_channels(fed) for fed in (own, other)]
            if None in widths or widths[0] == widths[1]:
                return None
            return widths[name.startswith('counterpart_')]
        if name.startswith('counterpart_'):
            side = SIDES[1 - SIDES.index(own.side)]
            own, name = other or Fed(side, {}), name.removeprefix('counterpart_')
            if name == 'channels' and other is None:
                return None
        if name == 'channels':
            found = self.probes[own.side].channels(own.record)
            if own.levels is None or not isinstance(found, list):
                return found
            return [found[level] for level in own.levels]
        head = self.head(own.side, own.record or None)
        return None if head is None else HEAD_FACTS[name](head)

    def tower_channels(self, fed: Fed | None) -> int | None:
        """Of the towers that a record of them was taken in; None for any other record."""
        recorder = self.recorders[fed.side].get(fed.record.get('recorder')) if fed else None
        if fed is None or recorder is None or recorder['type'] != 'Towers':
            return None
        model = self.models[fed.side]
        source = recorder.get('source') or predicting_head(model)[0]
        found = towers(model.get_submodule(source), TOWERS[0]) if recorder.get('depth') != 0 else []
        convs = [m for m in found[0][0].modules() if isinstance(m, nn.Conv2d)] if found else []
        return convs[-1].out_channels if convs else None


#: By name what a head tells.
HEAD_FACTS: dict[str, Callable[[nn.Module], Any]] = {
    'classes': lambda head: getattr(head, 'num_classes', None),
    'cls_channels': lambda head: describe_head(head).class_channels,
    'priors': lambda head: getattr(head, 'prior_generator', None),
    'coder': lambda head: getattr(head, 'bbox_coder', None),
    'raw_coder': lambda head: describe_head(head).raw_coder[1],
    'reg_max': lambda head: getattr(head, 'reg_max', None),
}
