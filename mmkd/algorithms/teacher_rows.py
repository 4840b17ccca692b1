"""What the teachers of a distiller predict, by the student's classes."""

from typing import Any

from torch import nn

from mmkd.connectors import TaughtClasses
from mmkd.heads import Predictions
from mmkd.recorders.joined_recorder import JoinedRecorder
from mmkd.recorders.predictions_recorder import records_rows


class TeacherRows:
    """The rows that a distiller's recorders hold of its teachers, as its losses are fed them.

    Of a teacher of other classes they are those that the student learns from it; what it says of
    others is left out.

    Args:
        distiller: built.
    """

    def __init__(self, distiller: Any) -> None:
        recorders = getattr(getattr(distiller, 'teacher_recorders', None), 'recorders', {})
        self._joined = [one for one in recorders.values() if isinstance(one, JoinedRecorder)]
        heard = {feed['recorder'] for joined in self._joined for feed in joined.feeds}
        self._alone = [
            (recorder, _link(distiller, name))
            for name, recorder in recorders.items()
            if records_rows(recorder) and name not in heard
        ]

    @property
    def recorded(self) -> bool:
        """Whether there are any."""
        return bool(self._joined or self._alone)

    def read(self) -> list[Predictions]:
        """Those of the present batch, of each teacher; of a DETR its last layer's."""
        found = [rows for joined in self._joined for rows in joined.get_record_data().rows]
        for recorder, link in self._alone:
            rows = recorder.get_record_data()
            rows = rows[-1] if isinstance(rows, list | tuple) else rows
            found.append(rows if link is None else link(rows))
        return [rows.detach() for rows in found]


def _link(distiller: Any, recorder: str) -> nn.Module | None:
    """What brings the records of a teacher's recorder to the student's classes."""
    for mapping in (getattr(distiller, 'loss_forward_mappings', None) or {}).values():
        for record in mapping.values():
            connector = record.get('connector')
            if record['from_student'] or record['recorder'] != recorder or not connector:
                continue
            for link in distiller.connectors[connector].modules():
                if isinstance(link, TaughtClasses):
                    return link
    return None
