"""Reader of MMYOLO's dense heads, which is not imported: classes go by name."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import logsigmoid

from mmkd.heads.dense import scored
from mmkd.heads.grids import grid, per_level, rows
from mmkd.heads.predictions import Batch, Predictions
from mmkd.heads.readers import reader


@reader('mmyolo.YOLOv5Head')  # all of MMYOLO's, each with its own coder
def read_mmyolo(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """Classes, boxes, and objectness where the head trains one.

    What follows belongs to masks or poses, or, in training, is the distribution of the distances
    (YOLOv6, YOLOv8, PPYOLOE). In training YOLOv7's P6 form gives an auxiliary map beside each.
    """
    kinds = outputs[: 2 if head.loss_obj is None else 3]
    cls, box, *objectness = [
        [level if isinstance(level, Tensor) else level[0] for level in kind] for kind in kinds
    ]
    own, priors = grid(head.prior_generator, cls)
    stride = per_level(head.featmap_strides, cls, head.num_base_priors)[:, 0]
    boxes = head.bbox_coder.decode(own[None], rows(box, 4), stride)
    quality = logsigmoid(rows(objectness[0], 1)) if objectness else None
    return scored(logsigmoid(rows(cls, head.num_classes)), boxes, priors, batch, quality)
