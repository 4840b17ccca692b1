"""Suppression in the graph finds what ``mmkd_onnx`` chooses, whatever the rules are."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mmkd.export.onnx_nms import append_nms
from mmkd_onnx.detections import choose

SIZE, MAP = (40, 60), (4, 6)
ROWS, CLASSES = MAP[0] * MAP[1], 3


def given_rows(rows: dict[str, np.ndarray], opset: int) -> onnx.ModelProto:
    """A model that gives these rows for any images."""
    image = helper.make_tensor_value_info('image', TensorProto.UINT8, ['batch', 3, *SIZE])
    nodes, outputs, held = [], [], []
    for name, values in rows.items():
        held.append(numpy_helper.from_array(values, f'own_{name}'))
        nodes.append(helper.make_node('Identity', [f'own_{name}'], [name]))
        sides = ['batch', *values.shape[1:]]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sides))
    graph = helper.make_graph(nodes, 'rows', [image], outputs, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=8)


def found_by(model: onnx.ModelProto, rules: dict) -> np.ndarray:
    content = append_nms(model, rules).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    batch = np.zeros((2, 3, *SIZE), np.uint8)
    [detections] = session.run(None, {'image': batch})
    return detections


rare = st.sampled_from(
    [
        {},
        dict(factor=0.0),
        dict(factor=0.4, after=0.2),
        dict(border=1),
        dict(peaks=dict(kernel=3, size=MAP)),
    ]
)


@given(
    seed=st.integers(0, 2**16),
    opset=st.sampled_from([16, 18, 21]),
    score=st.sampled_from([0.0, 1e-5, 0.3]),
    iou=st.sampled_from([None, 0.2]),
    most=st.sampled_from([4, 200]),
    before=st.sampled_from([None, 5]),
    flags=st.tuples(*[st.booleans()] * 4),
    own=rare,
    ties=st.booleans(),
)
def test_the_graph_finds_the_same(seed, opset, score, iou, most, before, flags, own, ties):
    several, agnostic, early, no_lines = flags
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-10, 50, (2, ROWS, 2))
    boxes = np.concatenate([corner, corner + rng.choice([0, 4, 20], corner.shape)], axis=2)
    factors = rng.uniform(0.01, 1, (2, ROWS, 1)).astype(np.float32)
    rows = dict(
        boxes=boxes.astype(np.float32),
        scores=rng.uniform(0, 1, (2, ROWS, CLASSES)).astype(np.float32),
    )
    if ties and 'factor' not in own:  # scores that saturate, as in float16
        rows['scores'] = np.ceil(4 * rows['scores'] - 1) / np.float32(4)
    if 'factor' in own:
        rows.update(scores=rows['scores'] * factors, factors=factors)
    rules = dict(
        score=score,
        iou=iou,
        max_per_image=most,
        before_nms=before,
        levels=[ROWS - 4, 4],
        multi_label=several,
        class_agnostic=agnostic,
        clip_first=early,
        min_side=0.0 if no_lines else -1.0,
        **own,
    )
    detections = found_by(given_rows(rows, opset), rules)
    assert detections.shape[0] == 2 and detections.shape[2] == 6
    for i, found in enumerate(detections):
        there = found[found[:, 5] >= 0]
        parts = [part[i] for part in rows.values()]
        chosen = choose(*parts[:2], rules, SIZE, *parts[2:])
        assert np.allclose(there[:, :4], chosen[0], atol=1e-4)
        assert np.allclose(there[:, 4], chosen[1]) and (there[:, 5] == chosen[2]).all()


@pytest.mark.parametrize(
    ('rule', 'match'),
    [
        (dict(voting=True), 'this one moves boxes by a vote'),
        (dict(instances=2), 'this one spares boxes of one proposal'),
        (dict(offset=1), r'sides that are longer by offset=1 pixel of the image'),
        (dict(min_side=3.0), r'sides up to min_bbox_size=3 in pixels of the image'),
        (dict(fast_nms=9), r'by what is suppressed itself, too\. Export it without --nms'),
    ],
)
def test_what_onnx_has_no_operator_for_is_refused(rule, match):
    with pytest.raises(ValueError, match=match):
        append_nms(onnx.ModelProto(), rule)
