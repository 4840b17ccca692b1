"""Where pyramids differ, the levels of equal stride are paired; nothing valid is changed."""

import pytest
import torch
from mmdet.registry import MODELS

from tests.tiny import tiny_ssd
from tests.zoo import taught

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def chosen(pair, name):
    """The levels that a connector takes, and the channels of the adapter behind it."""
    connector = pair.distiller.connectors[name]
    links = list(connector) if isinstance(connector, torch.nn.Sequential) else [connector]
    levels = links[0].levels
    convs = [(c.in_channels, c.out_channels) for c in getattr(links[-1], 'convs', [])]
    return levels, convs


def test_p3_to_p7_and_p2_to_p6():
    config = taught('retinanet', 'faster_rcnn', 'score_imitation')
    config.teacher.neck.out_channels = 24
    config.teacher.rpn_head.update(in_channels=24, feat_channels=24)
    config.teacher.roi_head.bbox_roi_extractor.out_channels = 24
    config.teacher.roi_head.bbox_head.in_channels = 24
    pair = MODELS.build(config)
    assert chosen(pair, 'score_imitation_adapter') == ([0, 1, 2, 3], [(16, 24)] * 4)
    for argument in ('preds_T', 'mask'):
        name = f'score_imitation_loss_feature_{argument}_levels'
        assert chosen(pair, name) == ([1, 2, 3, 4], [])


@pytest.mark.parametrize(
    ('student', 'teacher', 'levels'),
    [
        ('faster_rcnn', 'retinanet', [1, 2, 3, 4]),
        ('fcos', 'detr', [2]),
        ('detr', 'fcos', [0]),
        ('yolox', 'fcos', None),
        ('fcos', 'ssd', [0, 1, 2, 3]),
    ],
)
def test_other_pyramids(student, teacher, levels):
    pair = MODELS.build(taught(student, teacher, 'mgd'))
    connector = pair.distiller.connectors['mgd_masked']
    if levels is None:  # all of the student's, some of the teacher's
        levels = [0, 1, 2]
    assert connector[0].levels == levels and len(connector[1].each) == len(levels)


def test_equal_pyramids_are_left_alone():
    pair = MODELS.build(taught('fcos', 'retinanet', 'pkd'))
    assert list(pair.distiller.connectors) == ['pkd_adapter']
    assert not isinstance(pair.distiller.connectors['pkd_adapter'], torch.nn.Sequential)


def test_a_pair_that_resizes_pairs_its_levels_itself():
    config = taught('retinanet', 'faster_rcnn', 'pkd')
    config.distiller.connectors.pkd_adapter.scale = 2.0  # P3 to P7, each twice as large
    pair = MODELS.build(config)
    assert list(pair.distiller.connectors) == ['pkd_adapter']


def test_no_level_in_common():
    config = taught('ssd', 'detr', 'pkd')
    config.architecture.neck.out_channels = config.architecture.neck.out_channels[:2]
    config.architecture = dict(tiny_ssd(), neck=dict(type='FPN', in_channels=[16, 32, 64]))
    config.architecture.neck.update(out_channels=8, num_outs=2, end_level=1)
    with pytest.raises(ValueError, match=r'strides \[8, 16\] and \[32\], of which none are equal'):
        MODELS.build(config)


def test_the_log_says_which(monkeypatch):
    said = []
    monkeypatch.setattr('mmkd.binding.shared_levels.print_log', lambda text, *_: said.append(text))
    MODELS.build(taught('fcos', 'yolox', 'cwd'))
    [text] = said
    assert 'takes the levels of strides 8, 16, 32, which both models have' in text
