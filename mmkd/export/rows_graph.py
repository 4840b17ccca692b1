"""The part of a detector that is exported: pixels in, a box and scores for each row out."""

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.compat.mmcv_ops import supplied_ops
from mmkd.export.not_exportable import NotExportableError
from mmkd.export.roi_features import in_graph
from mmkd.export.thresholds import factors_of
from mmkd.export.two_stage import is_two_stage, two_stage_rows
from mmkd.export.two_stage_kinds import check_two_stage
from mmkd.heads import Batch, Predictions, find_reader, predicting_head, read
from mmkd.heads.readers import names_of

#: Heads whose readers are told the size of the images.
_TOLD_SIZES = ('mmdet.DETRHead', 'mmdet.CascadeRPNHead')

#: Heads that cannot be exported although they are read, and why.
NOT_EXPORTED = {
    'mmdet.GroundingDINOHead': 'its classes are a text that comes with each image',
    'mmdet.ATSSVLFusionHead': 'its classes are a text that comes with each image',
    'mmdet.CascadeRPNHead': 'its stages move the anchors of a deformable convolution',
}


def exported_head(model: Any) -> Any:
    """The head whose rows are exported.

    Raises:
        NotExportableError: there is none, or it cannot be exported; the message names it.
    """
    name, head = predicting_head(model)
    if head is None:
        raise NotExportableError(
            'a detector that is exported must have a bbox_head, but '
            f'{type(model).__name__} has none. Distilled detectors of mmdet and MMYOLO have one.'
        )
    if name == 'roi_head':
        check_two_stage(model)
        return head
    for base in names_of(head):
        if base in NOT_EXPORTED:
            raise NotExportableError(
                f'the head of an exported detector must have a form as a graph, but '
                f'{type(head).__name__} has none: {NOT_EXPORTED[base]}. Export a one-stage student.'
            )
    try:
        find_reader(head)
    except ValueError as error:
        raise NotExportableError(f'{type(head).__name__} cannot be exported: {error}') from None
    return head


class RowsGraph(nn.Module):
    """(B, 3, H, W) in BGR order to boxes (B, P, 4), scores (B, P, C) and factors (B, P, 1), if any.

    Args:
        model: a detector in evaluation mode.
        size: (H, W) of its input.
        half: whether all between normalisation and decoding is in float16. Defaults to False.
    """

    def __init__(self, model: Any, size: tuple[int, int], half: bool = False) -> None:
        super().__init__()
        self.mean: Tensor | None
        self.std: Tensor | None
        exported_head(model)  # which checks it
        self.model = in_graph(model) if is_two_stage(model) else model
        if half:
            self.model = copy.deepcopy(self.model).half()
        self.head = predicting_head(self.model)[1]
        self.size = size
        self.half_precision = half
        preprocessing = Preprocessing.of(model.data_preprocessor)
        assert preprocessing is not None, 'checked before'
        self.swap = preprocessing.bgr_to_rgb
        for name, values in (('mean', preprocessing.mean), ('std', preprocessing.std)):
            self.register_buffer(name, None if values is None else values.detach().clone().float())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The rows of each image."""
        found = self.rows(self._normalised(image))
        factors = factors_of(self.head, found)
        return found.boxes, scores_of(found), *(() if factors is None else (factors,))

    def rows(self, inputs: Tensor) -> Predictions:
        """The rows of normalised images."""
        if is_two_stage(self.model):
            return two_stage_rows(self.model, inputs, self.size)
        return rows_of(self.head, outputs_of(self.model, inputs, self.size), self.size)

    def _normalised(self, image: Tensor) -> Tensor:
        image = image.float()
        if self.swap:
            image = image[:, [2, 1, 0]]
        if self.mean is not None and self.std is not None:
            image = (image - self.mean) / self.std
        return image.half() if self.half_precision else image


def outputs_of(model: Any, inputs: Tensor, size: tuple[int, int]) -> Any:
    """What the head of ``model`` gives for normalised images of one size."""
    features = model.extract_feat(inputs)
    if hasattr(model, 'forward_transformer'):
        return model.bbox_head(**model.forward_transformer(features, [_sample(size)]))
    head = exported_head(model)
    return head(features)


def _sample(size: tuple[int, int]) -> DetDataSample:
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'batch_input_shape', 'pad_shape'), size)
    return DetDataSample(metainfo=dict(shapes, scale_factor=(1.0, 1.0)))


def rows_of(head: Any, outputs: Any, size: tuple[int, int]) -> Predictions:
    """The head's rows, of images that fill the input."""
    told = any(name in _TOLD_SIZES for name in names_of(head))
    # One image's stand for all: they broadcast, so that the batch stays open.
    metas = [dict(img_shape=size)] if told else None
    return read(head, outputs, Batch(size, metas, num_queries=None))


def scores_of(found: Predictions) -> Tensor:
    """(B, P, C), from 0 to 1; those of rows that do not count are 0."""
    scores = found.log_prob.exp()
    if found.valid is not None:
        scores = scores * found.valid[..., None]
    return scores


@contextmanager
def no_stand_ins(model: Any) -> Iterator[None]:
    """Refuse compiled ops of mmcv, and what stands in for them, while a graph is made.

    Raises:
        NotExportableError: the model needs one; the message names it, and the head.
    """
    extension: Any = sys.modules.get('mmcv._ext')
    ops = [name for name in supplied_ops() if extension is not None and hasattr(extension, name)]
    kept = {name: getattr(extension, name) for name in ops}
    head = type(predicting_head(model)[1]).__name__
    for name in ops:
        setattr(extension, name, _Refused(name, f'{type(model).__name__} with {head}'))
    try:
        yield
    finally:
        for name, op in kept.items():
            setattr(extension, name, op)


class _Refused:
    def __init__(self, name: str, who: str) -> None:
        self.name, self.who = name, who

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise NotExportableError(
            f"an exported graph must be of the operators of ONNX, but {self.who} runs mmcv's "
            f'"{self.name}", which is none. Export a student without it.'
        )


def levels_of(found: Predictions) -> list[int]:
    """How many rows each level has; all in one where rows have no priors."""
    rows = found.boxes.size(1)
    if found.priors is None:
        return [rows]
    strides = found.priors[:, 2:]
    changes = (strides[1:] != strides[:-1]).any(1).nonzero().flatten().tolist()
    ends = [*(index + 1 for index in changes), rows]
    return [end - first for first, end in zip([0, *ends[:-1]], ends, strict=True)]


def strides_of(found: Predictions) -> Tensor:
    """(P, 1), the larger stride of each row; 0 where rows have none."""
    if found.priors is None:
        return torch.zeros(found.boxes.size(1), 1)
    return found.priors[:, 2:].amax(1, keepdim=True)
