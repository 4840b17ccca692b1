"""What a two-stage detector cuts out of its features, in operators of ONNX."""

import copy
from collections.abc import Sequence
from typing import Any

from mmdet.models.roi_heads import SCNetRoIHead
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from mmkd.export.not_exportable import NotExportableError
from mmkd.export.onnx_functions import RoIAligned

#: The parts of a RoI head that cut features out on the way to its boxes.
_PLACES = ('bbox_roi_extractor', 'semantic_roi_extractor', 'grid_roi_extractor')


def each(module: Any) -> list[Any]:
    """The parts of a ``ModuleList``, or a module alone."""
    return list(module) if isinstance(module, nn.ModuleList) else [module]


def check_extractors(head: Any) -> None:
    """Check that what a RoI head cuts out has a form as a graph.

    Raises:
        NotExportableError: it has none; the message names the extractor.
    """
    for extractor in [one for place in _PLACES for one in each(getattr(head, place, None))]:
        if extractor is None:
            continue
        known = any(
            isinstance(extractor, kind) and type(extractor).forward is kind.forward
            for kind in (SingleRoIExtractor, GenericRoIExtractor)
        )
        layers = getattr(extractor, 'roi_layers', [])
        pools = [type(layer).__name__ for layer in layers]
        pools += [layer.pool_mode for layer in layers if getattr(layer, 'pool_mode', '') == 'max']
        if not known or set(pools) != {'RoIAlign'}:
            raise NotExportableError(
                'a two-stage detector that is exported must have features that a '
                'SingleRoIExtractor or GenericRoIExtractor cuts out by RoIAlign, averaged, but has '
                f'{type(extractor).__name__} with {", ".join(sorted(set(pools)))}. Export a '
                'one-stage student.'
            )


def in_graph(model: Any) -> Any:
    """A copy of a two-stage detector that cuts features out in operators of ONNX."""
    copied = copy.deepcopy(model)
    head = copied.roi_head
    made: dict[int, nn.Module] = {}  # one may have several places
    for place in _PLACES:
        own = getattr(head, place, None)
        if own is not None:
            for extractor in each(own):
                made[id(extractor)] = made.get(id(extractor)) or _extractor(extractor)
            found = [made[id(extractor)] for extractor in each(own)]
            several = isinstance(own, nn.ModuleList)
            setattr(head, place, nn.ModuleList(found) if several else found[0])
    if getattr(head, 'semantic_roi_extractor', None) is not None:
        extractors = each(head.bbox_roi_extractor)
        [bins] = {layer.output_size for one in extractors for layer in _layers(one)}
        head.semantic_roi_extractor = _Pooled(head.semantic_roi_extractor, bins)
    if isinstance(head, SCNetRoIHead):
        head._fuse_glbctx = _fused
    return copied


def _layers(extractor: Any) -> Any:
    return getattr(extractor, 'own', extractor).roi_layers


def _extractor(own: Any) -> nn.Module:
    own.roi_layers = nn.ModuleList([_Aligned(layer) for layer in own.roi_layers])
    return _BySize(own) if isinstance(own, SingleRoIExtractor) else own


class _Aligned(nn.Module):
    """RoIAlign as ``own`` computes it."""

    def __init__(self, own: Any) -> None:
        super().__init__()
        self.output_size = own.output_size
        self.settings = own.output_size, own.spatial_scale, own.sampling_ratio, own.aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """(N, C, h, w) of boxes (N, 5) in (B, C, H, W)."""
        found: Any = RoIAligned.apply(features.float(), rois.float(), *self.settings)
        return found.to(features.dtype)


class _BySize(nn.Module):
    """Takes each box's features from the level for its size, as ``own`` does."""

    def __init__(self, own: Any) -> None:
        super().__init__()
        self.own, self.num_inputs = own, own.num_inputs
        self.featmap_strides = own.featmap_strides

    def forward(
        self, features: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """(N, C, h, w) of boxes (N, 5)."""
        if len(features) == 1:
            found: Tensor = self.own.roi_layers[0](features[0], rois)
            return found
        levels = self.own.map_roi_levels(rois, len(features))
        if roi_scale_factor is not None:
            rois = self.own.roi_rescale(rois, roi_scale_factor)
        parts = []
        for level, (feature, layer) in enumerate(zip(features, self.own.roi_layers, strict=True)):
            here = (levels == level).nonzero().flatten()
            parts.append((here, layer(feature, rois[here])))
        found = parts[0][1].new_zeros(rois.size(0), *parts[0][1].shape[1:])
        for here, own in parts:
            found = found.index_put((here,), own)
        return found


class _Pooled(nn.Module):
    """Brings what ``own`` cuts out to the bins of a box head, so that HTC need not."""

    def __init__(self, own: Any, bins: tuple[int, int]) -> None:
        super().__init__()
        self.own, self.bins = own, bins

    def forward(self, features: Sequence[Tensor], rois: Tensor) -> Tensor:
        """(N, C, h, w) of boxes (N, 5)."""
        return adaptive_avg_pool2d(self.own(features, rois), self.bins)


def _fused(roi_feats: Tensor, glbctx_feat: Tensor, rois: Tensor) -> Tensor:
    """As SCNet does, which asks each image for its boxes."""
    return roi_feats + glbctx_feat[rois[:, 0].long()]
