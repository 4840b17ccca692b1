"""What a cache keeps of a view: the teacher's records that the losses read, each by its codec."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmrazor.models.task_modules import RecorderManager
from torch import Tensor, nn

from mmkd.cache.codecs import Dense, NearBoxes, Softmax, SparseSoftmax
from mmkd.cache.obj_cells import ObjCells
from mmkd.cache.rows import Rows, row_tree
from mmkd.geometry.multi_level_maps import describe
from mmkd.heads.predictions import Predictions
from mmkd.recorders.joined_recorder import joined_with
from mmkd.recorders.predictions_recorder import records_rows
from mmkd.teachers.given_detections import GivenDetections


def plan_fields(
    distiller: Any, student: Any, codecs: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The records that the distiller's losses read of the networks, and the codec of each.

    A loss says in ``teacher_reads`` by which codec an argument of its can be kept, if the record
    reaches it as it is. Everything else, and what two losses read in different ways, is kept as
    float16.

    Args:
        distiller: with recorders, losses and ``loss_forward_mappings``.
        student: the detector whose head has the classes.
        codecs: by recorder ('head') or recorder and ``data_idx`` ('head.0'): 'dense16',
            'dense32', or the automatic one. Defaults to None.

    Raises:
        ValueError: an unknown codec, or a distiller whose teacher feeds more than losses, or
            more than can be kept.
    """
    if getattr(distiller.deliveries, 'deliveries', None):
        raise ValueError(
            'a cached teacher can only feed losses, but the distiller has deliveries, which take '
            'values from the running teacher to the student. Train without teacher_cache.'
        )
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, mapping in distiller.loss_forward_mappings.items():
        loss = distiller.distill_losses[name]
        for argument, record in mapping.items():
            if record['from_student']:
                continue
            codec = _codec_of(loss, argument, record, student)
            for one in joined_with(record, distiller.teacher_recorders):
                if records_given(distiller.teacher_recorders.recorders[one['recorder']]):
                    continue
                place = (one['recorder'], one.get('record_idx', 0), one.get('data_idx'))
                if found.setdefault(place, codec) != codec:
                    found[place] = dict(codec='dense16')
    whole = {(recorder, index) for recorder, index, data_idx in found if data_idx is None}
    recorders = distiller.teacher_recorders.recorders
    for recorder, _, _ in found:
        reason = getattr(recorders[recorder], 'uncached', '')
        if reason:
            raise ValueError(
                f'a teacher cache keeps what the teacher says of an image, but teacher_recorders.'
                f'{recorder} ({type(recorders[recorder]).__name__}) holds {reason}. Train without '
                'teacher_cache, or take another method.'
            )
    fields = []
    for (recorder, index, data_idx), codec in sorted(found.items(), key=str):
        parts = [found[place] for place in found if place[:2] == (recorder, index)]
        if (recorder, index) in whole:
            if data_idx is not None:
                continue  # it is in the whole record
            codec = codec if codec['codec'] == 'obj_cells' and len(parts) == 1 else _DENSE
        if records_rows(recorders[recorder]):
            codec = dict(codec='rows')
        name = recorder if data_idx is None else f'{recorder}.{data_idx}'
        chosen = (codecs or {}).get(name, (codecs or {}).get(recorder))
        if chosen is not None:
            codec = _chosen_codec(name, chosen, codec)
        tapped = recorders[recorder]
        heard = getattr(tapped, 'classes', None)  # of score maps: of which classes
        fields.append(
            dict(
                recorder=recorder,
                record_idx=index,
                data_idx=data_idx,
                tap=type(tapped).__name__,
                source=tapped.source,
                **({'classes': list(heard)} if heard else {}),
                **codec,
            )
        )
    return fields


def records_given(recorder: Any) -> bool:
    """Whether a recorder's teacher is one of several that is known by its detections."""
    return isinstance(getattr(recorder, 'model', None), GivenDetections)


def _codec_of(
    loss: nn.Module, argument: str, record: Mapping[str, Any], student: Any
) -> dict[str, Any]:
    codec = getattr(loss, 'teacher_reads', {}).get(argument)
    head = getattr(student, 'bbox_head', None)
    has_anchors = hasattr(getattr(head, 'prior_generator', None), 'base_anchors')
    width = getattr(head, 'cls_out_channels', 2**9)
    if record.get('connector') or record.get('connector_idx') is not None:
        return dict(codec='dense16')  # a connector may read what no loss reads
    if codec == 'near_boxes' and has_anchors:
        return dict(codec=codec)
    if codec == 'softmax' and width <= 2**8:
        temperature = getattr(loss, 'temperature', 1.0)
        codec = 'sparse_softmax' if temperature <= 1 else codec
        return dict(codec=codec, width=width, temperature=temperature)
    if codec == 'obj_cells' and record.get('data_idx') is None:
        return dict(codec=codec)
    return dict(codec='dense16')


def _chosen_codec(name: str, chosen: str, automatic: dict[str, Any]) -> dict[str, Any]:
    if chosen == automatic['codec']:
        return automatic
    if automatic['codec'] == 'rows':
        raise ValueError(
            f"teacher_cache.codecs['{name}'] must be 'rows', the one codec for predictions, but "
            f"got '{chosen}'. Drop it."
        )
    if chosen not in ('dense16', 'dense32'):
        raise ValueError(
            f"teacher_cache.codecs['{name}'] must be 'dense16', 'dense32' or what its losses "
            f"declare ('{automatic['codec']}'), but got '{chosen}'."
        )
    return dict(codec=chosen)


class RecordLayout:
    """The records of a view as bytes, ``nbytes`` for each view.

    Args:
        fields: of :func:`plan_fields`, each with the ``tree`` of its tensors' shapes.
    """

    def __init__(self, fields: Sequence[dict[str, Any]]) -> None:
        self.fields = list(fields)
        self.codecs = [_build_codec(field) for field in self.fields]
        self.sizes = [codec.nbytes for codec in self.codecs]
        self.nbytes = sum(self.sizes)

    @classmethod
    def of(cls, fields: Sequence[dict[str, Any]], recorders: RecorderManager) -> 'RecordLayout':
        """The layout for records like those that ``recorders`` hold now."""
        found = [{**field, 'tree': _shapes(_recorded(recorders, field))} for field in fields]
        for field in found:
            if field['codec'] == 'obj_cells' and not _of_obj_cells(field['tree']):
                field['codec'] = 'dense16'  # a head without objectness
        return cls(found)

    def encode(self, recorders: RecorderManager, context: Any) -> Tensor:
        """What ``recorders`` hold, as (B, nbytes), uint8.

        Raises:
            ValueError: its shapes are not those of the layout.
        """
        parts = []
        for field, codec in zip(self.fields, self.codecs, strict=True):
            value = _recorded(recorders, field)
            if _shapes(value) != field['tree']:
                raise ValueError(
                    'a teacher cache needs a pipeline that gives images of one size, but the '
                    f"teacher's {_name(field)} is {describe(value)} here and was of other shapes "
                    'in the first view. Resize or pad to a fixed size, or train without a cache.'
                )
            parts.append(codec.encode(list(_leaves(value)), context))
        return torch.cat(parts, dim=1)

    def decode(self, data: Tensor, recorders: RecorderManager) -> None:
        """Put the records of ``data`` (B, nbytes), uint8, where the teacher would."""
        parts = zip(self.fields, self.codecs, data.split(self.sizes, dim=1), strict=True)
        for field, codec, part in parts:
            value = codec.decode(part)
            if isinstance(value, list):
                value = _rebuild(field['tree'], iter(value))
            buffer = recorders.get_recorder(field['recorder']).data_buffer
            _pad(buffer, field['record_idx'])
            if field['data_idx'] is None:
                buffer[field['record_idx']] = value
                continue
            record = buffer[field['record_idx']] = buffer[field['record_idx']] or []
            _pad(record, self._last_index(field))
            record[field['data_idx']] = value

    def _last_index(self, field: Mapping[str, Any]) -> int:
        """Of the record's items, so that those counted from its end are none of the others."""
        place = field['recorder'], field['record_idx']
        items = [f['data_idx'] for f in self.fields if (f['recorder'], f['record_idx']) == place]
        return max(0, *(i + 1 for i in items)) + max(0, *(-i for i in items)) - 1

    def describe(self) -> str:
        """Bytes of a view by record."""
        return ', '.join(
            f'{_name(field)} {size} ({field["codec"]})'
            for field, size in zip(self.fields, self.sizes, strict=True)
        )


_DENSE = dict(codec='dense16')


def as_before(fields: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The plan as it was before ``obj_cells``, for caches that were filled then."""
    return [{**field, **_DENSE} if field['codec'] == 'obj_cells' else field for field in fields]


def _of_obj_cells(tree: Any) -> bool:
    kinds = isinstance(tree, list) and len(tree) == 3 and all(isinstance(k, list) for k in tree)
    leaves = list(_leaves(tree))
    flat = kinds and len(leaves) == 3 * len(tree[0]) == 3 * len(tree[2])
    return flat and ObjCells.fits([leaf['shape'] for leaf in leaves])


def _build_codec(field: Mapping[str, Any]) -> Any:
    if field['codec'] == 'rows':
        return Rows(list(_leaves(field['tree'])))
    shapes = [leaf['shape'] for leaf in _leaves(field['tree'])]
    if field['codec'].endswith('softmax'):
        kind = Softmax if field['codec'] == 'softmax' else SparseSoftmax
        return kind(shapes, field['width'], field['temperature'])
    if field['codec'] == 'near_boxes':
        return NearBoxes(shapes)
    if field['codec'] == 'obj_cells':
        return ObjCells(shapes)
    return Dense(shapes, field['codec'].replace('dense', 'float'))


def _name(field: Mapping[str, Any]) -> str:
    return field['recorder'] + ('' if field['data_idx'] is None else f'[{field["data_idx"]}]')


def _recorded(recorders: RecorderManager, field: Mapping[str, Any]) -> Any:
    recorder = recorders.get_recorder(field['recorder'])
    return recorder.get_record_data(field['record_idx'], field['data_idx'])


def _shapes(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_shapes(item) for item in value]
    if isinstance(value, Predictions):
        return row_tree(value)
    if not isinstance(value, Tensor) or value.dim() < 2 or not value.is_floating_point():
        raise ValueError(
            'a teacher cache keeps records of floating tensors (B, ...) and lists of them, but '
            f'the teacher recorded {describe(value)}. Record a head or a feature map.'
        )
    return {'shape': list(value.shape[1:])}


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, list | tuple):
        for item in tree:
            yield from _leaves(item)
    else:
        yield tree


def _rebuild(tree: Any, leaves: Iterator[Tensor]) -> Any:
    return [_rebuild(item, leaves) for item in tree] if isinstance(tree, list) else next(leaves)


def _pad(values: list[Any], index: int) -> None:
    values.extend([None] * (index + 1 - len(values)))
