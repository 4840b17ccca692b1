"""A pair is told the names of its data's classes; nothing else is."""

import pytest
from mmengine.config import Config

from mmkd.datasets.data_checks import name_classes

DATA = dict(dataset=dict(type='CocoDataset', metainfo=dict(classes=('a', 'b'))))
PAIR = dict(type='DetectionDistill', _scope_='mmrazor', architecture={}, teacher={})


@pytest.mark.parametrize(
    'model, data, classes',
    [
        (PAIR, DATA, ['a', 'b']),
        (dict(PAIR, type='mmrazor.DetectionDistill'), DATA, ['a', 'b']),
        (dict(PAIR, classes=['x']), DATA, ['x']),
        (PAIR, dict(dataset=dict(type='RepeatDataset', dataset=DATA['dataset'])), ['a', 'b']),
        (PAIR, dict(dataset=[]), None),
        (PAIR, None, None),
        (dict(PAIR, type='SingleTeacherDistill'), DATA, None),
        (dict(PAIR, type='Nowhere'), DATA, None),
        (dict(type='RetinaNet'), DATA, None),
    ],
)
def test_a_pair_of_mmkd_is_told(model, data, classes):
    cfg = Config(dict(default_scope='mmdet', model=model, train_dataloader=data))
    name_classes(cfg)
    assert cfg.model.get('classes') == classes
