"""A file's detections handed to the data of a run, and taken from its batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from torch import Tensor
from torch.utils.data import Dataset

from mmkd.datasets.mixed_batches import UNLABELLED
from mmkd.detections.carrying_boxes import Carried, CarryingBoxes
from mmkd.detections.fitted import FittedResults, JoinedResults, Tally, fit_results
from mmkd.detections.following import DETECTIONS
from mmkd.detections.results_file import WHERE, Results

#: Side of a box in pixels of the augmented image, below which nothing is to be seen of it.
SMALLEST = 1.0


def feed_detections(
    loader: Any, files: Mapping[str, tuple[Results, Mapping[str, str | None] | None]]
) -> list[Tally]:
    """Let the images of a data loader bring their detections, through all that moves their boxes.

    The ground truth and what is drawn at random stay what they are without.

    Args:
        loader: a data loader whose workers have not started.
        files: by the key of a batch that is to hold them the results of each file, and the
            student's name for classes that its teacher calls otherwise.

    Raises:
        ValueError: a file does not fit the images or the classes.
    """
    tallies = [
        give_detections(loader.dataset, results, class_map, beside=place > 0)
        for place, (results, class_map) in enumerate(files.values())
    ]
    if not isinstance(loader.collate_fn, partial) or loader.collate_fn.func is not collate:
        loader.collate_fn = partial(collate, collate_fn=loader.collate_fn, keys=tuple(files))
    return tallies


def give_detections(
    dataset: Any,
    results: Results,
    class_map: Mapping[str, str | None] | None = None,
    beside: bool = False,
) -> Tally:
    """Give the data sets in a data set their detections; see :func:`feed_detections`.

    Args:
        dataset: the data set.
        results: of a file.
        class_map: the student's name for classes that its teacher calls otherwise. Defaults to
            None.
        beside: whether those of the files that were given before stay. Defaults to False.
    """
    before = []
    for part in leaf_datasets(dataset):
        held = vars(part).pop(DETECTIONS, None)
        before.append(getattr(held, 'files', [held]) if beside else [])
    fitted, tally = fit_dataset(dataset, results, class_map)
    for part, held, found in zip(leaf_datasets(dataset), before, fitted, strict=True):
        part.__dict__[DETECTIONS] = JoinedResults([*held, found]) if held else found
    return tally


def fit_dataset(
    dataset: Any, results: Results, class_map: Mapping[str, str | None] | None = None
) -> tuple[list[FittedResults], Tally]:
    """:func:`mmkd.detections.fitted.fit_results` for each of the data sets in a data set.

    Args:
        dataset: the data set.
        results: of a file.
        class_map: the student's name for classes that its teacher calls otherwise. Defaults to
            None.

    Raises:
        ValueError: the file does not fit the images or the classes.
    """
    parts = list(leaf_datasets(dataset))
    for part in parts:
        if not isinstance(part, BaseDataset):
            raise ValueError(
                f"{WHERE}: a file's detections go with the images of data sets of mmengine's kind, "
                f'whose get_data_info tells of each, but got {type(part).__name__}. Derive it from '
                'mmengine.dataset.BaseDataset.'
            )
        part.full_init()
    infos = [[_of_image(part.get_data_info(i)) for i in range(len(part))] for part in parts]
    classes = next((c for c in (p.metainfo.get('classes') for p in parts) if c), None)
    if not classes:
        raise ValueError(
            f'{WHERE}: a data set must name its classes, by which those of the detections are '
            'known, but has none. Give it metainfo=dict(classes=(...)).'
        )
    categories: dict[Any, str] = {}
    for part in parts:
        categories.update(_categories(part))
    return fit_results(results, infos, classes, categories, class_map)


def _of_image(info: Mapping[str, Any]) -> dict[str, Any]:
    keys = ('img_id', 'img_path', 'height', 'width', 'listed_id', UNLABELLED)
    return {key: info.get(key) for key in keys}


def leaf_datasets(dataset: Any) -> Iterator[Any]:
    """The data sets that others wrap, join or repeat, each once."""
    inner = [vars(dataset)[key] for key in ('_dataset', 'dataset') if key in vars(dataset)]
    inner += vars(dataset).get('datasets') or ()
    inner += [views for views in (vars(dataset).get('views'),) if isinstance(views, Dataset)]
    if not inner:
        yield dataset
    for one in inner:
        yield from leaf_datasets(one)


def _categories(dataset: Any) -> dict[Any, str]:
    """The name of each category id of a COCO data set."""
    ids, classes = getattr(dataset, 'cat_ids', None), dataset.metainfo.get('classes')
    if not ids or not classes or len(ids) != len(classes):
        return {}
    return dict(zip(ids, classes, strict=True))


def collate(
    items: Sequence[Any],
    collate_fn: Callable[..., Any],
    keys: Sequence[str] = (DETECTIONS,),
) -> dict[str, Any]:
    """A batch, with the detections beside it; its ground truth carries them no longer.

    Of an image that a file did not look at they are None.

    Args:
        items: of a data set that was given them.
        collate_fn: the loader's own.
        keys: of the batch, one for each file. Defaults to that of a single one.
    """
    unseen = [_unseen(item['data_samples']) for item in items]
    detections = [unload(item['data_samples']) for item in items]
    files = {keys[0]: detections}
    if len(keys) > 1:
        files = {key: [_of(i, *found) for found in detections] for i, key in enumerate(keys)}
    looked: dict[str, list[Any]] = {
        key: [None if i in out else one for one, out in zip(files[key], unseen, strict=True)]
        for i, key in enumerate(keys)
    }
    return {**collate_fn(items), **looked}


def _unseen(sample: Any) -> frozenset[int]:
    """The numbers of the files that did not look at what a packed sample shows."""
    truth = sample.gt_instances.get('bboxes')
    carried = truth.carried if isinstance(truth, CarryingBoxes) else None
    return frozenset() if carried is None else carried.unseen


def _of(file: int, boxes: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
    """What is of one of several files: see :class:`JoinedResults`."""
    own = told[:, 0] == file
    return boxes[own], told[own, 1:]


def unload(sample: Any) -> tuple[Tensor, Tensor]:
    """Take the detections from a packed sample: boxes (n, 4) in pixels, scores (n, C).

    Raises:
        ValueError: its ground truth carries none.
    """
    truth = sample.gt_instances.get('bboxes')
    if not isinstance(truth, CarryingBoxes) or truth.carried is None:
        raise ValueError(
            f"{WHERE}: a file's detections go along with the ground truth, which the training "
            'pipeline must load by LoadAnnotations (or a transform of mmcv that puts gt_bboxes '
            f'into the results), but of {sample.metainfo.get("img_path")} they are lost at the '
            'end. Load boxes by LoadAnnotations(with_bbox=True).'
        )
    for name in ('gt_instances', 'ignored_instances'):
        instances = sample.get(name)
        boxes = None if instances is None else instances.get('bboxes')
        if isinstance(boxes, CarryingBoxes):
            instances.bboxes = boxes.tensor if boxes.as_array else boxes.plain()
    return _seen(truth.carried)


def _seen(carried: Carried) -> tuple[Tensor, Tensor]:
    """Without those that are too small to be seen, and those that are there twice."""
    boxes, scores = carried.boxes.tensor, carried.scores
    kept = ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST).all(1)
    boxes, scores = boxes[kept], scores[kept]
    rows = torch.cat([boxes, scores], dim=1)
    _, of = rows.unique(dim=0, return_inverse=True) if len(rows) else (rows, torch.zeros(0).long())
    first = torch.full((len(rows),), len(rows)).scatter_reduce(
        0, of, torch.arange(len(rows)), 'amin'
    )
    once = first[first < len(rows)].sort().values
    return boxes[once], scores[once]
