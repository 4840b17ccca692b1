"""What a recorder taps: of which head, which of its maps, and whether each model draws its own."""

import re
from typing import Any, NamedTuple

from mmcv.cnn import ConvModule
from mmdet.models.dense_heads import (
    CornerHead,
    EmbeddingRPNHead,
    MaskFormerHead,
    YOLOV3Head,
)
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors.base_detr import DetectionTransformer
from mmdet.models.roi_heads import BaseRoIHead, BBoxHead, FCNMaskHead
from mmdet.models.roi_heads.roi_extractors.base_roi_extractor import BaseRoIExtractor
from mmengine.utils import get_object_from_string
from mmrazor.models.task_modules.recorder import ModuleInputsRecorder, ModuleOutputsRecorder
from torch import nn

from mmkd.heads import describe_head, predicting_head
from mmkd.recorders.predictions_recorder import PredictionsRecorder

#: Of these parts of a RoI head the rows are proposals; others, such as a semantic head, see maps.
_PER_PROPOSAL = re.compile(
    r'(bbox|mask|mask_iou|grid|point)_head|(bbox|mask|grid)_roi_extractor|shared_head|feat_relay'
)
_PREDICTIONS = re.compile(r'predict|post_process|get_bboxes|nms', re.I)


class Tap(NamedTuple):
    """Where a recorder sits in its model."""

    source: str
    head: nn.Module | None = None  # the head that it belongs to
    path: str = ''  # of the head in its model
    #: What of a dense head: 'outputs' (all maps), 'cls', 'box', 'objectness', 'all' in one map,
    #: or '' for anything else.
    part: str = ''
    drawn: str = ''  # what each model draws for itself there: 'proposals', 'queries', 'detections'

    def of(self, data_idx: int | None) -> str:
        """The part that an item of the record is."""
        if self.part != 'outputs' or isinstance(self.head, CornerHead):
            return '' if self.part == 'outputs' else self.part
        if data_idx is None:
            return 'outputs'
        if isinstance(self.head, YOLOV3Head):
            return 'all'
        if data_idx == 2 and self.head is not None and not describe_head(self.head).factor:
            return ''
        return {0: 'cls', 1: 'box', 2: 'objectness'}.get(data_idx, '')


def tap(model: nn.Module, recorder: Any) -> Tap:
    """Find out where a built recorder of MMRazor sits in ``model``."""
    source = recorder.source
    if isinstance(recorder, ModuleOutputsRecorder):
        inputs = isinstance(recorder, ModuleInputsRecorder)
        path, head = _head_above(model, source)
        part = '' if inputs or head is None else _part(head, source[len(path) + 1 :])
        return Tap(source, head, path, part, _drawn(model, source, inputs))
    if isinstance(recorder, PredictionsRecorder):
        source = source or predicting_head(model)[0]  # before it is initialised
        return Tap(source, model.get_submodule(source), source)
    if type(recorder).__name__.startswith(('Method', 'Function')):
        return _tap_of_call(model, source, 'Outputs' in type(recorder).__name__)
    return Tap(source)


def _tap_of_call(model: nn.Module, source: str, outputs: bool) -> Tap:
    """A method or function, which belongs to the one head of its class, if there is one."""
    owner, name = source.rpartition('.')[::2]
    cls = get_object_from_string(owner)
    drawn = 'detections' if outputs and _PREDICTIONS.search(name) else ''
    if not isinstance(cls, type):
        return Tap(source, drawn=drawn)
    if outputs and issubclass(cls, BaseRoIHead | BBoxHead | FCNMaskHead | BaseRoIExtractor):
        drawn = 'proposals'
    heads = [path for path, module in model.named_modules() if path and isinstance(module, cls)]
    head = model.get_submodule(heads[0]) if len(heads) == 1 else None
    if not hasattr(head, 'num_classes'):
        return Tap(source, drawn=drawn)
    return Tap(source, head, heads[0], '', drawn)


def _head_above(model: nn.Module, source: str) -> tuple[str, nn.Module | None]:
    """The outermost module around ``source`` that knows its classes."""
    parts = source.split('.')
    for end in range(1, len(parts) + 1 if parts[0] not in ('backbone', 'neck') else 0):
        path = '.'.join(parts[:end])
        module = model.get_submodule(path)
        if hasattr(module, 'num_classes'):
            return path, module
    return '', None


def _drawn(model: nn.Module, source: str, inputs: bool) -> str:
    parts = source.split('.')
    if isinstance(model, DetectionTransformer):
        if parts[0] == 'bbox_head' and len(parts) > 2 and parts[2].isdigit():
            # The branch past the last layer rates the encoder's cells, the same in both models.
            layers = len(getattr(model.decoder, 'layers', ()))
            return 'queries' if int(parts[2]) < layers else ''
        return 'queries' if parts[0] in ('decoder', 'bbox_head', 'query_embedding') else ''
    for end in range(1, len(parts) + 1):
        module, rest = model.get_submodule('.'.join(parts[:end])), '.'.join(parts[end:])
        if isinstance(module, EmbeddingRPNHead):
            return 'queries'
        if isinstance(module, MaskFormerHead):
            return '' if rest.startswith('pixel_decoder') else 'queries'
        if isinstance(module, BaseRoIHead) and _PER_PROPOSAL.match(rest):
            return '' if inputs and rest.endswith('roi_extractor') else 'proposals'
    return ''


def _part(head: nn.Module, inner: str) -> str:
    """Which of a dense head's maps a module inside it makes; '' for towers and the rest."""
    if not isinstance(head, BaseDenseHead):
        return ''
    if not inner:
        return 'outputs'
    channels = _predicted_channels(head, inner)
    if channels is None:
        return ''
    name = inner.lower()
    if re.search(r'obj|centerness|iou', name):
        return 'objectness'
    if re.search(r'reg|box|offset|wh', name):
        return 'box'
    if re.search(r'cls|score|heatmap', name):
        return '' if channels % describe_head(head).class_channels else 'cls'
    return 'all' if 'pred' in name else ''


def _predicted_channels(head: nn.Module, inner: str) -> int | None:
    """Output channels of a module that ends with a plain convolution; None for all others."""
    *above, name = inner.split('.')
    holder: Any = head.get_submodule('.'.join(above)) if above else head
    if isinstance(holder, ConvModule) and (holder.with_norm or holder.with_activation):
        return None
    if isinstance(holder, nn.Sequential) and holder[-1] is not getattr(holder, name):
        return None
    leaves = [m for m in head.get_submodule(inner).modules() if not list(m.children())]
    last = leaves[-1] if leaves else None
    return last.out_channels if isinstance(last, nn.Conv2d) else None


def bins_per_side(head: nn.Module, inner: str = '') -> int:
    """Bins of a distribution over distances, as of GFL; 1 for plain boxes.

    Args:
        head: a dense head.
        inner: the module in it that makes the box map; '' for the head's own output.
    """
    known = describe_head(head)
    if inner:
        channels = _predicted_channels(head, inner) or 4
        return max(channels // (4 * max(known.priors_per_cell or [1])), 1)
    return known.bins
