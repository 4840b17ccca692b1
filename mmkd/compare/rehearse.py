"""A pair built once before hours pass: what its rules refuse is told at once."""

from logging import INFO, WARNING

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from mmkd.algorithms.build_teacher import rehearse_teaching
from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.algorithms.quiet_log import quiet_log
from mmkd.config.config_errors import config_errors
from mmkd.datasets.data_checks import name_classes
from mmkd.doctor.check_priors import told_of_priors


def rehearse(config: Config) -> DetectionDistill:
    """Build the pair of a config, and log what its detections and priors are to its data.

    Args:
        config: of the pair's training, changed in place.

    Raises:
        ConfigError: it cannot be built; the key comes first.
    """
    name_classes(config)
    scope = DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmdet'))
    with quiet_log(), config_errors(config), scope:
        pair: DetectionDistill = MODELS.build(config.model)
        told = [*rehearse_teaching(pair, config), *told_of_priors(pair.student, config)]
    for line in told:
        print_log(line, 'current', INFO if line.startswith('Priors: ') else WARNING)
    return pair
