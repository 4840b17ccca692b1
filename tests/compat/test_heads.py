"""mmdet's heads may have methods of their own."""

import inspect
from unittest import mock

import pytest
from mmdet.models.dense_heads import AnchorHead, FCOSHead, RetinaHead, RTMDetHead, SSDHead

from mmkd.compat.heads import OWN_METHODS
from tests.targets.batches import MAPS, ground_truth
from tests.targets.test_anchor_heads import MANY, RETINA
from tests.targets.test_batch_targets import build

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def test_mmdet_still_finds_targets_image_by_image():
    """Else the patch is no longer needed."""
    head = build(RETINA)
    truth, metas, ignored = ground_truth(MANY)
    with mock.patch.object(head.assigner, 'assign', wraps=head.assigner.assign) as assign:
        head.get_targets(*head.get_anchors(MAPS, metas, 'cpu'), truth, metas, ignored)
    assert assign.call_count == len(truth) == 2
    for method in (SSDHead.loss_by_feat, FCOSHead.get_targets, RTMDetHead.get_targets):
        assert 'multi_apply' in inspect.getsource(inspect.unwrap(method))


def test_a_heads_own_method_is_asked_first_and_may_decline():
    head, other = build(RETINA), build(RETINA)
    setattr(head, OWN_METHODS, dict(get_anchors=lambda self, sizes: (self, sizes)))
    assert head.get_anchors('sizes') == (head, 'sizes')
    with pytest.raises(TypeError):
        other.get_anchors('sizes')
    setattr(head, OWN_METHODS, dict(get_anchors=lambda *args, **kwargs: NotImplemented))
    metas = ground_truth(MANY)[1]
    assert len(head.get_anchors(MAPS, metas, 'cpu')[0]) == 2


def test_the_class_is_asked_as_before():
    """What else is wrapped around a method stays around it."""
    head = build(RETINA)
    setattr(head, OWN_METHODS, dict(get_anchors=lambda self: 'own'))
    with mock.patch.object(AnchorHead, 'get_anchors', return_value='outer'):
        assert RetinaHead.get_anchors(head) == 'outer'
