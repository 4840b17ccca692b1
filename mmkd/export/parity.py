"""Whether an exported file finds what PyTorch finds, in three steps."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from numpy.typing import NDArray

from mmkd.export.mean_ap import finder_of, mean_aps
from mmkd.export.proposal_errors import proposal_errors
from mmkd.export.reference import Found, Reference, Rows
from mmkd.export.same_detections import unmatched
from mmkd_onnx import Detector

SCORE = 1e-4
PER_STRIDE = 1e-4
PER_SIDE = 1e-5
#: Largest difference of the mAP, in points, by the numbers that a file computes with.
POINTS = {'float32': 0.1, 'float16': 0.3, 'int8': 1.0}


@dataclass
class Step:
    """One step of the check.

    Args:
        name: 'rows', 'detections' or 'mAP'.
        passed: None where it is reported only, or was not run.
        told: the figures, as a line of text.
        figures: by name.
    """

    name: str
    passed: bool | None
    told: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Parity:
    """All steps."""

    steps: list[Step]

    @property
    def passed(self) -> bool:
        """Whether none failed."""
        return all(step.passed is not False for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(passed=self.passed, steps=[asdict(step) for step in self.steps])

    def lines(self) -> list[str]:
        """A line for each step, and one where none decides."""
        words = {True: 'passed', False: 'FAILED', None: 'reported'}
        lines = [f'{step.name:10} {words[step.passed]:8} {step.told}' for step in self.steps]
        if all(step.passed is None for step in self.steps):
            lines.append('no step decides: below float32 only the mAP on a validation set does')
        return lines


def check_rows(
    reference: Reference,
    rows: Detector,
    images: Sequence[Any],
    decides: bool = True,
    pipeline: Sequence[Mapping[str, Any]] | None = None,
) -> Step:
    """Step 1: each row of the graph is PyTorch's.

    Args:
        reference: the detector in PyTorch.
        rows: the file with rows for its outputs.
        images: paths or arrays.
        decides: whether the step passes or fails; else it is only reported.
        pipeline: the test pipeline, whose pixels must be those of the file. Defaults to None, not
            compared.
    """
    worst = dict.fromkeys(('score', 'box_px', 'box_of_tolerance', 'pixels'), 0.0)
    count = left_out = 0
    for image in images:
        inputs = rows.prepare(image).data['inputs']
        if pipeline is not None and not isinstance(image, np.ndarray):
            away = _pixel_difference(inputs, image, pipeline, reference.scope)
            worst['pixels'] = max(worst['pixels'], away)
        found = row_errors(reference.rows(inputs[None]), rows.raw(inputs[None]), reference.size)
        worst = {key: max(value, found.get(key, 0.0)) for key, value in worst.items()}
        left_out += int(found.get('left_out', 0))
        count += 1
    passed = worst['score'] <= SCORE and worst['box_of_tolerance'] <= 1 and worst['pixels'] <= 0
    limit = 'allowed' if decides else 'allowed in float32'
    told = (
        f'of {count} images: scores differ by {worst["score"]:.1e} at most ({limit} {SCORE:.0e}), '
        f'boxes by {worst["box_px"]:.1e} px, {worst["box_of_tolerance"]:.2f} of what is {limit}'
        + (f', prepared pixels by {worst["pixels"]:.0f}' if pipeline is not None else '')
        + (f'; {left_out} rows left out, on which rounding decides' if left_out else '')
    )
    figures = {'images': count, 'left_out': left_out, **worst}
    return Step('rows', passed if decides else None, told, figures)


def row_errors(
    own: Rows, outputs: Sequence[NDArray[Any]], size: tuple[int, int]
) -> dict[str, float]:
    """The largest differences between PyTorch's rows and a file's ``boxes`` and ``scores``.

    Boxes count up to a side of the input beyond it: what lies further out is cut off anyway. Rows
    that are tied may differ.
    """
    boxes, scores = outputs[:2]
    side = max(size)
    if own.proposal:
        return proposal_errors(own, (boxes, scores), side, SCORE, PER_SIDE * side)
    if boxes.shape != own.boxes.shape or scores.shape != own.scores.shape:
        return dict(score=float('inf'), box_px=float('inf'), box_of_tolerance=float('inf'))
    clipped = [np.clip(b.astype(np.float64), -side, 2 * side) for b in (own.boxes, boxes)]
    away = np.abs(clipped[0] - clipped[1])
    of_tolerance = away / np.maximum(PER_STRIDE * own.strides, PER_SIDE * side)
    apart = np.abs(own.scores.astype(np.float64) - scores)
    left_out = 0
    if own.tied is not None:
        other = (apart > SCORE).any(axis=2) | (of_tolerance > 1).any(axis=2)
        other &= own.tied
        left_out = int(other.sum())
        away, of_tolerance, apart = away[~other], of_tolerance[~other], apart[~other]
    errors = dict(
        score=apart.max(initial=0),
        box_px=away.max(initial=0),
        box_of_tolerance=of_tolerance.max(initial=0),
        left_out=left_out,
    )
    return {k: float('inf') if np.isnan(v) else float(v) for k, v in errors.items()}


def _pixel_difference(
    inputs: NDArray[Any], path: Any, pipeline: Sequence[Mapping[str, Any]], scope: str
) -> float:
    """Between the file's input and what the test pipeline makes of an image, where that lies."""
    with DefaultScope.overwrite_default_scope(scope):
        pixels = [step for step in pipeline if 'LoadAnnotations' not in str(step['type'])]
        own = Compose(pixels)(dict(img_path=str(path), img_id=0))['inputs'].numpy()
    height, width = own.shape[1:]
    if height > inputs.shape[1] or width > inputs.shape[2]:
        return float('inf')
    return float(np.abs(inputs[:, :height, :width].astype(np.float64) - own).max(initial=0))


def check_detections(
    reference: Reference,
    detector: Detector,
    images: Sequence[Any],
    decides: bool = True,
    left_out: int = 0,
) -> Step:
    """Step 2: the detections are PyTorch's, one to one.

    Args:
        reference: the detector in PyTorch.
        detector: the file.
        images: paths or arrays.
        decides: whether the step passes or fails; else it is only reported.
        left_out: how many proposals step 1 has left out. Each may stand behind one detection of
            PyTorch's or of the file's, and another takes its place in the other.
    """
    faults = ties = total = others = 0
    rules = detector.metadata.thresholds
    for image in images:
        prepared = detector.prepare(image).data
        inputs, placed = prepared['inputs'][None], prepared['placed']
        own = reference.found(inputs, placed)
        outputs = detector.raw(inputs)
        other = Found(*detector.chosen([output[0] for output in outputs], placed))
        lost, tied = unmatched(own, other, rules)
        faults, ties = faults + lost, ties + tied
        total, others = total + len(own.scores), others + len(other.scores)
    told = (
        f'of {total} in PyTorch and {others} of the file: {faults} without a counterpart, '
        f'{ties} left out as ties at a threshold'
    )
    figures = dict(detections=total, of_the_file=others, unmatched=faults, ties=ties)
    return Step('detections', faults <= 2 * left_out if decides else None, told, figures)


def check_map(
    reference: Reference,
    detector: Detector,
    dataset: Any,
    evaluators: tuple[Any, Any],
    indices: Iterable[int],
    allowed: float,
) -> Step:
    """Step 3: the mAP is PyTorch's.

    Args:
        reference: the detector in PyTorch.
        detector: the file.
        dataset: built, with its test pipeline.
        evaluators: of mmengine, PyTorch's and the file's, two alike.
        indices: of images.
        allowed: difference in points.
    """
    finders = [reference.found, finder_of(detector)]
    key, metrics, count = mean_aps(finders, detector, dataset, evaluators, indices, reference.scope)
    if key is None:
        return Step('mAP', None, f'not measured: no mAP among {", ".join(metrics[0])}')
    own, other = (100 * float(found[key]) for found in metrics)
    return map_step(own, other, key, count, allowed)


def map_step(own: float, other: float, key: str, count: int, allowed: float) -> Step:
    """The step of two figures, PyTorch's and the file's, in points."""
    away = abs(own - other)
    told = (
        f'of {count} images: {own:.2f} in PyTorch, {other:.2f} of the file '
        f'({key}; {allowed} points are allowed)'
    )
    figures = dict(images=count, metric=key, pytorch=own, file=other, allowed=allowed)
    return Step('mAP', away <= allowed + 1e-9, told, figures)
