"""Stand-ins for the compiled mmcv ops that detectors need.

Each function has the name, the arguments and the results of its compiled counterpart in
``mmcv._ext``: outputs arrive as arguments and are filled in place where the compiled op does so.
torchvision's ops serve where they work; otherwise everything is plain PyTorch, on any device.
Half precision is computed in float32 and rounded once, at the end.
"""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

SUPPLIED = (
    'nms',
    'softnms',
    'nms_match',
    'sigmoid_focal_loss_forward',
    'sigmoid_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softmax_focal_loss_backward',
    'roi_align_forward',
    'roi_align_backward',
    'ms_deform_attn_forward',
    'ms_deform_attn_backward',
)

NMS_BLOCK = 256  # boxes whose overlaps are held at a time: NMS_BLOCK * N values
ROI_VALUES = 1 << 23  # interpolated values held at a time in roi_align

# The compiled kernels clamp probabilities to C's FLT_MIN before the logarithm.
FLT_MIN = torch.finfo(torch.float32).tiny


@functools.cache
def torchvision_op(name: str, device_type: str) -> Callable | None:
    """``torchvision.ops.<name>`` if it works on this kind of device, else None.

    torchvision may be absent, built for another torch, or without CUDA beside a torch that has
    it; only a trial call tells.
    """
    try:
        import torchvision

        box = torch.zeros(1, 4, device=device_type)
        torchvision.ops.nms(box, box[:, 0], 0.5)
        return getattr(torchvision.ops, name)
    except Exception:  # a mismatched build raises OSError, RuntimeError, ImportError, ...
        return None


def at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def overlaps(boxes: Tensor, others: Tensor, offset: int) -> Tensor:
    """IoU of ``boxes`` (N, 4) with ``others`` (M, 4) as the compiled NMS computes it: (N, M)."""
    x1, y1, x2, y2 = boxes.t()[:, :, None]
    u1, v1, u2, v2 = others.t()
    width = (torch.min(x2, u2) - torch.max(x1, u1)).add_(offset).clamp_(min=0)
    height = (torch.min(y2, v2) - torch.max(y1, v1)).add_(offset).clamp_(min=0)
    inter = width.mul_(height)
    area = (x2 - x1 + offset) * (y2 - y1 + offset)
    other_area = (u2 - u1 + offset) * (v2 - v1 + offset)
    return inter / (area + other_area).sub_(inter)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Greedy NMS: indices of the kept boxes, highest score first; ties in input order.

    A box is kept if no kept box of higher score overlaps it by more than ``iou_threshold``.

    Args:
        boxes (Tensor): (N, 4).
        scores (Tensor): (N,).
        iou_threshold (float): boxes with a larger IoU are suppressed.
        offset (int): a side is ``x2 - x1 + offset``. Defaults to 0.
    """
    boxes, scores = at_least_float32(boxes), at_least_float32(scores)
    if offset == 0 and (op := torchvision_op('nms', boxes.device.type)):
        return op(boxes, scores, iou_threshold)
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    keep = torch.ones_like(order, dtype=torch.bool)
    # Blocks of descending score: all that could suppress a block's boxes from outside it has
    # been decided before, so each block is settled by itself and then suppresses what follows.
    for start in range(0, len(boxes), NMS_BLOCK):
        end = start + NMS_BLOCK
        alive = keep[start:end].nonzero().flatten() + start
        if len(alive) == 0:
            continue
        suppress = (overlaps(boxes[alive], boxes[alive], offset) > iou_threshold).triu(1)
        kept = torch.ones_like(alive, dtype=torch.bool)
        # From the top down, each round settles at least one more box, most rounds nearly all.
        while not torch.equal(kept, settled := ~(suppress & kept[:, None]).any(0)):
            kept = settled
        keep[alive] = kept
        rest = keep[end:].nonzero().flatten() + end
        keep[rest] = ~(overlaps(boxes[alive[kept]], boxes[rest], offset) > iou_threshold).any(0)
    return order[keep]


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy NMS that tells what each kept box suppressed.

    Args:
        dets (Tensor): (N, 5), boxes and scores.
        iou_threshold (float): boxes with at least this IoU are suppressed.

    Returns:
        list[list[int]]: for each kept box, highest score first, its index and those of the boxes
        that it suppressed, in the order of their scores.
    """
    boxes = at_least_float32(dets[:, :4])
    rest = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(rest):
        near = overlaps(boxes[rest[:1]], boxes[rest], offset=0)[0] >= iou_threshold
        near[0] = True
        groups.append(rest[near].tolist())
        rest = rest[~near]
    return groups


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int = 0,
) -> Tensor:
    """Soft NMS: fills ``dets`` (N, 5) and returns the indices of the M boxes that are left.

    One box is picked per round, and each pick changes the scores of the others, so this loops
    over the picks. Equal scores are picked in the order in which the compiled op's array has
    them, which its swaps and its refilling of gaps from the end decide; both are repeated here.

    Args:
        boxes (Tensor): (N, 4).
        scores (Tensor): (N,).
        dets (Tensor): (N, 5); rows 0 to M become boxes and decayed scores.
        iou_threshold (float): methods 0 and 1 act from this IoU on.
        sigma (float): decay of method 2.
        min_score (float): a box that decays below it is dropped.
        method (int): 0 drops, 1 decays linearly, 2 like a Gaussian.
        offset (int): a side is ``x2 - x1 + offset``. Defaults to 0.
    """
    boxes, scores = at_least_float32(boxes), at_least_float32(scores)
    table = torch.cat([boxes, scores[:, None]], dim=1)  # (N, 5), in the compiled op's order
    inds = torch.arange(len(boxes), device=boxes.device)
    left = len(boxes)
    pick = 0
    while pick < left:
        best = int(table[pick:left, 4].argmax()) + pick
        swap, with_ = torch.tensor([pick, best]), torch.tensor([best, pick])
        table[swap], inds[swap] = table[with_], inds[with_]
        rest = table[pick + 1 : left]  # a view: the decay below is written into the table
        # Two empty boxes overlap by 0/0, which counts as none (method 2 of the compiled op turns
        # it into a score of NaN).
        iou = overlaps(table[pick : pick + 1, :4], rest[:, :4], offset)[0].nan_to_num(0)
        if method == 2:
            rest[:, 4] *= torch.exp(-(iou * iou) / sigma)
        else:
            weight = 1 - iou if method == 1 else torch.zeros_like(iou)
            rest[:, 4] *= torch.where(iou >= iou_threshold, weight, torch.ones_like(iou))
        dropped = rest[:, 4] < min_score
        pick += 1
        if dropped.any():
            kept = int((~dropped).sum())
            gaps = dropped[:kept].nonzero().flatten() + pick
            movers = (~dropped[kept:]).nonzero().flatten().flip(0) + kept + pick
            table[gaps], inds[gaps] = table[movers], inds[movers]
            left = pick + kept
    dets[:left] = table[:left].to(dets)
    return inds[:left]


def label_weight(weight: Tensor, target: Tensor) -> Tensor:
    """Weight of each target's class; 1 without weights and for background.

    For background, one past the last class, the compiled op reads past the end of ``weight``.
    """
    weight = torch.cat([weight, weight.new_ones(1)])
    return weight[target.clamp(max=len(weight) - 1)]


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N, C) with the focal loss of logits ``input`` (N, C)."""
    p = at_least_float32(input).sigmoid()
    hit = torch.arange(input.size(1), device=input.device) == target[:, None]
    loss = torch.where(
        hit,
        -alpha * (1 - p) ** gamma * p.clamp(min=FLT_MIN).log(),
        (alpha - 1) * p**gamma * (1 - p).clamp(min=FLT_MIN).log(),
    )
    output.copy_(loss * label_weight(weight, target)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C) with d loss / d ``input``, elementwise."""
    p = at_least_float32(input).sigmoid()
    hit = torch.arange(input.size(1), device=input.device) == target[:, None]
    log_p, log_n = p.clamp(min=FLT_MIN).log(), (1 - p).clamp(min=FLT_MIN).log()
    grad = torch.where(
        hit,
        -alpha * (1 - p) ** gamma * (1 - p - gamma * p * log_p),
        (alpha - 1) * p**gamma * (gamma * (1 - p) * log_n - p),
    )
    grad_input.copy_(grad * label_weight(weight, target)[:, None])


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N,) with the focal loss of probabilities ``softmax`` (N, C).

    A negative target is ignored: its loss is 0.
    """
    p = at_least_float32(softmax).gather(1, target.clamp(min=0)[:, None])[:, 0]
    loss = -alpha * (1 - p) ** gamma * p.clamp(min=FLT_MIN).log()
    loss = loss * label_weight(weight, target.clamp(min=0))
    output.copy_(loss.where(target >= 0, 0))


def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``grad_input`` (N, C) with d loss / d logits, and ``buff`` (N,) with its row factor."""
    softmax = at_least_float32(softmax)
    label = target.clamp(min=0)
    p = softmax.gather(1, label[:, None])[:, 0]
    log_p = p.clamp(min=FLT_MIN).log()
    # d loss / d log p
    factor = alpha * (gamma * (1 - p) ** (gamma - 1) * p * log_p - (1 - p) ** gamma)
    factor = (factor * label_weight(weight, label)).where(target >= 0, 0)
    buff.copy_(factor)
    hit = torch.arange(softmax.size(1), device=softmax.device) == label[:, None]
    grad_input.copy_(factor[:, None] * (hit.to(softmax) - softmax))


def corners(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Bilinear interpolation at (y, x): flat pixel indices and weights, four for each y.

    A point more than one pixel outside the map has weight 0; one at its rim reads the rim.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)  # and a number
    y, x = y.where(inside, 0).clamp(0, height - 1), x.where(inside, 0).clamp(0, width - 1)
    y_low, x_low = y.floor(), x.floor()
    y_high, x_high = (y_low + 1).clamp(max=height - 1), (x_low + 1).clamp(max=width - 1)
    y_part, x_part = y - y_low, x - x_low
    index = torch.stack(
        [
            y_low * width + x_low,
            y_low * width + x_high,
            y_high * width + x_low,
            y_high * width + x_high,
        ]
    )
    weight = torch.stack(
        [
            (1 - y_part) * (1 - x_part),
            (1 - y_part) * x_part,
            y_part * (1 - x_part),
            y_part * x_part,
        ]
    )
    return index.long(), weight * inside


def roi_samples(
    rois: Tensor,
    channels: int,
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Sample points of every RoI's bins, RoIs with equally many points together.

    Yields:
        tuple: indices (n,) of RoIs, and the points' y and x, each (n, ph, pw, gh * gw).
    """
    start_x, start_y, end_x, end_y = (rois[:, 1:] * spatial_scale - 0.5 * aligned).unbind(1)
    size = torch.stack([end_y - start_y, end_x - start_x], dim=1)  # (K, 2)
    if not aligned:
        size = size.clamp(min=1)  # what detectors trained before `aligned` existed expect
    bin_size = size / size.new_tensor(bins)
    if sampling_ratio > 0:
        grids = torch.full_like(size, sampling_ratio, dtype=torch.long)
    else:
        # A side below 0 (or no number) has no point, as in the compiled CUDA op: untrained
        # detectors propose such boxes.
        grids = bin_size.float().nan_to_num(0, 0, 0).ceil().long().clamp(min=0)
    # A loop over the distinct grids, of which there are few, not over the RoIs.
    for grid in grids.unique(dim=0):
        members = (grids == grid).all(1).nonzero().flatten()
        gh, gw = grid.tolist()
        values = max(1, channels * bins[0] * bins[1] * gh * gw)
        for chunk in members.split(max(1, ROI_VALUES // values)):
            points = []
            for start, side, n_bins, n_points in (
                (start_y, bin_size[:, 0], bins[0], gh),
                (start_x, bin_size[:, 1], bins[1], gw),
            ):
                corner, step = start[chunk, None, None], side[chunk, None, None]
                first = torch.arange(n_bins, device=rois.device)[:, None]
                inner = torch.arange(n_points, device=rois.device) + 0.5
                # Summed in the compiled op's order: it rounds alike at the map's rim.
                points.append(corner + first * step + inner * step / max(n_points, 1))
            y, x = points  # (n, ph, gh), (n, pw, gw)
            shape = (len(chunk), *bins, gh, gw)
            y = y[:, :, None, :, None].expand(shape).flatten(3)
            x = x[:, None, :, None, :].expand(shape).flatten(3)
            yield chunk, y, x


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` (K, C, ph, pw) with RoIs pooled from ``input`` (B, C, H, W).

    Args:
        input (Tensor): (B, C, H, W).
        rois (Tensor): (K, 5), batch index and box.
        output (Tensor): (K, C, ph, pw).
        argmax_y (Tensor): (K, C, ph, pw); max pooling writes the y of each maximum, -1 for none.
        argmax_x (Tensor): the same for x.
        aligned_height (int): ph.
        aligned_width (int): pw.
        spatial_scale (float): box coordinates are multiplied by it.
        sampling_ratio (int): points per bin and side; 0 takes one per started pixel.
        pool_mode (int): 0 for max, 1 for average.
        aligned (bool): shift boxes by half a pixel.
    """
    bins = (aligned_height, aligned_width)
    op = torchvision_op('roi_align', input.device.type)
    # torchvision's does not check for sides below 0 on a CPU, and asks for negative memory.
    ordered = rois.device.type != 'cpu' or bool((rois[:, 3:] >= rois[:, 1:3]).all())
    if op and pool_mode == 1 and len(rois) and ordered:
        feats, boxes = at_least_float32(input), at_least_float32(rois)
        output.copy_(op(feats, boxes.to(feats), bins, spatial_scale, sampling_ratio, aligned))
        return
    channels, height, width = input.shape[1:]
    pixels = at_least_float32(input).permute(0, 2, 3, 1).reshape(-1, channels)  # (B*H*W, C)
    boxes = at_least_float32(rois)
    first_pixel = boxes[:, 0].long() * (height * width)
    # Where a bin has no point above it, max pooling leaves the kernel's starting value.
    floor = -1e4 if input.device.type == 'cpu' else torch.finfo(torch.float32).min
    for chunk, y, x in roi_samples(
        boxes, channels, bins, spatial_scale, sampling_ratio, bool(aligned)
    ):
        index, weight = corners(y, x, height, width)
        index = index + first_pixel[chunk].view(-1, 1, 1, 1)
        values = sum(
            pixels[i.flatten()].view(*i.shape, channels) * w[..., None]
            for i, w in zip(index, weight.to(pixels), strict=True)
        )  # (n, ph, pw, gh * gw, C)
        if pool_mode == 1:
            pooled = values.sum(3) / max(1, values.size(3))
        elif values.size(3) == 0:
            pooled = values.new_full((len(chunk), *bins, channels), floor)
            argmax_y[chunk] = argmax_x[chunk] = -1
        else:
            pooled, best = values.max(3)  # (n, ph, pw, C)
            for argmax, coordinate in ((argmax_y, y), (argmax_x, x)):
                at = coordinate.gather(3, best).masked_fill(pooled <= floor, -1)
                argmax[chunk] = at.permute(0, 3, 1, 2).to(argmax)
            pooled = pooled.clamp(min=floor)
        output[chunk] = pooled.permute(0, 3, 1, 2).to(output)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add to ``grad_input`` (B, C, H, W) what ``grad_output`` (K, C, ph, pw) sends back."""
    batch, channels, height, width = grad_input.shape
    boxes, grad = at_least_float32(rois), at_least_float32(grad_output)
    first_pixel = boxes[:, 0].long() * (height * width)
    total = grad.new_zeros(batch * height * width, channels)
    if pool_mode == 0:
        y, x = at_least_float32(argmax_y), at_least_float32(argmax_x)
        index, weight = corners(y, x, height, width)  # (4, K, C, ph, pw)
        index = index + first_pixel.view(-1, 1, 1, 1)
        index = index * channels + torch.arange(channels, device=index.device).view(-1, 1, 1)
        sent = grad * weight * (y != -1)
        total.view(-1).index_add_(0, index.flatten(), sent.flatten().to(total))
    else:
        bins = (aligned_height, aligned_width)
        for chunk, y, x in roi_samples(
            boxes, channels, bins, spatial_scale, sampling_ratio, bool(aligned)
        ):
            index, weight = corners(y, x, height, width)  # (4, n, ph, pw, gh * gw)
            index = index + first_pixel[chunk].view(-1, 1, 1, 1)
            share = grad[chunk].permute(0, 2, 3, 1)[:, :, :, None] / max(1, y.size(3))
            for i, w in zip(index, weight.to(total), strict=True):
                total.index_add_(0, i.flatten(), (share * w[..., None]).flatten(0, 3))
    grad_input += total.view(batch, height, width, channels).permute(0, 3, 1, 2).to(grad_input)


def plain_ms_deform_attn(
    shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """Multi-scale deformable attention by mmcv's own plain PyTorch form: (B, queries, dims)."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    value, locations, weights = map(at_least_float32, (value, locations, weights))
    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention: (B, queries, dims). See mmcv's module of that name."""
    output = plain_ms_deform_attn(
        value_spatial_shapes, value, sampling_locations, attention_weights
    )
    return output.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients; the forward is run again, as nothing of it was kept."""
    inputs = [t.detach().requires_grad_() for t in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        output = plain_ms_deform_attn(value_spatial_shapes, *inputs)
    grads = torch.autograd.grad(output, inputs, grad_output.to(output))
    for filled, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        filled.copy_(grad)
