"""The student's batch at another size."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from mmkd.datasets.data_samples import of_input


def scaled_view(inputs: Tensor, data_samples: Any, scale: float) -> tuple[Tensor, Any]:
    """A batch (B, C, H, W) and its samples with sides of ``scale`` times as many pixels.

    Bilinear, smoothed where it becomes smaller. The samples come as a list of ``DetDataSample``.
    """
    size = [max(round(side * scale), 1) for side in inputs.shape[-2:]]
    scaled = F.interpolate(inputs, size, mode='bilinear', align_corners=False, antialias=scale < 1)
    samples = of_input(data_samples, inputs)
    if isinstance(samples, list | tuple):
        samples = [sample.new(metainfo=_scaled(sample.metainfo, scale, size)) for sample in samples]
    return scaled, samples


def _scaled(meta: Any, scale: float, size: list[int]) -> dict[str, Any]:
    made = {**meta, 'batch_input_shape': tuple(size), 'pad_shape': tuple(size)}
    if 'img_shape' in meta:
        height, width = meta['img_shape'][:2]
        made['img_shape'] = (round(height * scale), round(width * scale))
    if meta.get('pad_param') is not None:
        made['pad_param'] = [float(side) * scale for side in meta['pad_param']]
    if meta.get('scale_factor') is not None:
        made['scale_factor'] = tuple(float(factor) * scale for factor in meta['scale_factor'])
    return made
