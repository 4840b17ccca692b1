"""What a batch's data samples tell: mmdet's list of ``DetDataSample`` or MMYOLO's dict.

MMYOLO's fast collation makes one dict of a training batch: ``bboxes_labels`` (G, 6) with rows of
image, label and box, and ``img_metas``. Its images are all as large as the batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmkd.geometry.multi_level_maps import describe


def ground_truth(samples: Any) -> tuple[Tensor, Tensor]:
    """The boxes (G, 4) of a training batch in input pixels, and the image of each (G,).

    Raises:
        ValueError: ``samples`` are of another kind, or those of a batch without ground truth.
    """
    if isinstance(samples, Mapping):
        if 'bboxes_labels' not in samples:
            raise ValueError(
                "the data samples' dict must hold 'bboxes_labels' as MMYOLO's fast collate makes "
                f'it, got the keys {sorted(samples)}.'
            )
        return samples['bboxes_labels'][:, 2:6], samples['bboxes_labels'][:, 0]
    if not isinstance(samples, list | tuple) or not all(
        hasattr(s, 'gt_instances') for s in samples
    ):
        raise ValueError(
            'batch_data_samples must be a list of DetDataSample with gt_instances, or a dict, got '
            f'{describe(samples)}. Only training batches have ground truth.'
        )
    boxes = [boxes_of(sample) for sample in samples]
    counts = torch.tensor([len(b) for b in boxes])
    return torch.cat(boxes), torch.arange(len(boxes)).repeat_interleave(counts)


def boxes_of(sample: Any) -> Tensor:
    """The ground truth of one ``DetDataSample``: boxes (G, 4) in input pixels."""
    boxes = sample.gt_instances.bboxes
    return getattr(boxes, 'tensor', boxes)


def objects_of(samples: Any, image: int) -> tuple[Tensor, Tensor]:
    """The ground truth of an image of a batch: boxes (G, 4) in input pixels, labels (G,)."""
    if isinstance(samples, Mapping):
        rows = samples['bboxes_labels'][samples['bboxes_labels'][:, 0] == image]
        return rows[:, 2:6], rows[:, 1].long()
    return boxes_of(samples[image]), samples[image].gt_instances.labels


def metas_of(samples: Any) -> Sequence[Mapping[str, Any]] | None:
    """The ``metainfo`` of each image; None where it is not known."""
    if isinstance(samples, Mapping):
        return samples.get('img_metas')
    return None if samples is None else [sample.metainfo for sample in samples]


def rolled(samples: Any) -> Any:
    """The samples with each image's in the place of the next one's.

    MMYOLO's dict stays: all that a model which only looks needs of it is the same for each image.
    """
    if isinstance(samples, list | tuple):
        return [*samples[-1:], *samples[:-1]]
    return samples


def of_input(samples: Any, inputs: Tensor) -> Any:
    """The samples as those of another model's batch, ``inputs`` (B, C, H, W) of the same images.

    A list of ``DetDataSample``, which all detectors take in a forward without losses, with the
    size of ``inputs`` in each. The given ones are not changed; they come back where they fit.

    Args:
        samples: of the batch that ``inputs`` were made of. Of MMYOLO's dict the ground truth is
            left out: to part it by images would hold up a GPU.
        inputs: the images, perhaps padded further at the bottom and on the right.
    """
    if isinstance(samples, Mapping) and 'bboxes_labels' in samples:
        samples = _listed(samples.get('img_metas') or [{}] * len(inputs))
    if not isinstance(samples, list | tuple):
        return samples
    size = tuple(inputs.shape[-2:])
    shapes = {'batch_input_shape': size, 'pad_shape': size}
    return [
        sample
        if tuple(sample.metainfo.get('batch_input_shape', size)) == size
        else sample.new(metainfo={**sample.metainfo, **shapes})
        for sample in samples
    ]


def _listed(metas: Sequence[Mapping[str, Any]]) -> list[Any]:
    """MMYOLO's images, which are as large as the batch, as mmdet's list."""
    from mmdet.structures import DetDataSample

    listed = []
    for meta in metas:
        sample = DetDataSample(metainfo=dict(meta))
        if 'batch_input_shape' in meta:
            size = tuple(meta['batch_input_shape'])
            known = dict(batch_input_shape=size, img_shape=size, ori_shape=size)
            sample.set_metainfo(dict(known, scale_factor=(1.0, 1.0)))
        listed.append(sample)
    return listed


def samples_of(samples: Any, kept: Tensor) -> Any:
    """The samples of some images: of mmdet's list, or of MMYOLO's dict.

    Args:
        samples: of a batch.
        kept: (n,), places of the images, in order.
    """
    if not isinstance(samples, Mapping):
        return [samples[i] for i in kept.tolist()]
    rows = samples['bboxes_labels']
    places = kept.to(rows.device)
    own = torch.isin(rows[:, 0].long(), places)
    made = {**samples, 'bboxes_labels': rows[own].clone()}
    made['bboxes_labels'][:, 0] = torch.searchsorted(places, rows[own, 0].long()).to(rows)
    metas = samples.get('img_metas')
    if metas is not None:
        made['img_metas'] = [metas[i] for i in kept.tolist()]
    for name in ('masks', 'keypoints', 'keypoints_visible'):
        value = samples.get(name)
        if isinstance(value, Tensor):
            made[name] = value[own.to(value.device)] if len(value) == len(rows) else value[places]
    return made


def maps_of(maps: Any, kept: Tensor, images: int) -> Any:
    """Of maps, in whatever holds them, those of some images."""
    if isinstance(maps, Tensor):
        return maps[kept.to(maps.device)] if maps.dim() and len(maps) == images else maps
    if isinstance(maps, Mapping):
        return {key: maps_of(value, kept, images) for key, value in maps.items()}
    if isinstance(maps, list | tuple):
        found = [maps_of(value, kept, images) for value in maps]
        return found if isinstance(maps, list) else tuple(found)
    return maps
