"""A cache of one batch in the place of a pair's teacher."""

import copy

import numpy as np
import torch
from torch import nn

from mmkd.cache.record import RecordLayout, plan_fields
from mmkd.cache.store import Store
from mmkd.datasets.data_samples import ground_truth


def cached(model, batch: dict, folder: str) -> int:
    """Let the pair's teacher be a cache of this batch in ``folder``; bytes of a view."""
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    recorders = model.distiller.teacher_recorders
    with recorders:
        model.teacher_source(data['inputs'], data['data_samples'])
    layout = RecordLayout.of(plan_fields(model.distiller, model.student), recorders)
    boxes, images = ground_truth(batch['data_samples'])
    truths = [boxes[images == image] for image in range(len(batch['inputs']))]
    records = layout.encode(recorders, (model.student.bbox_head.prior_generator, truths))
    model._release_records()
    store = Store(folder, layout.nbytes, len(records), 'benchmark')
    for slot, record in enumerate(records.cpu().numpy()):
        store.write(slot, 0, record)

    model.teacher_source = Cached(model, store, layout)
    return layout.nbytes


class Cached:
    """A cache in the place of the teacher: records as a loader's workers read them, decoded."""

    def __init__(self, model, store: Store, layout: RecordLayout) -> None:
        self.model, self.layout = nn.Module(), layout
        self.parts: dict[str, object] = {}
        self.crops: list[tuple[str, int]] = []
        self.recorders = model.distiller.teacher_recorders
        found = [store.read(slot) for slot in range(store.count)]
        assert all(found)
        self.records = torch.from_numpy(np.stack([record for _, record in found]))

    def __call__(self, inputs: torch.Tensor, data_samples: object) -> None:
        self.layout.decode(self.records.to(inputs.device), self.recorders)
