"""The mAP of several detectors on the same pixels."""

import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmkd_onnx import Detector
from mmkd_onnx.preparation import Placed

#: (1, 3, H, W), and where in it the image lies, to boxes (n, 4), scores (n,) and labels (n,) in
#: pixels of the input.
Finder = Callable[[Any, Placed], Sequence[Any]]


def finder_of(detector: Detector) -> Finder:
    """What a file finds in an input."""
    return lambda inputs, placed: detector.chosen([o[0] for o in detector.raw(inputs)], placed)


def mean_aps(
    finders: Sequence[Finder],
    detector: Detector,
    dataset: Any,
    evaluators: Sequence[Any],
    indices: Iterable[int],
    scope: str,
) -> tuple[str | None, list[dict[str, float]], int]:
    """Measure detectors, all of which get the input of ``detector``.

    Args:
        finders: the detectors.
        detector: the file that says how images become inputs.
        dataset: built, with its test pipeline.
        evaluators: of mmengine, one for each finder, all alike.
        indices: of images.
        scope: in which the detectors look names up.

    Returns:
        The name of the mAP among the metrics, or None; the metrics of each; the number of images.
    """
    count = 0
    with DefaultScope.overwrite_default_scope(scope):
        for index in indices:
            sample = dataset[index]['data_samples']
            prepared = detector.prepare(sample.img_path)
            placed, inputs = prepared.data['placed'], prepared.data['inputs'][None]
            for evaluator, find in zip(evaluators, finders, strict=True):
                boxes, scores, labels = find(inputs, placed)
                told = sample.clone()
                told.pred_instances = InstanceData(
                    bboxes=torch.from_numpy(placed.back(boxes)),
                    scores=torch.from_numpy(np.asarray(scores)),
                    labels=torch.from_numpy(np.asarray(labels)),
                )
                evaluator.process(data_samples=[told], data_batch=None)
            count += 1
        with redirect_stdout(io.StringIO()):  # of pycocotools
            metrics = [evaluator.evaluate(count) for evaluator in evaluators]
    return next((key for key in metrics[0] if key.endswith('mAP')), None), metrics, count
