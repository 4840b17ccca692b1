"""Stand-ins for the compiled ops of mmcv's masked convolution.

As in :mod:`mmkd.compat.ops`, each function has the name, the arguments and the results of its
compiled counterpart, and fills what it is given to fill.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SUPPLIED = ('masked_im2col_forward', 'masked_col2im_forward')


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fill ``col`` (C * kh * kw, n) with the patches of ``im`` (1, C, H, W) at n places."""
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    y = mask_h_idx + torch.arange(kernel_h, device=im.device).view(-1, 1, 1)
    x = mask_w_idx + torch.arange(kernel_w, device=im.device).view(1, -1, 1)
    col.copy_(padded[:, y, x].reshape(col.shape))


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Put ``col`` (C, n) at n places of ``im`` (1, C, H, W)."""
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im)
