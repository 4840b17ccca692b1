"""Records of a teacher and a student of other classes, brought to those that both have."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor

from mmkd.geometry.multi_level_maps import as_levels
from mmkd.heads.class_map import ClassMap
from mmkd.heads.mapped_classes import own_rows, taught_maps, taught_rows
from mmkd.heads.predictions import Predictions
from mmkd.heads.towers import HeadAtWork, TowerRun
from mmkd.recorders.loss_pass import LossPass
from mmkd.recorders.queries_recorder import QueryRun


@MODELS.register_module()
class TaughtClasses(BaseConnector):
    """What the teacher predicts, with the student's classes.

    A pair puts it in front of the other connectors of an argument by itself, where the names of
    the two models' classes differ: :mod:`mmkd.binding.class_feeds`.

    Args:
        teacher_classes (list[str]): names, in the order of the teacher's scores.
        student_classes (list[str]): names, in the order of the student's.
        class_map (dict, optional): as of :meth:`mmkd.heads.class_map.ClassMap.from_names`.
        softmax (bool): whether the teacher's scores exclude each other.
        taught (list[bool], optional): of each of the student's classes whether this teacher teaches
            it. Defaults to None: those that it knows.
        shared (bool): of predictions keep the taught classes alone; else all of the student's, the
            others with a score of 0. Defaults to True.
        activated (bool): whether raw maps are probabilities already. Defaults to False.

    Example:
        >>> import torch
        >>> rows = Predictions(torch.tensor([[[0.25, 0.5]]]).log(), torch.zeros(1, 1, 4))
        >>> TaughtClasses(['cat', 'car'], ['car', 'bike'], softmax=False)(rows).log_prob.exp()
        tensor([[[0.5000]]])
    """

    aligns = ('classes',)

    def __init__(
        self,
        teacher_classes: Sequence[str],
        student_classes: Sequence[str],
        class_map: Any = None,
        softmax: bool = False,
        taught: Sequence[bool] | None = None,
        shared: bool = True,
        activated: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.classes = ClassMap.from_names(teacher_classes, student_classes, class_map)
        self.softmax = softmax
        self.taught = self.classes.matched.tolist() if taught is None else list(taught)
        self.shared = shared
        self.activated = activated

    def forward_train(self, feature: Any) -> Any:
        """Predictions, those of layers or of a run, class maps, or a head's output, these first."""
        if isinstance(feature, TowerRun):
            at_work = _TaughtHead(feature.at_work, self._rows)
            return replace(feature, rows=self._rows(feature.rows), at_work=at_work)
        if _holds_rows(feature):
            return _each(feature, self._rows)
        if isinstance(feature, list | tuple) and not isinstance(feature[0], Tensor):
            return type(feature)([self._maps(feature[0]), *feature[1:]])
        return self._maps(feature)

    def _rows(self, rows: Predictions) -> Predictions:
        return taught_rows(rows, self.classes, self.softmax, self.taught, self.shared)

    def _maps(self, maps: Any) -> Any:
        levels = as_levels(maps, 'class maps')
        found = taught_maps(levels, self.classes, self.softmax, self.activated)
        return found[0] if isinstance(maps, Tensor) else found


@MODELS.register_module()
class SharedClasses(BaseConnector):
    """What the student predicts, with the classes alone that its teacher knows.

    Of a student's own loss (``type='LossPass'``) it lets the ground truth of the others stay where
    a teacher's detections take its place, since these cannot show them.

    A pair puts it in front of the other connectors of an argument by itself:
    :mod:`mmkd.binding.class_feeds`.

    Args:
        matched (list[bool]): of each class of the student, whether the teacher has a partner.
        taught (list[bool], optional): of each, whether it is taught. Defaults to None: those that
            have a partner.
        softmax (bool): whether the student's scores exclude each other. Defaults to False.

    Example:
        >>> import torch
        >>> rows = Predictions(torch.tensor([[[0.25, 0.5]]]).log(), torch.zeros(1, 1, 4))
        >>> SharedClasses([True, False], softmax=True)(rows).log_prob.exp()
        tensor([[[0.5000]]])
    """

    def __init__(
        self,
        matched: Sequence[bool],
        taught: Sequence[bool] | None = None,
        softmax: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.matched = list(matched)
        self.taught = self.matched if taught is None else list(taught)
        self.softmax = softmax

    def forward_train(self, feature: Any) -> Any:
        """Predictions, those of layers, a DETR's run, or a detector's own pass."""
        if isinstance(feature, LossPass):
            untaught = [i for i, taught in enumerate(self.taught) if not taught]
            return replace(feature, untaught=tuple(untaught))
        if isinstance(feature, QueryRun):
            return replace(feature, layers=[self._rows(rows) for rows in feature.layers])
        return _each(feature, self._rows)

    def _rows(self, rows: Predictions) -> Predictions:
        return own_rows(rows, self.matched, self.softmax, self.taught)


class _TaughtHead(HeadAtWork):
    """The teacher's head on other maps, with the student's classes."""

    def __init__(self, own: HeadAtWork, change: Callable[[Predictions], Predictions]) -> None:
        super().__init__(own.head, own.batch, own.depth)
        self.change = change

    def rows(self, outputs: Sequence[Any]) -> Predictions:
        """What the head predicts with these outputs of its forward."""
        return self.change(super().rows(outputs))


def _holds_rows(feature: Any) -> bool:
    first = feature[0] if isinstance(feature, list | tuple) and feature else feature
    return isinstance(first, Predictions)


def _each(feature: Any, change: Callable[[Predictions], Predictions]) -> Any:
    if isinstance(feature, list | tuple):
        return type(feature)([change(rows) for rows in feature])
    return change(feature)
