"""What rows learn of several teachers, against plain loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd.heads.fusion import JoinedRows
from mmkd.losses.functional.row_targets import RowTargets, joined_targets
from tests.losses.test_prediction_rows import rows


@given(st.integers(0, 99), st.lists(st.floats(0.1, 3), min_size=1, max_size=3), st.booleans())
def test_means_over_the_teachers_that_know_a_class(seed, weights, all_known):
    draw = torch.Generator().manual_seed(seed)
    taught = [
        None if all_known else [bool(v) for v in torch.rand(3, generator=draw) > 0.4]
        for _ in weights
    ]
    each = [
        RowTargets(
            torch.rand(2, 4, 3, generator=draw),
            torch.randint(4, (2, 2 + i), generator=draw),
            torch.rand(2, 2 + i, 4, generator=draw),
            torch.rand(2, 2 + i, generator=draw),
        )
        for i in range(len(weights))
    ]
    shares = JoinedRows([rows(0)] * len(weights), weights, taught).shares()
    found = joined_targets(each, shares, weights)
    for b in range(2):
        for p in range(4):
            for c in range(3):
                total = whole = 0.0
                for targets, weight, known in zip(each, weights, taught, strict=True):
                    if known is None or known[c]:
                        total += weight * float(targets.classes[b, p, c])
                        whole += weight
                expected = total / whole if whole else 0.0
                assert float(found.classes[b, p, c]) == pytest.approx(expected, abs=1e-6)
        place = 0
        for targets, weight in zip(each, weights, strict=True):
            for n in range(targets.rows.size(1)):
                assert found.rows[b, place] == targets.rows[b, n]
                assert torch.equal(found.boxes[b, place], targets.boxes[b, n])
                part = weight / sum(weights) * float(targets.weights[b, n])
                assert float(found.weights[b, place]) == pytest.approx(part, abs=1e-6)
                place += 1
        assert place == found.rows.size(1)
