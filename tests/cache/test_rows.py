"""A cache of predictions: of priors, of proposals, and in the place of a teacher."""

import copy
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmkd.cache import fill_cache
from mmkd.cache.record import RecordLayout
from mmkd.cache.rows import MOST, Rows, row_tree
from mmkd.heads import Predictions
from tests.cache.conftest import config_of
from tests.cache.test_cache import batches, build, train
from tests.heads.models import small
from tests.tiny import tiny_ssd
from tests.zoo import small as small_of_zoo
from tests.zoo import taught


def boxes(*shape):
    corners = torch.rand(*shape, 2, 2) * 300 - 20
    return torch.cat([corners.amin(-2), corners.amax(-2)], -1)


def assert_like(found, rows, index=slice(None)):
    """To what a byte holds of a score, and a box of its distance from its prior."""
    prob, own = rows.log_prob.exp()[:, index], found.log_prob.exp()
    assert (own - prob).abs().max() < 0.011
    sure = prob > 0.5
    assert not sure.any() or ((own - prob)[sure] / prob[sure]).abs().max() < 0.02
    torch.testing.assert_close(found.boxes, rows.boxes[:, index], rtol=2e-3, atol=0.2)


@given(
    levels=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3),
    classes=st.integers(1, 4),
    quality=st.booleans(),
    valid=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_rows_of_priors_come_back_in_their_order(levels, classes, quality, valid):
    priors = torch.tensor(
        [
            (s * (x + 0.5), s * (y + 0.5), s, s)
            for s, (h, w) in zip((8.0, 16.0, 32.0), levels, strict=False)
            for y in range(h)
            for x in range(w)
        ]
    )
    shape = (2, len(priors))
    rows = Predictions(
        torch.rand(*shape, classes).log(),
        boxes(*shape),
        priors,
        torch.rand(*shape, 1).log() if quality else None,
        torch.rand(*shape) < 0.5 if valid else None,
    )
    tree = json.loads(json.dumps(row_tree(rows)))
    assert tree == row_tree(rows)
    codec = Rows([tree])
    data = codec.encode([rows])
    assert data.shape == (2, codec.nbytes) and data.dtype == torch.uint8
    [run] = codec.decode(data)
    found = run.read()
    assert torch.equal(found.priors, priors)
    assert (found.quality is None) != quality and (found.valid is None) != valid
    if valid:
        assert torch.equal(found.valid, rows.valid)
    assert_like(found, rows)


@pytest.mark.parametrize('count', [0, 7, MOST + 50])
@pytest.mark.parametrize('by_class', [False, True])
def test_the_surest_proposals_come_back(count, by_class):
    """As many as each image has; views of other numbers have records of one size."""
    score = torch.rand(2, count, 3)
    valid = torch.rand(2, count) < 0.9
    rows = Predictions(
        score.log(), boxes(2, count), None, None, valid, boxes(2, count, 3) if by_class else None
    )
    codec = Rows([row_tree(rows)])
    [run] = codec.decode(codec.encode([rows]))
    found = run.read()
    assert found.log_prob.shape == (2, MOST, 3) and found.boxes.shape == (2, MOST, 4)
    for i in range(2):
        kept = found.valid[i]
        best = score[i].amax(-1).masked_fill(~valid[i], -1).argsort(descending=True)[: kept.sum()]
        assert kept.sum() == min(valid[i].sum(), MOST)
        assert torch.equal(found.boxes[i][kept], rows.boxes[i][best])  # to the bit
        if by_class:
            torch.testing.assert_close(
                found.class_boxes[i][kept], rows.class_boxes[i][best], rtol=2e-3, atol=0.2
            )
    assert (found.class_boxes is None) != by_class


def test_queries_keep_their_order():
    rows = Predictions(torch.rand(2, 400, 2).log(), boxes(2, 400))
    codec = Rows([row_tree(rows), row_tree(rows)])
    first, second = codec.decode(codec.encode([rows, rows]))
    for run in (first, second):
        assert torch.equal(run.read().boxes, rows.boxes) and run.read().valid is None
        assert_like(run.read(), rows)


def rows_config(config, root, teacher, **recorder):
    cfg = config()
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(teacher))  # a DETR writes into its config
    model.init_weights()
    torch.save(model.state_dict(), f'{root}/rows.pth')
    tap = dict(type='Predictions', **recorder)
    del cfg.model['teacher']  # or the two would be merged
    cfg.model.update(teacher=teacher, teacher_ckpt=f'{root}/rows.pth', student_loss_weights=None)
    cfg.model['distiller'] = dict(
        type='ConfigurableDistiller',
        student_recorders=dict(rows=dict(type='Predictions')),
        teacher_recorders=dict(rows=tap),
        distill_losses=dict(loss_rows=dict(type='PredictionRows')),
        loss_forward_mappings=dict(
            loss_rows=dict(
                preds_S=dict(from_student=True, recorder='rows'),
                preds_T=dict(from_student=False, recorder='rows')
                | (dict(data_idx=-1) if recorder else {}),
            )
        ),
    )
    return cfg


@pytest.mark.parametrize(
    ('name', 'recorder'),
    [
        ('ssd', {}),
        ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', {}),
        ('detr/detr_r50_8xb2-150e_coco', dict(layers='all')),
    ],
)
def test_cached_predictions_teach_as_the_live_teacher(config, root, tmp_path, name, recorder):
    teacher = tiny_ssd(width=16, std=1.0) if name == 'ssd' else small(name)
    folder = f'{tmp_path}/cache'
    cfg = rows_config(config, root, teacher, **recorder)
    fill_cache(cfg, folder, views=1, batch_size=2)
    [field] = json.loads(Path(folder, 'cache.json').read_text())['fields']
    assert (field['codec'], field['tap']) == ('rows', 'PredictionsRecorder')
    live = build(cfg)
    cfg.model.teacher_cache = folder
    cached = build(cfg)
    held = cached.distiller.teacher_recorders.get_recorder('rows')
    assert held._model is None  # of the teacher's weights nothing is kept in memory
    data = batches(root, folder, 2)
    for of_live, of_cached in zip(train(live, data), train(cached, data), strict=True):
        assert of_live['distill.loss_rows'] > 0
        for key, value in of_live.items():
            torch.testing.assert_close(of_cached[key], value, rtol=2e-2, atol=1e-3, msg=key)


def test_predictions_have_one_codec(config, root, tmp_path):
    cfg = rows_config(config, root, tiny_ssd(width=16, std=1.0))
    cfg.model.teacher_cache = dict(folder=f'{tmp_path}/cache', codecs=dict(rows='dense16'))
    with pytest.raises(ValueError, match=r"codecs\['rows'\] must be 'rows'.*Drop it"):
        fill_cache(cfg, f'{tmp_path}/cache', views=1)


def test_items_from_either_end_of_a_record(config):
    """As ``data_idx`` counts them: the first and the last are two, whatever lies between."""
    fields = [
        dict(recorder='head', record_idx=0, data_idx=i, codec='dense32', tree={'shape': [2]})
        for i in (0, -1, 1)
    ]
    recorders = build(config()).distiller.teacher_recorders
    buffer = recorders.get_recorder('head').data_buffer
    buffer.append([torch.full((1, 2), float(i)) for i in range(5)])
    layout = RecordLayout(fields)
    data = layout.encode(recorders, None)
    buffer.clear()
    layout.decode(data, recorders)
    assert [int(buffer[0][i][0, 0]) for i in (0, -1, 1)] == [0, 4, 1]


@pytest.mark.parametrize('name', ['score_imitation', 'ld'])
def test_scores_and_distributions_are_cached(name, root, tmp_path, mmdet_scope):
    """Records that are made of a head's rows come from the cache as from the running teacher."""
    torch.manual_seed(3)
    teacher = MODELS.build(small_of_zoo('gfl'))
    teacher.init_weights()
    torch.save(teacher.state_dict(), tmp_path / 'gfl.pth')
    model = taught('gfl', 'gfl', name, teacher_ckpt=str(tmp_path / 'gfl.pth'))
    if name == 'ld':
        model.distiller.distill_losses.ld_loss_sides.score_thr = 0.0
    cfg = config_of(root)
    cfg.model = model
    folder = f'{tmp_path}/cache'
    fill_cache(cfg, folder, views=1, batch_size=2)
    found = []
    for cache in (None, folder):
        cfg.model.teacher_cache = cache
        found.append(train(build(cfg), batches(root, folder, 1))[0])
    for key in (key for key in found[0] if key.startswith(f'distill.{name}')):
        torch.testing.assert_close(found[1][key], found[0][key], rtol=1e-2, atol=1e-6)
        assert found[0][key] > 0
