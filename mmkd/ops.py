"""Stand-ins in plain PyTorch for the compiled mmcv ops that detectors need."""

import torch

SUPPLIED = ('nms',)


def missing(name):

    def op(*args, **kwargs):
        raise RuntimeError(f'mmcv op "{name}" needs the compiled build of mmcv')

    op.__name__ = name
    return op


def nms(boxes, scores, iou_threshold, offset=0):
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.long, device=boxes.device)
    order = scores.argsort(descending=True, stable=True)
    b = boxes[order]
    area = (b[:, 2] - b[:, 0] + offset) * (b[:, 3] - b[:, 1] + offset)
    lt = torch.max(b[:, None, :2], b[None, :, :2])
    rb = torch.min(b[:, None, 2:], b[None, :, 2:])
    wh = (rb - lt + offset).clamp(min=0)
    inter = wh[..., 0] * wh[..., 1]
    iou = inter / (area[:, None] + area[None] - inter)
    suppress = torch.triu(iou > iou_threshold, diagonal=1)
    keep = torch.ones(len(b), dtype=torch.bool, device=b.device)
    while True:
        new = ~(suppress & keep[:, None]).any(0)
        if torch.equal(new, keep):
            break
        keep = new
    return order[keep]
