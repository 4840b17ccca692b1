"""What a pair's teacher shows of an image: where it imitates features, where it sees objects."""

from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.connectors import ImitationMaskConnector
from mmkd.geometry.multi_level_maps import Levels, upcast
from mmkd.heads import can_read, predicting_head
from mmkd.recorders.predicted_rows import predicted_rows
from mmkd.visualization.row_heat import row_heat


@torch.no_grad()
def imitation_mask(model: DetectionDistill, inputs: Tensor, data_samples: Any) -> Tensor | None:
    """The cells whose features are imitated on any level, (B, H, W) of zeros and ones.

    Args:
        model: a pair in eval mode.
        inputs: (B, 3, H, W), the student's normalised batch.
        data_samples: with ground truth.

    Returns:
        Tensor: in pixels of the batch; None for a pair without an ``ImitationMaskConnector``.
    """
    distiller = model.distiller
    masked = [
        record
        for mapping in getattr(distiller, 'loss_forward_mappings', {}).values()
        for record in mapping.values()
        if record.get('connector')
        and isinstance(distiller.connectors[record['connector']], ImitationMaskConnector)
    ]
    if not masked:
        return None
    with distiller.student_recorders:
        model.student(inputs, data_samples, mode='loss')
    masks = distiller.get_record(**masked[0])
    connector = distiller.connectors[masked[0]['connector']]
    return over_image(masks, inputs.shape[-2:], mask_offset(connector))


@torch.no_grad()
def teacher_view(model: DetectionDistill, inputs: Tensor, data_samples: Any) -> Tensor | None:
    """What the teacher sees, (B, H, W) from 0 to 1: the highest score of any class.

    Args:
        model: a pair in eval mode.
        inputs: (B, 3, H, W), the student's normalised batch.
        data_samples: tell which pixels are padding.

    Returns:
        Tensor: in pixels of the batch; None for a teacher whose head predicts no rows with a box,
        or that is not there, as with a cache.
    """
    heats = []
    for source in model.teacher_source.parts.values():
        if source.translation is None:
            continue  # a file: it sees no image
        head = predicting_head(source.model)[1]
        if head is not None and can_read(head):
            rows = predicted_rows(source.model, *source.view(inputs, data_samples))
            heats.append(row_heat(rows.scaled(1 / source.scale), inputs.shape[-2:]))
    return torch.stack(heats).amax(0) if heats else None


def over_image(levels: Levels, size: torch.Size, offset: float) -> Tensor:
    """The highest of levels (B, A, h, w) at each pixel of the image (B, H, W).

    Args:
        levels: maps whose cells cover the image, or one such map.
        size: of the image.
        offset: where in its cell a prior has its centre, around which the cell is drawn: 0.5 in
            the middle, 0 at the upper left.
    """
    grown = []
    for level in [levels] if isinstance(levels, Tensor) else levels:
        pixels = F.interpolate(upcast(level.detach()).amax(1, True), tuple(size))
        down, right = (
            round((0.5 - offset) * n / cells)
            for n, cells in zip(size, level.shape[-2:], strict=True)
        )
        grown.append(F.pad(pixels, (0, right, 0, down), mode='replicate')[:, 0, down:, right:])
    return torch.stack(grown).amax(0)


def mask_offset(connector: Any) -> float:
    """Where in its cell the prior lies that a mask connector asks; in the middle for others."""
    if not isinstance(connector, ImitationMaskConnector):
        return 0.5
    first = connector.anchors[0]
    return float(first.centers[0, 0] / first.stride[0])


def overlays(model: DetectionDistill, dataset: Any, index: int) -> dict[str, Tensor]:
    """Both of the above for one image of a data set, cut to the image, by title.

    Args:
        model: a pair in eval mode.
        dataset: of mmdet, for testing.
        index: of the image.

    Returns:
        dict[str, Tensor]: maps (h, w) over the whole image at the size that the network sees.
    """
    data = dataset[index]
    sample, info = data['data_samples'], dataset.get_data_info(index)
    width, height = sample.metainfo.get('scale_factor', (1.0, 1.0))[:2]
    top, left = (
        int(n) for n in (sample.metainfo.get('pad_param', (0, 0, 0, 0))[i] for i in (0, 2))
    )
    # Test pipelines load the ground truth as it is on the disk: bring it to the resized and
    # padded image.
    items = [item for item in info['instances'] if not item.get('ignore_flag')]
    boxes = torch.tensor([item['bbox'] for item in items], dtype=torch.float32).reshape(-1, 4)
    sample.gt_instances = InstanceData(
        bboxes=boxes * torch.tensor([width, height] * 2) + torch.tensor([left, top] * 2),
        labels=torch.tensor([item['bbox_label'] for item in items], dtype=torch.long),
    )
    sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0).long())
    batch = model.data_preprocessor(dict(inputs=[data['inputs']], data_samples=[sample]))
    maps = {
        'Imitation mask': imitation_mask(model, **batch),
        "Teacher's weight": teacher_view(model, **batch),
    }
    rows, columns = sample.metainfo['ori_shape'][:2]
    bottom, right = top + round(rows * height), left + round(columns * width)
    return {
        title: found[0, top:bottom, left:right].cpu()
        for title, found in maps.items()
        if found is not None
    }
