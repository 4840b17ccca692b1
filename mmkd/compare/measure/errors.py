"""What a detector gets wrong: how much AP50 each kind of error costs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd.compare.measure.class_matches import ClassMatches, mean_average_precision

#: The kinds of errors, and what each is.
KINDS = {
    'missed': 'an object that no detection overlaps, by any class',
    'wrong class': 'a box that fits (IoU of 0.5) an object of another class',
    'loose box': 'the right class, but an IoU of only 0.1 to 0.5',
    'wrong class, loose box': 'both at once',
    'duplicate': 'a box that fits an object which a surer detection has found',
    'background': 'a box that overlaps no object (IoU of at most 0.1)',
}
_MISSED, _CLASS, _BOX, _BOTH, _DUPLICATE, _BACKGROUND = KINDS
_FITS, _TOUCHES = 0.5, 0.1  # IoU

#: Recall at which precision is read. COCO's own differ from these in the last bit, so that recall
#: of just 0.07, say, does not reach the one that is meant.
_RECALL = np.arange(101) / 100


@dataclass(frozen=True)
class Judged:
    """All detections of a test set, by falling score, and its objects.

    Args:
        score: (D,) of each detection.
        label: (D,) its class.
        kind: (D,) what is wrong with it; '' for one that finds an object.
        target: (D,) the object that it finds, or that a box of the wrong class or a loose one is
            of; -1 for others.
        classes: (G,) the class of each object.
        found: (G,) whether a detection finds it.
        ignored: (D,) whether it lies in a region to be ignored: it counts neither way, unless it is
            mended.
    """

    score: NDArray[Any]
    label: NDArray[Any]
    kind: NDArray[Any]
    target: NDArray[Any]
    classes: NDArray[Any]
    found: NDArray[Any]
    ignored: NDArray[Any]


def error_costs(judged: Judged) -> dict[str, float]:
    """By how much AP50 would rise if all errors of a kind were mended, and no others.

    Source: Bolya et al., TIDE, ECCV 2020, sections 2.2 and 2.3, whose kinds these are: a wrong
    class or a loose box is made right, unless a surer detection finds the object; an error of both,
    a duplicate and a detection of the background are taken away; a missed object is not counted.
    Of boxes of a wrong class and loose ones about the same object only the surest counts, as in the
    authors' code (tidecv 1.0.1). The figures are its own but for what follows.
    Differs: of equal scores each keeps its place when another is mended; there what is mended comes
    first. A class without an object is left out of the mean, and so is one all of whose objects are
    missed once these are mended; there it counts as 0 if it has detections. A second box of an
    object with an IoU of just 0.5 is a duplicate; there it is a loose box.
    """
    own = _ap50(judged)
    mended: dict[str, Callable[[Judged], Judged]] = {
        _MISSED: _without_missed,
        _CLASS: lambda judged: _corrected(judged, _CLASS),
        _BOX: lambda judged: _corrected(judged, _BOX),
    }
    return {
        kind: _ap50(mended.get(kind, lambda judged, kind=kind: _without(judged, kind))(judged))
        - own
        for kind in KINDS
    }


def judge(samples: Sequence[Mapping[str, Any]]) -> Judged:
    """Tell each detection's kind of error.

    Objects and detections are matched as by COCO: of one class, at an IoU of 0.5, the surest
    detection first, each with the free object that it overlaps most.

    Args:
        samples: as ``mmkd test --out`` wrote them.
    """
    parts: list[tuple[NDArray[Any], ...]] = []
    classes: list[NDArray[Any]] = []
    count = 0
    for sample in samples:
        objects = [i for i in sample['instances'] if not i.get('ignore_flag')]
        ignored = [i for i in sample['instances'] if i.get('ignore_flag')]
        part = _judge_image(sample['pred_instances'], objects, ignored)
        part[3][part[3] >= 0] += count
        parts.append(part)
        classes.append(np.array([item['bbox_label'] for item in objects], int))
        count += len(objects)
    score, label, kind, target, hidden = map(np.concatenate, zip(*parts, strict=True))
    order = np.argsort(-score, kind='mergesort')
    found = np.zeros(count, bool)
    found[target[kind == '']] = True
    return Judged(
        score[order],
        label[order],
        kind[order],
        target[order],
        np.concatenate(classes),
        found,
        hidden[order],
    )


def counted(judged: Judged) -> Judged:
    """Without the detections that count neither way."""
    return _taken(judged, ~judged.ignored)


def _judge_image(
    predictions: Mapping[str, Any],
    objects: Sequence[Mapping[str, Any]],
    ignored: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[Any], ...]:
    boxes, scores, labels = (np.asarray(predictions[k]) for k in ('bboxes', 'scores', 'labels'))
    order = np.argsort(-scores, kind='mergesort')
    boxes, scores, labels = boxes[order].reshape(-1, 4), scores[order], labels[order]
    overlap, same = _overlaps(boxes, labels, objects)
    share, alike = _overlaps(boxes, labels, ignored, of_box=True)
    left_out = np.any(alike & (share >= _FITS), axis=1)
    free = np.where(same, overlap, 0.0)  # with the objects that no surer detection has found
    kinds, targets = np.full(len(boxes), '', object), np.full(len(boxes), -1)
    for index in range(len(boxes)):
        best = int(free[index].argmax()) if len(objects) else -1
        if best >= 0 and free[index, best] >= _FITS:
            free[:, best], targets[index] = 0.0, best
        else:
            kinds[index], targets[index] = _error(overlap[index], same[index])
    hidden = left_out & (kinds != '')
    kept = ~hidden | (targets >= 0)  # of what counts neither way only what can be mended
    return scores[kept], labels[kept], kinds[kept], targets[kept], hidden[kept]


def _error(overlap: NDArray[Any], same: NDArray[Any]) -> tuple[str, int]:
    """The kind of error of a detection that finds nothing, and the object that it is about."""
    if not len(overlap):
        return _BACKGROUND, -1
    own, other = np.where(same, overlap, 0.0), np.where(same, 0.0, overlap)
    # In the order of the authors' code: an IoU of just 0.1 is a loose box.
    if _TOUCHES <= own.max() < _FITS:
        return _BOX, int(own.argmax())
    if other.max() >= _FITS:
        return _CLASS, int(other.argmax())
    if own.max() >= _FITS:
        return _DUPLICATE, -1
    return (_BACKGROUND if overlap.max() <= _TOUCHES else _BOTH), -1


def _overlaps(
    boxes: NDArray[Any],
    labels: NDArray[Any],
    objects: Sequence[Mapping[str, Any]],
    of_box: bool = False,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """IoU (D, G) of detections with objects, or the share of the box; whether classes agree."""
    others = np.array([item['bbox'] for item in objects], float).reshape(-1, 4)
    classes = np.array([item['bbox_label'] for item in objects], int)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes.astype(float), others)]
    whole = areas[0][:, None] + (0 if of_box else areas[1][None, :] - shared)
    return shared / np.maximum(whole, 1e-9), labels[:, None] == classes[None, :]


def _without(judged: Judged, kind: str) -> Judged:
    return _taken(judged, judged.kind != kind)


def _taken(judged: Judged, kept: NDArray[Any]) -> Judged:
    names = ('score', 'label', 'kind', 'target', 'ignored')
    return replace(judged, **{name: getattr(judged, name)[kept] for name in names})


def _corrected(judged: Judged, kind: str) -> Judged:
    """The surest error about each object that none finds is made right, the others go."""
    found, label, kinds = judged.found.copy(), judged.label.copy(), judged.kind.copy()
    ignored = judged.ignored.copy()
    kept: NDArray[Any] = judged.kind != kind
    told = judged.found.copy()
    for index in np.flatnonzero((judged.kind == _CLASS) | (judged.kind == _BOX)):
        target = judged.target[index]
        if not told[target] and kinds[index] == kind:
            found[target], kinds[index], label[index] = True, '', judged.classes[target]
            ignored[index], kept[index] = False, True
        told[target] = True
    return _taken(replace(judged, label=label, kind=kinds, found=found, ignored=ignored), kept)


def _without_missed(judged: Judged) -> Judged:
    missed: NDArray[Any] = ~judged.found
    missed[judged.target[(judged.kind == _CLASS) | (judged.kind == _BOX)]] = False
    # Their places stay, so that targets point at the same objects; no class has the number -1.
    return replace(judged, classes=np.where(missed, -1, judged.classes))


def _ap50(judged: Judged) -> float:
    matches = []
    for label in np.unique(judged.classes[judged.classes >= 0]):
        own = judged.label == label
        hits = (judged.kind[own] == '')[None]
        objects = np.array([np.count_nonzero(judged.classes == label)])
        image = np.zeros(hits.shape[1], int)
        matches.append(ClassMatches(image, hits, judged.ignored[own][None], objects))
    return float(mean_average_precision(matches, np.ones((1, 1), int), _RECALL)[0])
