"""How the heads of the YOLO family encode boxes (torch only)."""

import torch
from torch import Tensor

CODERS = ('yolov5', 'yolov3', 'yolox')


def activate(raw: Tensor, coder: str) -> Tensor:
    """Raw box maps in the space that their head predicts in, without anchors and strides.

    ======== =================== ===========================================================
    coder    x, y                width, height
    ======== =================== ===========================================================
    'yolov5' sigmoid             sigmoid (YOLOv7 likewise)
    'yolov3' sigmoid             as they are: the logarithm of the size
    'yolox'  as they are         as they are
    ======== =================== ===========================================================

    Args:
        raw: (B, A, 4, H, W).
        coder: see above.

    Example:
        >>> activate(torch.zeros(1, 1, 4, 1, 1), 'yolov3').flatten()
        tensor([0.5000, 0.5000, 0.0000, 0.0000])
    """
    if coder == 'yolov5':
        return raw.sigmoid()
    if coder == 'yolov3':
        return torch.cat([raw[:, :, :2].sigmoid(), raw[:, :, 2:]], dim=2)
    return raw


def decode(
    raw: Tensor, sizes: Tensor, centers: Tensor, stride: tuple[float, float], coder: str
) -> Tensor:
    """Boxes (x1, y1, x2, y2) in input pixels.

    Args:
        raw: (B, A, 4, H, W).
        sizes: (A, 2), width and height of the anchors.
        centers: (A, 2), x and y of the anchors of cell (0, 0).
        stride: in x and y.
        coder: one of ``CODERS``.

    Returns:
        Tensor: (B, A, H, W, 4).

    Example:
        >>> size, center = torch.tensor([[10.0, 6.0]]), torch.tensor([[4.0, 4.0]])
        >>> decode(torch.zeros(1, 1, 4, 1, 2), size, center, (8, 8), 'yolov5')[0, 0, 0]
        tensor([[-1.,  1.,  9.,  7.],
                [ 7.,  1., 17.,  7.]])
    """
    height, width = raw.shape[-2:]
    x = torch.arange(width, device=raw.device, dtype=raw.dtype) * stride[0]
    y = torch.arange(height, device=raw.device, dtype=raw.dtype) * stride[1]
    sizes, centers = sizes.to(raw), centers.to(raw)
    origin = torch.stack(  # (A, 2, H, W), centres of the anchors
        torch.broadcast_tensors(
            centers[:, 0, None, None] + x, centers[:, 1, None, None] + y[:, None]
        ),
        dim=1,
    )
    step = raw.new_tensor(stride)[:, None, None]
    extent = sizes[:, :, None, None]  # (A, 2, 1, 1)
    offset, extent_raw = raw[:, :, :2], raw[:, :, 2:]
    if coder == 'yolov5':
        center = origin + (offset.sigmoid() - 0.5) * 2 * step
        half = (extent_raw.sigmoid() * 2).square() * extent / 2
    elif coder == 'yolov3':
        center = origin + (offset.sigmoid() - 0.5) * step
        half = extent_raw.exp() * extent / 2
    else:
        center = origin + offset * step
        half = extent_raw.exp() * extent / 2
    return torch.cat([center - half, center + half], dim=2).movedim(2, -1)
