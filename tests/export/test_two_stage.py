"""Two-stage detectors as graphs: proposals, RoIAlign and a box for each class in the file."""

import json
import os

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.dense_heads import GARPNHead, RPNHead
from mmdet.models.roi_heads import HybridTaskCascadeRoIHead, SparseRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import DIIHead, Shared2FCBBoxHead
from mmdet.models.roi_heads.roi_extractors import BaseRoIExtractor, SingleRoIExtractor
from torch import nn

from mmkd.export import rows_graph
from mmkd.export.bucket_ties import tied_proposals
from mmkd.export.not_exportable import NotExportableError
from mmkd.export.onnx_file import graph_bytes
from mmkd.export.parity import row_errors
from mmkd.export.proposal_errors import proposal_errors
from mmkd.export.reference import Reference, Rows
from mmkd.export.rows_graph import RowsGraph, exported_head
from mmkd.heads.roi import RoICall
from mmkd_cli.main import main
from tests.export.conftest import save, truth_by
from tests.export.roi_kinds import KINDS, built, faster, spread_out

SIZE = (64, 96)
UINT8 = dict(preprocessing=dict(input='uint8'))


def images(count: int = 3):
    return np.random.default_rng(1).integers(0, 256, (count, 3, *SIZE), dtype=np.uint8)


def run(content: bytes):
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    return session.run(None, {'image': images()})


#: Export takes a second or two of each; a thorough run tries all.
OPSETS = dict(cascade=16, grid=17, sparse=18, branches=18)
if os.environ.get('HYPOTHESIS_PROFILE') == 'thorough':
    OPSETS = dict.fromkeys(KINDS, 18) | OPSETS


@pytest.mark.parametrize(('kind', 'opset'), OPSETS.items())
def test_the_rows_are_those_of_the_live_detector(kind, opset):
    """Of a batch of another size than the graph was made with."""
    model = built(kind)
    content = graph_bytes(RowsGraph(model, SIZE).eval(), UINT8, opset)
    own, outputs = Reference(model, 'mmdet', SIZE).rows(images()), run(content)
    errors = row_errors(own, outputs, SIZE)
    assert own.scores.shape[1] > 15 and own.scores.std() > 1e-3
    assert errors['score'] <= 1e-4 and errors['box_of_tolerance'] <= 1, errors
    ops = [node.op_type for node in onnx.load_from_string(content).graph.node]
    assert ops.count('NonMaxSuppression') == dict(sparse=0, grid=2, branches=2).get(kind, 1)
    assert 'RoiAlign' in ops


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_pytorch_runs_the_graph_as_well(kind):
    """As the latency of a benchmark is measured."""
    model = built(kind)
    with torch.no_grad():
        outputs = RowsGraph(model, SIZE).eval()(torch.from_numpy(images()))
    own = Reference(model, 'mmdet', SIZE).rows(images())
    errors = row_errors(own, [output.numpy() for output in outputs], SIZE)
    assert errors['score'] <= 1e-5 and errors['box_of_tolerance'] <= 0.1
    assert not errors.get('left_out') and own.scores.std() > 1e-3


def test_a_detector_without_proposals_has_no_rows():
    model = built('faster')
    model.rpn_head.test_cfg['min_bbox_size'] = 1000
    graph = RowsGraph(model, SIZE).eval()
    boxes, scores = run(graph_bytes(graph, UINT8))
    assert boxes.shape == (3, 300, 4) and not scores.any()
    own = Reference(model, 'mmdet', SIZE).rows(images())
    assert own.boxes.shape == (3, 0, 4)
    assert row_errors(own, [boxes, scores], SIZE)['box_of_tolerance'] == 0


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    """A checkpoint whose own detections are the ground truth of its validation set."""
    from mmkd import load

    model = faster().to_dict()
    model['test_cfg']['rcnn'].update(score_thr=0.4, max_per_img=20)
    path = save(model, tmp_path_factory.mktemp('two_stage'), 'ratio', 'mmdet', spread_out)
    truth_by(load(path, device='cpu'), path.parent)
    return path


@pytest.mark.parametrize('nms', [False, True])
def test_the_command_proves_the_file(student, tmp_path, monkeypatch, nms):
    from mmkd_onnx import load

    monkeypatch.chdir(tmp_path)
    words = ['--format', 'onnx', '--out', 's.onnx', *['--nms'] * nms]
    assert main(['export', str(student), *words]) == 0
    report = json.loads((tmp_path / 's.parity.json').read_text())
    assert [step['passed'] for step in report['steps']] == [True, True, True]
    assert report['steps'][1]['figures']['detections'] > 10
    assert report['steps'][2]['figures']['file'] > 50
    assert len(load('s.onnx')(student.parent / 'images/0.png')) > 0


def test_swapped_channels_are_caught(student, tmp_path, monkeypatch):
    own = rows_graph.RowsGraph._normalised
    monkeypatch.setattr(
        rows_graph.RowsGraph, '_normalised', lambda self, image: own(self, image.flip(1))
    )
    monkeypatch.chdir(tmp_path)
    words = ['--format', 'onnx', '--out', 's.onnx', '--map-images', '0']
    assert main(['export', str(student), *words]) == 1


def test_another_exporter_is_refused():
    graph = RowsGraph(built('faster'), SIZE).eval()
    with pytest.raises(NotExportableError, match='by --exporter torchscript, which writes its NMS'):
        graph_bytes(graph, UINT8, exporter='dynamo')


def changed(**parts):
    """A Faster R-CNN with other parts, which were not built."""
    model = built('faster')
    for place, kind in parts.items():
        part = kind.__new__(kind)
        nn.Module.__init__(part)
        owner = model if place in ('roi_head', 'rpn_head') else model.roi_head
        setattr(owner, place, part)
    return model


class Cutter(BaseRoIExtractor):
    def forward(self, feats, rois, roi_scale_factor=None):
        return feats[0]


class Other(HybridTaskCascadeRoIHead):
    def predict_bbox(self, *args, **kwargs):
        return []


@pytest.mark.parametrize(
    ('parts', 'match'),
    [
        (dict(rpn_head=GARPNHead), 'StandardRoIHead gets those of GARPNHead'),
        (dict(roi_head=Other), 'Other chooses its boxes in a way of its own'),
        (dict(roi_head=SparseRoIHead), 'of an EmbeddingRPNHead, but SparseRoIHead gets those'),
        (dict(bbox_head=DIIHead), 'read as BBoxHead or SABLHead, but has DIIHead'),
        (dict(bbox_head=nn.Linear), 'read as BBoxHead or SABLHead, but has Linear'),
        (dict(bbox_roi_extractor=Cutter), 'GenericRoIExtractor cuts out .* but has Cutter'),
    ],
)
def test_what_has_no_form_is_refused_by_name(parts, match):
    with pytest.raises(NotExportableError, match=match):
        exported_head(changed(**parts))


def test_what_a_setting_changes_is_refused_too():
    model = built('faster')
    model.roi_head.bbox_roi_extractor.roi_layers[0].pool_mode = 'max'
    with pytest.raises(
        NotExportableError, match=r'averaged, but has SingleRoIExtractor with .*max'
    ):
        exported_head(model)
    model = built('faster')
    model.rpn_head.test_cfg['nms']['type'] = 'soft_nms'
    with pytest.raises(NotExportableError, match='its rpn has type=soft_nms'):
        exported_head(model)
    model = built('grid')
    model.roi_head.test_cfg['nms']['type'] = 'soft_nms'
    with pytest.raises(NotExportableError, match=r'boxes that .* its rcnn has type=soft_nms'):
        exported_head(model)
    model = built('trident')
    model.roi_head.test_branch_idx = -1
    with pytest.raises(NotExportableError, match=r'as many branches in its backbone .* ResNet has'):
        exported_head(model)


def test_a_subclass_that_changes_nothing_of_it_is_no_other_head():
    class Own(StandardRoIHead):
        def extra(self):
            return 1

    model = built('faster')
    model.roi_head.__class__ = Own
    assert exported_head(model) is model.roi_head
    assert isinstance(model.rpn_head, RPNHead)
    assert isinstance(model.roi_head.bbox_head, Shared2FCBBoxHead)
    assert isinstance(model.roi_head.bbox_roi_extractor, SingleRoIExtractor)


def rows(count: int, classes: int = 2, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (1, count * classes, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 30, corner.shape)], axis=2)
    return Rows(
        boxes, rng.uniform(0.1, 1, (1, count * classes, classes)), np.zeros((1, 1)), classes
    )


def errors(own: Rows, boxes, scores) -> dict[str, float]:
    return proposal_errors(own, [boxes, scores], 96, 1e-4, 1e-3)


@settings(max_examples=20)
@given(count=st.integers(1, 30), seed=st.integers(0, 99), filling=st.integers(0, 3))
def test_the_order_of_proposals_does_not_count(count, seed, filling):
    own = rows(count, seed=seed)
    order = np.random.default_rng(seed).permutation(count)
    places = (order[:, None] * 2 + np.arange(2)).ravel()
    empty = np.zeros((1, 2 * filling, 1))
    boxes = np.concatenate([own.boxes[:, places], empty.repeat(4, 2)], axis=1)
    scores = np.concatenate([own.scores[:, places], empty.repeat(2, 2)], axis=1)
    assert set(errors(own, boxes, scores).values()) == {0.0}
    moved = boxes.copy()
    moved[0, 0, 1] += 0.5
    found = errors(own, moved, scores)
    assert found['box_px'] == pytest.approx(0.5) and found['box_of_tolerance'] > 1


def test_rows_whose_buckets_are_tied_may_differ():
    tied = np.zeros((1, 200), bool)
    tied[0, [3, 50, 70, 90]] = True
    own = rows(100)._replace(proposal=0, tied=tied)  # 200 rows
    other = own.scores.copy()
    other[0, [3, 50, 70], 0] += 0.03
    found = row_errors(own, [own.boxes, other], SIZE)
    assert found['left_out'] == 3 and found['score'] == 0
    other[0, 60, 0] += 0.02
    found = row_errors(own, [own.boxes, other], SIZE)
    assert found['left_out'] == 3 and found['score'] == pytest.approx(0.02)
    without = own._replace(tied=None)
    assert row_errors(without, [own.boxes, other], SIZE)['score'] == pytest.approx(0.03)


def test_proposals_whose_buckets_are_tied_may_differ():
    """Any number of them, besides the one in a hundred that others may be."""
    tied = np.zeros((1, 40), bool)
    tied[0, [1, 4, 30]] = True
    own, other = rows(40)._replace(tied=tied), rows(40)
    moved = other.boxes.reshape(1, 40, 2, 4)
    moved[0, [1, 4, 30]] += 9
    found = errors(own, moved.reshape(1, 80, 4), other.scores)
    assert found['left_out'] == 3 and found['box_px'] == 0
    moved[0, 8] += 2
    found = errors(own, moved.reshape(1, 80, 4), other.scores)
    assert found['left_out'] == 3 and found['box_px'] == pytest.approx(2)


def test_a_box_without_width_is_undecided():
    """All buckets of it see the same; in others they do not."""
    model = built('sabl')
    for parameter in model.roi_head.parameters():
        if parameter.dim() > 1:  # with which buckets score apart
            nn.init.normal_(parameter, 0, 1.5 / parameter[0].numel() ** 0.5)
    head = model.roi_head
    features = [torch.randn(1, 16, SIZE[0] // s, SIZE[1] // s) for s in (4, 8, 16, 32)]
    rois = torch.tensor([[0.0, 0, 10, 0, 40], [0, 5, 10, 60, 50]])
    calls = [RoICall(i, features, rois, {}, _forward(head, i, features, rois)) for i in (0, 1)]
    assert tied_proposals(head, calls, [{}]).tolist() == [[True, False]]
    assert tied_proposals(built('faster').roi_head, calls, [{}]) is None


@torch.no_grad()
def _forward(head, stage, features, rois):
    found = head._bbox_forward(stage, features, rois)
    return found['cls_score'], found['bbox_pred']


def test_one_proposal_in_a_hundred_may_be_another():
    own, other = rows(200), rows(200)
    other.boxes[0, [0, 6]] += 7
    found = errors(own, other.boxes, other.scores)
    assert found['left_out'] == 2 and found['box_of_tolerance'] == 0
    other.boxes[0, 12] += 7
    found = errors(own, other.boxes, other.scores)
    assert found['left_out'] == 0 and found['box_px'] == pytest.approx(7)
    assert errors(own, own.boxes[:, :396], own.scores[:, :396])['left_out'] == 2
    assert errors(own, own.boxes[:, :394], own.scores[:, :394])['box_of_tolerance'] == np.inf
    broken = own.scores.copy()
    broken[0, 3, 0] = np.nan
    assert errors(own, own.boxes, broken)['score'] == np.inf
