"""Functions that ONNX has as operators of its own, and torch only with compiled extensions."""

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function

from mmkd.compat.ops.nms import nms
from mmkd.compat.ops.roi_align import roi_align_forward

#: The score of what is left out; a score is 0 or more.
LEFT_OUT = -1.0
_Node: TypeAlias = Any  # of torch's exporter


class Suppressed(Function):
    """Scores after non-maximum suppression, ``NonMaxSuppression`` in a graph."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
        """``LEFT_OUT`` in place of each score whose box a surer one overlaps by more than ``iou``.

        Args:
            ctx: of torch.
            boxes: (B, P, 4), x1, y1, x2, y2.
            scores: (B, P); boxes of negative scores suppress nothing.
            iou: from 0 to 1.
        """
        if torch.onnx.is_in_onnx_export():  # then only the shape counts
            return scores.clone()
        found = torch.full_like(scores, LEFT_OUT)
        for own, given, kept in zip(boxes, scores, found, strict=True):
            place = (given >= 0).nonzero().flatten()
            place = place[nms(own[place], given[place], iou)]
            kept[place] = given[place]
        return found

    @staticmethod
    def symbolic(g: Any, boxes: _Node, scores: _Node, iou: float) -> _Node:
        """The same in ONNX's operators."""

        def constant(value: Any, kind: torch.dtype = torch.int64) -> _Node:
            return g.op('Constant', value_t=torch.tensor(value, dtype=kind))

        by_class = g.op('Unsqueeze', scores, constant([1]))  # all are of one class
        limits = constant([iou], torch.float), constant([LEFT_OUT / 2], torch.float)
        chosen = g.op('NonMaxSuppression', boxes, by_class, constant([2**31 - 1]), *limits)
        place = g.op('Gather', chosen, constant([0, 2]), axis_i=1)  # of (image, class, box)
        left_out = torch.tensor([LEFT_OUT])
        nothing = g.op('ConstantOfShape', g.op('Shape', scores), value_t=left_out)
        return g.op('ScatterND', nothing, place, g.op('GatherND', scores, place))


class RoIAligned(Function):
    """What lies in boxes, averaged in bins: ``RoiAlign`` in a graph."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        rois: Tensor,
        bins: tuple[int, int],
        scale: float,
        ratio: int,
        aligned: bool,
    ) -> Tensor:
        """(N, C, h, w), with bins (h, w).

        Args:
            ctx: of torch.
            features: (B, C, H, W).
            rois: (N, 5), number of the image and box.
            bins: how many, in y and x.
            scale: of a box to the features.
            ratio: points in a bin and side; 0: one for each pixel that is begun.
            aligned: whether boxes are shifted by half a pixel.
        """
        found = features.new_zeros(rois.size(0), features.size(1), *bins)
        if torch.onnx.is_in_onnx_export():  # then only the shape counts
            return found
        none = features.new_zeros(0)
        roi_align_forward(features, rois, found, none, none, *bins, scale, ratio, 1, aligned)
        return found

    @staticmethod
    def symbolic(
        g: Any,
        features: _Node,
        rois: _Node,
        bins: tuple[int, int],
        scale: float,
        ratio: int,
        aligned: bool,
    ) -> _Node:
        """The same as ONNX's operator."""

        def columns(numbers: Any) -> _Node:
            index = g.op('Constant', value_t=torch.tensor(numbers))
            return g.op('Gather', rois, index, axis_i=1)

        return g.op(
            'RoiAlign',
            features,
            columns([1, 2, 3, 4]),
            g.op('Cast', columns(0), to_i=7),  # to int64
            coordinate_transformation_mode_s='half_pixel' if aligned else 'output_half_pixel',
            mode_s='avg',
            output_height_i=bins[0],
            output_width_i=bins[1],
            sampling_ratio_i=ratio,
            spatial_scale_f=scale,
        )
