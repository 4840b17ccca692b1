"""The teacher's maps on the student's grid, where its padding alone makes them larger."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from torch import Tensor

from mmkd.recorders.predictions_recorder import HeadRun
from mmkd.teachers.lean_teacher import each_tensor

#: Input pixels from cell to cell, of any detector's levels.
_STRIDES = [2**power for power in range(11)]


def crop_records(teacher: Any, student: Any, size: Sequence[int], divisor: int) -> None:
    """Crop the maps that the teacher recorded to the grid of the student's at the same stride.

    The teacher sees the student's batch padded, at the bottom and on the right, to a multiple of
    its ``pad_size_divisor``: the cells beyond the student's grid show padding only. Maps without a
    counterpart, and what is no map (B, C, H, W), stay. Of predictions the rows at the student's
    priors are kept, if all of these are among the teacher's.

    Args:
        teacher: the recorders of the teacher, whose buffers are changed.
        student: those of the student.
        size: height and width of the student's batch, in pixels.
        divisor: of the teacher.
    """
    padded = tuple(side + -side % divisor for side in size)
    if padded == tuple(size):
        return
    grids: set[tuple[int, ...]] = set()

    def note(maps: Tensor) -> Tensor:
        if maps.dim() == 4:
            grids.add(tuple(maps.shape[-2:]))
        return maps

    def crop(maps: Tensor) -> Tensor:
        if maps.dim() != 4:
            return maps
        found = _counterparts(tuple(maps.shape[-2:]), padded, size, grids)
        height, width = next(found, maps.shape[-2:])
        return maps[..., :height, :width].contiguous()

    for recorder in student.recorders.values():
        each_tensor(recorder.data_buffer, note)
    for recorder in teacher.recorders.values():
        recorder.data_buffer[:] = each_tensor(recorder.data_buffer, crop)
    own = _runs(student)
    for run in _runs(teacher):  # its rows are read later, if at all
        run.grids = own


def _runs(recorders: Any) -> list[HeadRun]:
    buffers = [recorder.data_buffer for recorder in recorders.recorders.values()]
    return [run for buffer in buffers for run in buffer if isinstance(run, HeadRun)]


def _counterparts(
    grid: tuple[int, ...], padded: Sequence[int], size: Sequence[int], grids: Collection[Any]
) -> Iterator[tuple[int, ...]]:
    """Those of ``grids`` (for ``size``) at the stride at which ``padded`` has ``grid``."""
    rounded = max(_ROUNDED, key=lambda rounded: _explained(rounded, size, grids))
    exact = {side // cells for side, cells in zip(padded, grid, strict=True) if side % cells == 0}
    for stride in [*_STRIDES, *sorted(exact - set(_STRIDES))]:
        of_teacher = [other(padded, stride) for other in _ROUNDED]
        if grid in of_teacher and rounded(size, stride) in grids:
            yield rounded(size, stride)


def _up(size: Sequence[int], stride: int) -> tuple[int, ...]:
    return tuple(-(-side // stride) for side in size)


def _down(size: Sequence[int], stride: int) -> tuple[int, ...]:
    return tuple(side // stride for side in size)


#: How sides that are no multiple of the stride become cells; padded convolutions round up.
_ROUNDED = (_up, _down)


def _explained(rounded: Callable[..., Any], size: Sequence[int], grids: Collection[Any]) -> int:
    """How many of ``grids`` are those of strides, less the gaps between them."""
    there = [grid in grids for grid in dict.fromkeys(rounded(size, s) for s in _STRIDES)]
    if not any(there):
        return 0
    used = there[there.index(True) : len(there) - there[::-1].index(True)]
    return 2 * sum(used) - len(used)
