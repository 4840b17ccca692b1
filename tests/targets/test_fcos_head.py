"""FCOS: targets and gradients as in mmdet, whatever is in the batch."""

from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmkd.targets import ground_truth as blocks
from tests.targets.batches import (
    CLASSES,
    MAPS,
    STRIDES,
    batches,
    both,
    equal,
    ground_truth,
    outputs,
    same_losses,
)
from tests.targets.test_anchor_heads import MANY, NONE

FCOS = dict(
    type='FCOSHead',
    num_classes=CLASSES,
    in_channels=8,
    feat_channels=8,
    stacked_convs=1,
    strides=STRIDES,
    regress_ranges=((-1, 16), (16, 32), (32, 1e8)),
    norm_cfg=None,
)
# A box of more pixels than the area that mmdet takes for infinite, beside an image with more boxes.
HUGE = dict(MANY, images=[([('huge', 1)], [], False), ([('any', 3)], [], False)], seed=1)


@settings(max_examples=25, deadline=None)
@given(
    batch=batches,
    options=st.builds(
        dict,
        center_sampling=st.booleans(),
        center_sample_radius=st.sampled_from([1.5, 0.3]),
        norm_on_bbox=st.booleans(),
    ),
    pairs=st.sampled_from([1, 2**22]),
)
@example(batch=MANY, options={}, pairs=2**22)
@example(batch=NONE, options=dict(norm_on_bbox=True), pairs=2**22)
@example(batch=HUGE, options={}, pairs=2**22)
def test_as_in_mmdet(batch, options, pairs):
    head, batched = both({**FCOS, **options}, {})
    truth, metas, ignored = ground_truth(batch)
    points = head.prior_generator.grid_priors(MAPS, device='cpu')
    with mock.patch.dict(blocks._PAIRS, cpu=pairs):
        equal(batched.get_targets(points, truth), head.get_targets(points, truth))
        maps = outputs(batch, [CLASSES] * 3, [4] * 3, [1] * 3)
        same_losses(head, batched, maps, truth, metas, ignored)
