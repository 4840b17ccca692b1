"""The cache in the place of the teacher."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmkd.cache.key import check_key, digest, teacher_key
from mmkd.cache.record import RecordLayout, as_before, plan_fields, records_given
from mmkd.cache.store import read_index
from mmkd.cache.views import RECORD
from mmkd.recorders.predictions_recorder import PredictionsRecorder
from mmkd.teachers.frozen_teacher import FrozenTeacher
from mmkd.teachers.lean_teacher import plain_records
from mmkd.teachers.several import FrozenTeachers, SeveralModels

#: Of what codecs write: another number when it changes.
FORMAT = 1


class CachedTeacher:
    """Puts the cached records of a batch where the running teacher would put them.

    Records come with the batch; the student's preprocessor hands them over before it makes its
    own of the batch, since it need not know of them.

    Args:
        cache (str | dict): folder of the cache, or ``folder`` and ``codecs``.
        teacher (FrozenTeacher): what the cache must have been filled with. It is not kept; but of
            several those that are known by their detections go on as without a cache.
        distiller (nn.Module): whose recorders are filled.
        student (nn.Module): the detector that the distiller teaches.
        preprocessor (nn.Module): the first to get a batch.

    Raises:
        FileNotFoundError, ValueError: there is no cache, or it is of another teacher,
            preprocessing or distiller.
    """

    def __init__(
        self,
        cache: str | Mapping[str, Any],
        teacher: FrozenTeacher | FrozenTeachers,
        distiller: nn.Module,
        student: nn.Module,
        preprocessor: nn.Module,
    ) -> None:
        folder, codecs = cache_config(cache)
        fields = plan_fields(distiller, student, codecs)
        index = read_index(folder)
        own = algorithm_key(teacher, fields)
        older = {**own, 'recorders': _recorders(as_before(fields))}
        check_key(folder, index['key'], older if older.items() <= index['key'].items() else own)
        #: By name the teachers that look.
        self.parts = teacher.given
        self.model = nn.Module()  # of the teacher's weights nothing is kept in memory
        if self.parts:
            names = teacher.parts
            kept = {name: p.model for name, p in self.parts.items()}
            self.model = SeveralModels({name: kept.get(name, nn.Module()) for name in names})
        self.crops = teacher.crops
        self._layout = RecordLayout(index['fields'])
        self._recorders = distiller.teacher_recorders
        recorders: Any = self._recorders
        for recorder in recorders.recorders.values():
            if isinstance(recorder, PredictionsRecorder) and not records_given(recorder):
                recorder.release()
        # mmkd's losses read rows without a copy; others may ``view`` what they get.
        losses: Any = distiller.distill_losses
        self._plain = any(map(_of_others, losses.values()))
        self._records: Tensor | None = None
        preprocessor.register_forward_pre_hook(self._take)

    def _take(self, preprocessor: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self._records = args[0].get(RECORD)
        return {k: v for k, v in args[0].items() if k != RECORD}, *args[1:]

    def __call__(self, inputs: Tensor, data_samples: Any = None) -> None:
        """Fill the recorders for the student's batch (B, C, H, W)."""
        records, self._records = self._records, None
        if records is None or len(records) != len(inputs):
            raise ValueError(
                "with teacher_cache each batch must bring the teacher's records, but this one has "
                f'{0 if records is None else len(records)} for {len(inputs)} images. Train with '
                '"mmkd train", or call mmkd.cache.draw_cached_views(runner) before '
                'runner.train().'
            )
        self._layout.decode(records.to(inputs.device), self._recorders)
        if self._plain:
            plain_records(self._recorders)
        for part in self.parts.values():
            part(inputs, data_samples)

    def __deepcopy__(self, memo: dict[int, Any]) -> 'CachedTeacher':
        return self


def cache_config(cache: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Folder and codecs of a ``teacher_cache``."""
    if isinstance(cache, str):
        return cache, {}
    return cache['folder'], dict(cache.get('codecs') or {})


def _of_others(loss: nn.Module) -> bool:
    """Whether a loss declares a codec and is not mmkd's own."""
    return bool(getattr(loss, 'teacher_reads', None)) and not type(loss).__module__.startswith(
        'mmkd.'
    )


def algorithm_key(
    teacher: FrozenTeacher | FrozenTeachers, fields: list[dict[str, Any]]
) -> dict[str, str]:
    """The parts of the key that the algorithm knows."""
    return {**teacher_key(teacher), 'recorders': _recorders(fields)}


def _recorders(fields: list[dict[str, Any]]) -> str:
    return digest([FORMAT, fields])
