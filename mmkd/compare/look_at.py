"""The images of a report: what is there, what each detector finds, what the teacher shows."""

import contextlib
import io
from collections.abc import Mapping

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmkd.algorithms.build_teacher import rehearse_teaching
from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.algorithms.quiet_log import quiet_log
from mmkd.compare.arms import Arm
from mmkd.compare.comparison import Comparison
from mmkd.compare.configs import taught
from mmkd.compare.measure.evidence import read_samples
from mmkd.datasets.data_checks import name_classes
from mmkd.visualization.overlays import overlays
from mmkd.visualization.pictures import Picture, detected_boxes, ground_truth_boxes

#: Where no threshold of its own is known for a detector.
_USUAL = 0.3


def look_at(
    comparison: Comparison, count: int, thresholds: Mapping[Arm, float]
) -> tuple[list[Picture], str]:
    """The first test images with what each detector finds and what the teacher shows.

    Args:
        comparison: whose steps have run.
        count: of images.
        thresholds: the lowest score that is shown, by arm; 0.3 for one that is not named.

    Returns:
        tuple: the pictures; a sentence on what could not be drawn, or ''.
    """
    import mmcv
    from mmdet.registry import DATASETS

    config = comparison.tests['student']
    init_default_scope(config.get('default_scope', 'mmdet'))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of its loading
        dataset = DATASETS.build(config.test_dataloader.dataset)
    classes, flag = dataset.metainfo['classes'], _flag(config.test_dataloader.dataset)
    found = {}
    for detector in comparison.detectors:
        if detector.seed == comparison.seeds[0]:
            samples = read_samples(detector.predictions)
            by_path = {sample['img_path']: sample['pred_instances'] for sample in samples}
            found[detector.arm] = by_path
    pictures, fault = [], ''
    try:
        with quiet_log():
            pair = _build_pair(comparison)
    except Exception as error:
        pair, fault = None, _fault(error)
    for index in range(min(count, len(dataset))):
        info = dataset.get_data_info(index)
        boxes = {'Ground truth': ground_truth_boxes(info['instances'], classes)}
        for arm, by_path in found.items():
            least = thresholds.get(arm, _USUAL)
            boxes[arm.heading] = detected_boxes(by_path[info['img_path']], classes, least)
        heat = {}
        if pair is not None:
            try:
                heat = {name: m.numpy() for name, m in overlays(pair, dataset, index).items()}
            except Exception as error:
                pair, fault = None, _fault(error)
        pixels = mmcv.imread(info['img_path'], flag, channel_order='rgb')
        pictures.append(Picture(pixels, boxes, heat))
    return pictures, fault


def _flag(dataset: Config) -> str:
    """How images are read in colour: as they are stored, where the boxes were drawn so."""
    steps = dataset.get('pipeline') or ()
    as_stored = any('ignore_orientation' in str(step.get('color_type')) for step in steps)
    return 'color_ignore_orientation' if as_stored else 'color'


def _fault(error: Exception) -> str:
    # After hours of training the figures must come out, whatever an unusual pair does to drawings.
    return f" Mask and teacher's weight could not be drawn: {type(error).__name__}: {error}"


def _build_pair(comparison: Comparison) -> DetectionDistill:
    from mmdet.registry import MODELS

    weights = None if comparison.teacher is None else comparison.teacher.checkpoint
    config: Config = taught(comparison.pair, weights)
    config.model.lean_teacher = None
    name_classes(config)
    pair: DetectionDistill = MODELS.build(config.model).eval()
    rehearse_teaching(pair, config)  # a program's classes are told by the data
    return pair
