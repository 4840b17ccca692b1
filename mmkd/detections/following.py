"""How detections follow the ground truth that carries them through one transform.

A transform moves boxes by the methods of mmdet's boxes, and :class:`CarryingBoxes` moves along.
What is left to be done is told by its class, here for all of mmdet and MMYOLO: which detections it
would drop if they were ground truth, and what it does to boxes by other means or not at all where
there is no ground truth.
"""

import random
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from mmdet.structures.bbox import HorizontalBoxes
from torch import Tensor

from mmkd.detections.carrying_boxes import Carried, CarryingBoxes

#: Where a data set puts the detections of an image, (boxes, scores), until its ground truth is
#: loaded.
DETECTIONS = 'teacher_detections'

#: Where they stay, should the annotations be loaded once more: MMYOLO's mixing transforms may load
#: again what they have kept.
_LOADED = f'{DETECTIONS}_loaded'

#: They draw without looking at boxes, and make new ones, or move none where there are none: run
#: once more, with the same draws and the detections for ground truth.
AGAIN = frozenset(('RandomAffine', 'YOLOv5RandomAffine', 'Albu', 'RandomErasing'))

#: They keep what has its centre in the crop.
BY_CENTRE = frozenset(('MinIoURandomCrop', 'RandomCenterCropPad', 'PPYOLOERandomCrop'))

#: They paste objects by their masks, which a detection does not have.
PASTING = frozenset(('CopyPaste', 'YOLOv5CopyPaste', 'InstaBoost'))

#: What of a result belongs to its ground truth, one by one.
_OF_OBJECTS = ('gt_masks', 'gt_keypoints', 'gt_keypoints_visible', 'gt_instances_ids')

_KNOWN = ('mmcv', 'mmdet', 'mmyolo')
_MARK = -12345.0  # of a pixel that is one of the image, not of padding


def follow(call: Callable[[Any, Any], Any], transform: Any, results: Any) -> Any:
    """Apply a transform, and let the detections of an image follow.

    Args:
        call: applies a transform to results.
        transform: the transform.
        results: of an image; its detections are carried by its ground truth, or wait for it under
            :data:`DETECTIONS`.

    Raises:
        ValueError: they cannot follow.
    """
    if not isinstance(results, dict):
        return call(transform, results)
    truth = results.get('gt_bboxes')
    names = {cls.__name__ for cls in type(transform).__mro__}
    taught = DETECTIONS in results or isinstance(truth, CarryingBoxes)
    if taught and names & PASTING:
        raise ValueError(
            'a transform must move boxes that a teacher detected as it moves the ground truth, but '
            f'{type(transform).__name__} pastes objects by their masks, which detections do not '
            'have. Take it out of the pipeline, or let the teacher run in training.'
        )
    if 'LoadAnnotations' in names and _LOADED in results:
        results[DETECTIONS], truth = results.pop(_LOADED), None
    if not isinstance(truth, CarryingBoxes) or hasattr(transform, 'transforms'):
        loads = DETECTIONS in results and truth is None
        held = results.get(DETECTIONS)
        outcome = call(transform, results)
        if loads and isinstance(outcome, dict) and outcome.get('gt_bboxes') is not None:
            outcome = _attached(outcome)
            outcome[_LOADED] = held
        return outcome
    foreign = type(transform).__module__.partition('.')[0] not in _KNOWN
    again = deepcopy(transform) if 'Albu' in names else transform  # it has its own generators
    makes_anew = foreign or 'gt_masks' in results  # boxes, perhaps, of arrays or of masks
    before = None
    if 'img' in results and (makes_anew or names & (AGAIN | BY_CENTRE)):
        before = _Before(results)
    if truth.carried is not None:
        truth.carried.placed = None
    outcome = call(transform, results)
    found = outcome.get('gt_bboxes') if isinstance(outcome, dict) else None
    if found is None:  # packed, or left out
        return outcome
    if not isinstance(found, CarryingBoxes):
        found = CarryingBoxes.of(_boxes(found), Carried(HorizontalBoxes([]), torch.zeros(0)))
        found.carried, found.as_array = None, truth.as_array
        outcome['gt_bboxes'] = found
    if found.carried is None and before is None:
        raise ValueError(
            'a transform must move boxes that a teacher detected as it moves the ground truth, but '
            f'{type(transform).__name__} makes new boxes. Take it out of the pipeline, or let it '
            "move boxes by the methods of mmdet's HorizontalBoxes."
        )
    if before is not None and (
        names & AGAIN or found.carried is None or (foreign and not len(before.truth))
    ):
        found.carried = before.again(call, again, outcome, found.carried if foreign else None)
    elif before is not None and names & BY_CENTRE:
        if not len(before.truth) and outcome['img'].shape != before.shape:
            found.carried = before.shifted(call, transform, found.carried)
        found.carried = _centred(found.carried, outcome['img'].shape[:2])
    if 'FilterAnnotations' in names and transform.by_box:
        found.carried = _large(found.carried, transform.min_gt_bbox_wh)
    assert found.carried is not None
    if 'img' in outcome:  # annotations may be loaded first
        inside = found.carried.boxes.is_inside(outcome['img'].shape[:2])
        if not bool(inside.all()):
            found.carried = found.carried.kept(inside)
    return outcome


def _attached(outcome: Any) -> Any:
    """Let the ground truth that has been loaded carry the detections."""
    if isinstance(outcome, dict) and outcome.get('gt_bboxes') is not None:
        truth = outcome['gt_bboxes']
        given = outcome.pop(DETECTIONS)
        boxes, scores = given
        carried = Carried(HorizontalBoxes(boxes.clone(), clone=False), scores)
        carried.unseen = getattr(given, 'unseen', frozenset())
        as_array = isinstance(truth, np.ndarray)
        outcome['gt_bboxes'] = CarryingBoxes.of(_boxes(truth), carried, as_array)
    return outcome


def _boxes(truth: Any) -> HorizontalBoxes:
    if isinstance(truth, np.ndarray):
        return HorizontalBoxes(truth, dtype=torch.float32)
    if type(truth) in (HorizontalBoxes, CarryingBoxes):
        return truth
    raise ValueError(
        'the detections of a teacher are horizontal boxes, but the pipeline has its ground truth '
        f"in {type(truth).__name__}. Take box_type='hbox' in LoadAnnotations."
    )


class _Before:
    """What an image and the generators were before a transform."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        self.truth: CarryingBoxes = results['gt_bboxes']
        carried = self.truth.carried
        self.carried = None if carried is None else carried.copy()
        self.shape = results['img'].shape
        self.results = {**results, 'img': results['img'].copy()}
        self.truth = self.truth.clone()
        self.generators = random.getstate(), np.random.get_state(), torch.get_rng_state()

    def again(
        self,
        call: Callable[..., Any],
        transform: Any,
        first: Mapping[str, Any],
        moved: Carried | None = None,
    ) -> Carried:
        """The detections as the transform moves and selects them for ground truth.

        Args:
            call: applies a transform to results.
            transform: the transform.
            first: what it made with the ground truth.
            moved: the detections as they went along, which count where it draws otherwise now.
        """
        assert self.carried is not None
        if not len(self.carried):
            return self.carried
        shadow: dict[str, Any] = {
            **self.results,
            'gt_bboxes': self.carried.boxes.clone(),
            'gt_bboxes_labels': np.arange(len(self.carried)),
            'gt_ignore_flags': np.zeros(len(self.carried), dtype=bool),
        }
        for key in _OF_OBJECTS:
            shadow.pop(key, None)
        outcome = self._replayed(call, transform, shadow)
        if outcome is None:
            return self.carried.kept(slice(0, 0))
        same = outcome['img'].shape == first['img'].shape
        same = same and np.array_equal(outcome['img'], first['img'])
        if not same and moved is not None:
            return moved
        if not same:
            raise ValueError(
                'a transform must move boxes that a teacher detected as it moves the ground '
                f'truth, but {type(transform).__name__} draws by the boxes themselves, and by the '
                'detections it would make another image. Take it out of the pipeline, or let it '
                "move boxes by the methods of mmdet's HorizontalBoxes alone."
            )
        kept = torch.from_numpy(np.asarray(outcome['gt_bboxes_labels'], dtype=np.int64))
        boxes, scores = _boxes(outcome['gt_bboxes']), self.carried.scores[kept]
        return Carried(boxes, scores, unseen=self.carried.unseen)

    def shifted(
        self, call: Callable[..., Any], transform: Any, carried: Carried | None
    ) -> Carried | None:
        """The detections in a crop that the transform made of an image without ground truth."""
        height, width = self.shape[:2]
        pixels = np.full((height, width, 3), _MARK, dtype=np.float32)
        pixels[..., 0] = np.arange(width)
        pixels[..., 1] = np.arange(height)[:, None]
        shadow = {**self.results, 'img': pixels, 'gt_bboxes': HorizontalBoxes(self.truth.tensor)}
        made = self._replayed(call, transform, shadow)['img']
        rows, columns = np.nonzero(made[..., 2] == _MARK)
        if carried is None or not len(rows):
            return carried
        x, y = made[rows[0], columns[0], :2]
        moved = carried.copy()
        moved.boxes.translate_((float(columns[0] - x), float(rows[0] - y)))
        moved.placed = moved.boxes.tensor.clone()
        moved.boxes.clip_(made.shape[:2])
        return moved

    def _replayed(self, call: Callable[..., Any], transform: Any, shadow: Any) -> Any:
        after = random.getstate(), np.random.get_state(), torch.get_rng_state()
        _set(self.generators)
        try:
            return call(transform, shadow)
        finally:
            _set(after)


def _set(generators: tuple[Any, Any, Tensor]) -> None:
    random.setstate(generators[0])
    np.random.set_state(generators[1])
    torch.set_rng_state(generators[2])


def _centred(carried: Carried | None, size: tuple[int, int]) -> Carried | None:
    if carried is None:
        return None
    placed = carried.boxes.tensor if carried.placed is None else carried.placed
    centres = HorizontalBoxes(placed).centers
    limit = centres.new_tensor([size[1], size[0]])
    return carried.kept(((centres > 0) & (centres < limit)).all(-1))


def _large(carried: Carried | None, least: tuple[float, float]) -> Carried | None:
    if carried is None:
        return None
    boxes = carried.boxes
    return carried.kept((boxes.widths > least[0]) & (boxes.heights > least[1]))
