"""Recorders of several teachers, each of which looks by itself, and what they predict together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmrazor.models.task_modules import RecorderManager
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import MODELS, TASK_UTILS
from torch import nn

from mmkd.heads.fusion import JoinedRows


@TASK_UTILS.register_module()
class JoinedRecorder(BaseRecorder):
    """What several teachers predict, as :class:`mmkd.heads.fusion.JoinedRows` (``type='Joined'``).

    A pair with several teachers makes it by itself: :mod:`mmkd.binding.several_teachers`.

    Args:
        feeds (list[dict]): of each teacher ``recorder``, with ``record_idx`` and ``data_idx`` if
            need be, ``weight``, ``taught`` and ``link``, the config of the connector that brings
            it to the student's classes, or None.
        columns (list[int], optional): the classes that are kept. Defaults to None, all.
    """

    def __init__(
        self, feeds: Sequence[Mapping[str, Any]], columns: Sequence[int] | None = None
    ) -> None:
        super().__init__('')
        self.feeds = [dict(feed) for feed in feeds]
        self.columns = None if columns is None else list(columns)
        self._links = [MODELS.build(feed['link']) if feed.get('link') else None for feed in feeds]
        self._recorders: RecorderManager | None = None

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        """Nothing: the recorders that it joins find their models."""

    def join(self, recorders: RecorderManager) -> None:
        """Take the records of these."""
        self._recorders = recorders
        self._initialized = True

    @property
    def data_buffer(self) -> list[Any]:
        """One record, which is made when it is asked for."""
        return [self]

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> JoinedRows:
        """The rows of all teachers."""
        assert self._recorders is not None
        found = []
        for feed, link in zip(self.feeds, self._links, strict=True):
            recorder = self._recorders.get_recorder(feed['recorder'])
            rows = recorder.get_record_data(feed.get('record_idx') or 0, feed.get('data_idx'))
            rows = rows if link is None else link(rows)
            if self.columns is not None:
                rows = replace(rows, log_prob=rows.log_prob[..., self.columns], class_boxes=None)
            found.append(rows)
        taught = [feed.get('taught') for feed in self.feeds]
        if self.columns is not None:
            taught = [t and [t[column] for column in self.columns] for t in taught]
        return JoinedRows(found, [feed['weight'] for feed in self.feeds], taught)


class OwnedRecorders(RecorderManager):
    """Recorders, each of which looks at one of several models.

    Args:
        recorders: built, by name.
        owners: by the name of a recorder that of its model.
    """

    def __init__(self, recorders: Mapping[str, BaseRecorder], owners: Mapping[str, str]) -> None:
        super().__init__()
        self._recorders = dict(recorders)
        self.owners = dict(owners)

    def initialize(self, model: Any) -> None:
        """Let each recorder find its model among ``model.models``."""
        for name, recorder in self.recorders.items():
            if isinstance(recorder, JoinedRecorder):
                recorder.join(self)
            else:
                recorder.initialize(model.models[self.owners[name]])

    def of(self, owner: str) -> RecorderManager:
        """Those of one model."""
        manager = RecorderManager()
        manager._recorders = {
            name: r for name, r in self.recorders.items() if self.owners.get(name) == owner
        }
        return manager


def joined_with(record: Mapping[str, Any], recorders: RecorderManager) -> list[Mapping[str, Any]]:
    """The entries of ``loss_forward_mappings`` that one stands for: itself, or what is joined."""
    recorder = recorders.get_recorder(record['recorder'])
    return [*recorder.feeds] if isinstance(recorder, JoinedRecorder) else [record]
