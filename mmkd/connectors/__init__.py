"""Connectors, one file each: what turns a record into a loss's argument.

A connector is called with one argument, the record. ``needs_equal`` and ``aligns`` say what it
needs equal of student and teacher, and what it makes equal (see :mod:`mmkd.rules`).
"""

from mmkd.connectors.chosen_levels import ChosenLevels
from mmkd.connectors.class_connectors import SharedClasses, TaughtClasses
from mmkd.connectors.each_level_connector import EachLevelConnector
from mmkd.connectors.feature_adapter import FeatureAdapter
from mmkd.connectors.flatten_cls import FlattenCls
from mmkd.connectors.imitation_mask_connector import ImitationMaskConnector
from mmkd.connectors.localisation_regions import LocalisationRegions
from mmkd.connectors.reencode_boxes import ReencodeBoxes
from mmkd.connectors.split_pred_maps import SplitPredMaps
from mmkd.connectors.standard_levels import StandardLevels

__all__ = [
    'ChosenLevels',
    'EachLevelConnector',
    'FeatureAdapter',
    'FlattenCls',
    'ImitationMaskConnector',
    'LocalisationRegions',
    'ReencodeBoxes',
    'SharedClasses',
    'SplitPredMaps',
    'StandardLevels',
    'TaughtClasses',
]
