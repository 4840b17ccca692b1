"""Whether annotations have the masks that a run loads, learns from and measures."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope

from mmkd.config.names import first_of
from mmkd.datasets.channels import class_of, is_known, student_of
from mmkd.datasets.split import Split

#: Heads that learn masks, beside those that a config names ``mask_head``.
_MASK_HEADS = ('RTMDetInsHead', 'RTMDetInsSepBNHead', 'YOLOv5InsHead', 'MaskFormerHead')


def has_polygon(mask: Any) -> bool:
    """Whether a mask in COCO form has a polygon of three points or more.

    >>> has_polygon([[0, 0, 4, 0, 4, 4]]), has_polygon([[0, 0]]), has_polygon(dict(counts='a'))
    (True, False, False)
    """
    return isinstance(mask, list) and any(
        isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        for polygon in mask
    )


def check_loaded_masks(
    where: str, path: str, infos: Iterable[Mapping[str, Any]], pipeline: Any, cfg: Config
) -> list[str]:
    """Check that the transforms which load masks get them from each image that is loaded.

    They are asked themselves: mmdet's fails at an object without a mask, MMYOLO's leaves it out,
    and one of the user's own may make it of the box.

    Args:
        where: the loader's key, for messages.
        path: the annotation file.
        infos: what the data set gives of each image.
        pipeline: of the data set.
        cfg: config of the run.

    Returns:
        A line on objects that are left out, for the log.

    Raises:
        ValueError: a transform fails, or leaves out all objects.
    """
    infos = list(infos)
    for load in mask_loaders(pipeline, cfg.get('default_scope')):
        given = left = 0
        for info in infos:
            objects = [item for item in info['instances'] if not item.get('ignore_flag')]
            given += len(objects)
            if any(_may_fail(item, load) for item in info['instances']):
                left += _left(where, path, infos, info, load, cfg)
            else:
                left += len(objects)
        if where == 'train_dataloader' and given and not left:
            raise ValueError(_refusal(where, path, infos, load, cfg))
        if where == 'train_dataloader' and left < given:
            return [
                f'{where}: of "{path}", {given - left} objects without a polygon left out by '
                f'{type(load).__name__} (docs/data.md)'
            ]
    return []


def mask_loaders(pipeline: Any, scope: str | None) -> list[Any]:
    """The transforms of a pipeline that load masks, those within others included, built."""
    from mmcv.transforms import LoadAnnotations
    from mmdet.datasets.transforms import LoadPanopticAnnotations

    found = []
    for node in transforms_of(pipeline):
        kind = class_of('transform', node, scope)
        if not isinstance(kind, type) or issubclass(kind, LoadPanopticAnnotations):
            continue  # it takes the segments of whole images
        if issubclass(kind, LoadAnnotations):
            with DefaultScope.overwrite_default_scope(scope or 'mmdet'):
                built: Any = TRANSFORMS.build(dict(node))
            built.with_seg = False  # maps lie in files of their own
            found += [built] if getattr(built, 'with_mask', False) else []
    return found


def transforms_of(node: Any) -> Iterator[Mapping[str, Any]]:
    """The configs of a pipeline's transforms and of those within them."""
    if isinstance(node, Mapping):
        if 'type' in node:
            yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for item in node:
            yield from transforms_of(item)


def _may_fail(item: Mapping[str, Any], load: Any) -> bool:
    mask = item.get('mask')
    if isinstance(mask, Mapping):  # run lengths
        return not getattr(load, 'poly2mask', True)
    return not has_polygon(mask)


def _left(
    where: str, path: str, infos: Sequence[Any], info: Mapping[str, Any], load: Any, cfg: Config
) -> int:
    """How many objects of an image a transform leaves."""
    size = info['height'], info['width']
    results = {**copy.deepcopy(dict(info)), 'ori_shape': size, 'img_shape': size}
    try:
        results = load.transform(results)
    except (KeyError, NotImplementedError) as error:
        if isinstance(error, KeyError) and error.args != ('mask',):
            return len(info['instances'])  # it needs more than is known before an image is read
        raise ValueError(_refusal(where, path, infos, load, cfg)) from error
    if not isinstance(results, Mapping) or 'gt_ignore_flags' not in results:
        return len(info['instances'])
    return int((~np.asarray(results['gt_ignore_flags'], dtype=bool)).sum())


def _refusal(where: str, path: str, infos: Sequence[Any], load: Any, cfg: Config) -> str:
    objects = [item for info in infos for item in info['instances']]
    lacking = [
        info['img_path'] for info in infos for item in info['instances'] if _may_fail(item, load)
    ]
    first = first_of((f'"{name}"' for name in dict.fromkeys(lacking)), 3)
    form = '' if getattr(load, 'poly2mask', True) else ' of polygons'
    return (
        f'{where}: each object must have a mask{form}, since {type(load).__name__} of the pipeline '
        f'loads masks (with_mask=True), but in "{path}" {len(lacking)} of {len(objects)} have '
        f'none: in {first}. {_remedy(cfg)}'
    )


def _remedy(cfg: Config) -> str:
    add = 'Add "segmentation" to the annotations (COCO form)'
    model, _ = student_of(cfg)
    if learns_masks(model, cfg.get('default_scope')):
        return (
            f'{add}, or take a detector that learns boxes alone, as Faster R-CNN is for Mask '
            'R-CNN and RTMDet for RTMDet-Ins.'
        )
    return f'{add}, or set with_mask=False, if the detector learns boxes alone.'


def check_measured_masks(where: str, split: Split, classes: Sequence[str] | None) -> None:
    """Check that annotations whose masks a metric compares have them.

    Args:
        where: the evaluator's key, for messages.
        split: what the annotation file has.
        classes: of the objects that are compared. None for all.

    Raises:
        ValueError: some have none.
    """
    bare = [(name, key) for name, key in split.bare if classes is None or name in classes]
    if bare:
        shown = (f'"{name}"' if key is None else f'annotation {key}' for name, key in bare)
        raise ValueError(
            f"{where}: each object must have a mask, since metric='segm' compares masks, but in "
            f'"{split.path}" {len(bare)} {"has" if len(bare) == 1 else "have"} none: '
            f'{first_of(shown)}. Add "segmentation" to the annotations (COCO form), or set '
            "metric='bbox'."
        )


def check_mask_fit(cfg: Config, phases: Iterable[str], measured: Iterable[str]) -> None:
    """Check that the student gets the masks and maps that it learns from, and gives those measured.

    Only what is certain is refused: with models, data sets or transforms of the user's own the
    first batch decides.

    Args:
        cfg: config of the run.
        phases: of its loaders.
        measured: the phases in which a metric compares masks.

    Raises:
        ValueError: a loader or a metric does not fit the student.
    """
    model, _ = student_of(cfg)
    scope = cfg.get('default_scope')
    if not isinstance(model, Mapping) or not is_known('model', model, scope):
        return
    name = str(model.get('type')).split('.')[-1]
    learns = learns_masks(model, scope)
    for phase in measured:
        if learns is False and not _of_boxes(model):
            raise ValueError(
                f"{phase}_evaluator: metric='segm' compares masks, but the student ({name}) "
                "detects boxes alone. Set metric='bbox', or take a student that has masks."
            )
    if 'train' not in phases:
        return
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    nodes = [node for node in transforms_of(dataset) if _is_transform(node, scope)]
    if learns and not _loads(dataset, nodes, scope, 'with_mask'):
        raise ValueError(
            f'train_dataloader: the pipeline must load masks, since the student ({name}) learns '
            'from them, but no LoadAnnotations has with_mask=True. Set it; LoadPanopticAnnotations '
            'needs a panoptic data set.'
        )
    if _semantic(model) and not _loads(dataset, nodes, scope, 'with_seg'):
        raise ValueError(
            f'train_dataloader: the pipeline must load semantic maps, since semantic_head of the '
            f'student ({name}) learns from them, but LoadAnnotations has no with_seg=True, or the '
            'data set no data_prefix.seg. Give both, or take a student without that head, as '
            'htc-without-semantic is for HTC.'
        )


def learns_masks(model: Any, scope: str | None) -> bool | None:
    """Whether a detector's config has a head that learns masks; None where that is not certain."""
    if not isinstance(model, Mapping) or not is_known('model', model, scope):
        return None
    heads = [model, model.get('roi_head') or {}]
    if any(isinstance(one, Mapping) and one.get('mask_head') for one in heads):
        return not _of_boxes(model)
    kinds = [
        class_of('model', node, model.get('_scope_', scope))
        for key in ('bbox_head', 'panoptic_head', 'roi_head')
        for node in transforms_of(model.get(key))
    ]
    names = {base.__name__ for kind in kinds for base in getattr(kind, '__mro__', ())}
    if names & {*_MASK_HEADS}:
        return True
    return False if model.get('bbox_head') or model.get('roi_head') else None


def _of_boxes(model: Mapping[str, Any]) -> bool:
    """BoxInst makes the masks that it learns from of boxes."""
    preprocessor = model.get('data_preprocessor') or {}
    return 'BoxInst' in str(preprocessor.get('type'))


def _semantic(model: Mapping[str, Any]) -> Any:
    return model.get('semantic_head') or (model.get('roi_head') or {}).get('semantic_head')


def _is_transform(node: Mapping[str, Any], scope: str | None) -> bool:
    return 'pipeline' not in node and class_of('transform', node, scope) is not None


def _loads(dataset: Any, nodes: Sequence[Mapping[str, Any]], scope: Any, what: str) -> bool:
    """Whether transforms may give masks or maps: they load them, or are not known."""
    for node in nodes:
        kind = str(node['type']).split('.')[-1]
        if not is_known('transform', node, scope):
            return True
        if kind == 'LoadPanopticAnnotations' and not all(map(_is_plain, _leaves(dataset))):
            return True
        if what == 'with_mask' and kind == 'CopyPaste':
            return True  # makes them of boxes
        if kind != 'LoadPanopticAnnotations' and node.get(what):
            return what == 'with_mask' or any(
                not _is_plain(leaf) or (leaf.get('data_prefix') or {}).get('seg')
                for leaf in _leaves(dataset)
            )
    return False


def _is_plain(dataset: Mapping[str, Any]) -> bool:
    """Whether a data set is one of boxes and outlines, without segments of the whole image."""
    return str(dataset.get('type')).split('.')[-1] in ('CocoDataset', 'YOLOv5CocoDataset')


def _leaves(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        inner = node.get('datasets', node.get('dataset'))
        yield from [node] if inner is None else _leaves(inner)
    elif isinstance(node, list | tuple):
        for item in node:
            yield from _leaves(item)
