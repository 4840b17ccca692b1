"""What PyTorch finds in the input of an exported file: what the file is compared with."""

from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from numpy.typing import NDArray

from mmkd.export.bucket_ties import tied_priors
from mmkd.export.rows_graph import exported_head, outputs_of, rows_of, scores_of, strides_of
from mmkd.export.thresholds import in_pixels, rules_of
from mmkd.export.two_stage import is_two_stage, live_rows, rows_of_a_proposal
from mmkd_onnx.preparation import Placed


class Rows(NamedTuple):
    """All rows of a batch.

    Args:
        boxes: (B, P, 4).
        scores: (B, P, C).
        strides: (P, 1), of each row, or 0.
        proposal: how many rows a proposal has, where rounding may decide on the order of
            proposals, and on which there are. Defaults to 0: a row has its place.
        tied: (B, P), or of proposals (B, K): on which rounding decides, since two buckets of a
            side, as of SABL, score alike. Defaults to None: there are no buckets.
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    strides: NDArray[Any]
    proposal: int = 0
    tied: NDArray[Any] | None = None


class Found(NamedTuple):
    """The detections of an image in pixels of the input."""

    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]


class Reference:
    """A detector in PyTorch, with its own ``data_preprocessor`` and its own ``predict``.

    Nothing of it is shared with the graph but the weights and the reader of the head; so that
    what differs in one of them is seen.

    Args:
        model: in evaluation mode, on the CPU.
        scope: in which it looks names up.
        size: (H, W) of the input.
    """

    def __init__(self, model: Any, scope: str, size: tuple[int, int]) -> None:
        self.model, self.scope, self.size = model, scope, size

    def _prepared(
        self,
        inputs: NDArray[Any],
        bounds: tuple[int, int] | None = None,
        scale: tuple[float, float] = (1.0, 1.0),
    ) -> Any:
        told = dict(
            img_shape=bounds or self.size,
            pad_shape=self.size,
            ori_shape=tuple(ceil(s / f) for s, f in zip(self.size, scale[::-1], strict=True)),
            scale_factor=scale,
            border=[0, self.size[0], 0, self.size[1]],  # of the image in it, as CenterNet asks
        )
        samples = [DetDataSample(metainfo=dict(told, img_id=i)) for i in range(len(inputs))]
        images = [torch.from_numpy(image) for image in inputs]
        return self.model.data_preprocessor(dict(inputs=images, data_samples=samples), False)

    @torch.no_grad()
    def rows(self, inputs: NDArray[Any]) -> Rows:
        """All rows for a batch (N, 3, H, W)."""
        with DefaultScope.overwrite_default_scope(self.scope):
            prepared = self._prepared(inputs)
            if is_two_stage(self.model):
                found, tied = live_rows(self.model, prepared['inputs'], prepared['data_samples'])
                proposal = rows_of_a_proposal(self.model)
            else:
                outputs = outputs_of(self.model, prepared['inputs'], self.size)
                head = exported_head(self.model)
                found, proposal = rows_of(head, outputs, self.size), 0
                tied = tied_priors(head, outputs)
        scores, strides = scores_of(found).numpy(), strides_of(found).numpy()
        known = None if tied is None else tied.numpy()
        return Rows(found.boxes.numpy(), scores, strides, proposal, known)

    def found(self, inputs: NDArray[Any], placed: Placed) -> Found:
        """What its own ``predict`` finds in an image, in pixels of the input.

        Args:
            inputs: (1, 3, H, W).
            placed: where in it the image lies.
        """
        # Only what is measured in pixels of the image depends on the scale, which makes masks of
        # large images large.
        scale = placed.scale if in_pixels(rules_of(self.model)) else (1.0, 1.0)
        return self.detections(inputs, placed.bounds, scale)[0]

    @torch.no_grad()
    def detections(
        self,
        inputs: NDArray[Any],
        bounds: tuple[int, int] | None = None,
        scale: tuple[float, float] = (1.0, 1.0),
    ) -> list[Found]:
        """What the detector's own ``predict`` finds in a batch, in pixels of the input.

        Args:
            inputs: (N, 3, H, W).
            bounds: (height, width) of the images in it. Defaults to None: they are the whole input.
            scale: (x, y): pixels of the input for one of the image.
        """
        with DefaultScope.overwrite_default_scope(self.scope):
            prepared = self._prepared(inputs, bounds, scale)
            samples = self.model.predict(prepared['inputs'], prepared['data_samples'])
        height, width = self.size
        found = []
        for sample in samples:
            own = sample.pred_instances
            boxes = getattr(own.bboxes, 'tensor', own.bboxes).numpy() * np.tile(scale, 2)
            boxes = np.clip(boxes, 0, [width, height, width, height]).astype(np.float32)
            found.append(Found(boxes, own.scores.numpy(), own.labels.numpy()))
        return found
