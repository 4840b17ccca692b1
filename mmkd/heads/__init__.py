"""What a detector predicts: one view of every head."""

from mmkd.heads import (  # noqa: F401  (they register readers)
    dense,
    detr,
    given,
    guided,
    roi,
    text,
    yolo,
)
from mmkd.heads.description import Description, describe_head, predicting_head
from mmkd.heads.detections import Detections, detections
from mmkd.heads.predictions import Batch, Predictions
from mmkd.heads.readers import READERS, WITHOUT_ROWS, can_read, find_reader, read, reader

__all__ = [
    'READERS',
    'WITHOUT_ROWS',
    'Batch',
    'Description',
    'Detections',
    'Predictions',
    'can_read',
    'describe_head',
    'detections',
    'find_reader',
    'predicting_head',
    'read',
    'reader',
]
