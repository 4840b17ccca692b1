"""The teacher's head on the student's maps, against a head of a few lines in loops."""

import math
from dataclasses import replace

import pytest
import torch
from mmrazor.registry import MODELS
from torch import nn

from mmkd.heads import Batch, Predictions, reader
from mmkd.heads.distributions import read_bins
from mmkd.heads.towers import HeadAtWork, TowerRun
from mmkd.losses import CrossHead
from mmkd.losses.cross_head import aligned
from tests.losses.contract import LossCase, apply
from tests.losses.test_prediction_rows import bce, iou
from tests.tiny import raw_batch
from tests.zoo import taught

CLASSES, STRIDES, SIZES = 2, (8, 16), ((2, 3), (1, 2))


class Scaled(nn.Module):
    """Stands for a convolution with its activation."""

    with_activation = True

    def __init__(self, factor):
        super().__init__()
        self.factor, self.activate = factor, nn.ReLU(inplace=True)

    def forward(self, x):
        return self.activate(x * self.factor)


class TwoTowers(nn.Module):
    """Classes and boxes of a cell are the first channels of its two towers."""

    def __init__(self):
        super().__init__()
        self.cls_convs = nn.ModuleList([Scaled(2.0), Scaled(0.5)])
        self.reg_convs = nn.ModuleList([Scaled(1.0), Scaled(3.0)])

    def forward(self, features):
        found = []
        for x in features:
            cls = reg = x
            for conv in self.cls_convs:
                cls = conv(cls)
            for conv in self.reg_convs:
                reg = conv(reg)
            found.append((cls[:, :CLASSES] - 1, reg[:, :4]))
        return found


@reader('tests.TwoTowers')
def read_two_towers(head, outputs, batch):
    scores, boxes, priors = [], [], []
    for (cls, reg), stride in zip(outputs, STRIDES, strict=True):
        height, width = cls.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
        centre = (torch.stack([x, y], -1).view(-1, 2) + 0.5).to(reg) * stride
        sides = reg.flatten(2).transpose(1, 2) * stride + 1
        scores.append(nn.functional.logsigmoid(cls.flatten(2).transpose(1, 2)))
        boxes.append(torch.cat([centre - sides[..., :2], centre + sides[..., 2:]], -1))
        priors.append(torch.cat([centre, torch.full_like(centre, stride)], -1))
    return Predictions(torch.cat(scores, 1), torch.cat(boxes, 1), torch.cat(priors))


def maps(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, *size, generator=generator, dtype=dtype) for size in SIZES]


def run(seed, depth=1, dtype=torch.float32):
    at_work = HeadAtWork(TwoTowers(), Batch(), depth)
    towers = [maps(seed, dtype), maps(seed + 1, dtype)]
    rows = at_work.predictions(towers if depth else towers[:1])
    return TowerRun(towers if depth else [], rows, at_work)


def narrow(inputs):
    return inputs | {
        'preds_S': replace(
            inputs['preds_S'], maps=apply(inputs['preds_S'].maps, lambda m: m[:, 1:])
        )
    }


def features(seed):
    """For the whole head; its priors are left out, since the contract turns all tensors around."""
    taught = run(seed + 100, 0)
    head = replace(taught, rows=replace(taught.rows, priors=None))
    return dict(preds_S=maps(seed), preds_T=maps(seed + 100), head_T=head)


CASE = LossCase(
    build=CrossHead,
    inputs=features,
    empty=None,  # a head always predicts something
    faults=(
        (lambda i: i | {'head_T': None}, 'or head_T where it holds features'),
        (lambda i: i | {'preds_S': run(0)}, r'preds_S must be a \(B, C, H, W\) map or a list'),
        (lambda i: i | {'preds_T': run(1)}, 'as preds_T is, both at a depth above 0'),
        (lambda i: i | {'preds_S': [m[..., :-1] for m in i['preds_S']]}, 'must have the channels'),
        (
            lambda i: (
                {k: [m[..., :-1] for m in i[k]] for k in ('preds_S', 'preds_T')}
                | {'head_T': i['head_T']}
            ),
            'at the places of its own',
        ),
        (lambda i: narrow({'preds_S': run(0), 'preds_T': run(1)}), 'Set in_channels and out_ch'),
    ),
    zero_at_equal=False,  # a run is no feature; see below
    log_keys=('cls', 'box'),
)


def cross_by_loops(S, T, depth, align, box_weight=1.0, num_pos=None):
    """The loss in float64, alignment and the rest of the head spelled out."""
    cls, box, whole = 0.0, 0.0, 0.0
    row = 0
    score_T, boxes_T = T.rows.log_prob.exp(), T.rows.boxes
    factors = ((2.0, 0.5), (1.0, 3.0))
    for level, (stride, (height, width)) in enumerate(zip(STRIDES, SIZES, strict=True)):
        ends = []
        for tower in (0, 1):
            own, other = S[tower][level], T.maps[tower][level]
            end = torch.zeros_like(own)
            for c in range(4):
                s, t = own[:, c].flatten().tolist(), other[:, c].flatten().tolist()
                n, mean_s, mean_t = len(s), sum(s) / len(s), sum(t) / len(t)
                std_s, std_t = (
                    math.sqrt(sum((v - m) ** 2 for v in values) / n)
                    for values, m in ((s, mean_s), (t, mean_t))
                )
                if align:
                    s = [(v - mean_s) / std_s * std_t + mean_t for v in s]
                for factor in factors[tower][depth:]:
                    s = [max(v, 0.0) * factor for v in s]
                end[:, c] = torch.tensor([max(v, 0.0) for v in s]).view_as(own[:, c])
            ends.append(end)
        for i in range(height * width):
            y, x = divmod(i, width)
            for b in range(2):
                taught = score_T[b, row].tolist()
                for c in range(CLASSES):
                    p = 1 / (1 + math.exp(1 - float(ends[0][b, c, y, x])))
                    cls += abs(taught[c] - p) * bce(taught[c], p)
                    whole += taught[c]
                sides = [float(ends[1][b, k, y, x]) * stride + 1 for k in range(4)]
                cx, cy = (x + 0.5) * stride, (y + 0.5) * stride
                own = (cx - sides[0], cy - sides[1], cx + sides[2], cy + sides[3])
                box += max(taught) * (1 - iou(own, boxes_T[b, row].tolist(), generalised=True))
            row += 1
    weight = float(score_T.amax(-1).sum())
    whole, weight = (value if num_pos is None else num_pos for value in (whole, weight))
    return cls / max(whole, 1) + box_weight * box / max(weight, 1)


@pytest.mark.parametrize('align', [True, False])
@pytest.mark.parametrize('depth', [1, 2])
@pytest.mark.parametrize('seed', [0, 1])
def test_equals_the_oracle(seed, depth, align):
    S, T = (run(s, depth, torch.float64) for s in (seed, seed + 50))
    loss = CrossHead(align=align)
    expected = cross_by_loops(S.maps, T, depth, align)
    assert loss(S, T).item() == pytest.approx(expected, rel=1e-5)
    assert sum(loss.logs.values()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('num_pos', [0, 7, torch.tensor(12.0)])
def test_the_positives_of_an_assigner_in_the_divisor(num_pos):
    S, T = (run(s, 1, torch.float64) for s in (0, 50))
    expected = cross_by_loops(S.maps, T, 1, True, 2.0, float(num_pos))
    found = CrossHead(box_weight=2.0)(S, T, num_pos=num_pos)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def sides_by_loops(own, other, scores):
    """Their code's term of GFL: KL at a temperature of 1, a quarter of the sum of the sides."""
    total, whole = 0.0, 0.0
    for b, row in [(b, row) for b in range(own.size(0)) for row in range(own.size(1))]:
        weight = max(scores[b, row].tolist())
        whole += weight
        for side in range(4):
            s, t = own[b, row, side].tolist(), other[b, row, side].tolist()
            log_s, log_t = ([v - math.log(sum(map(math.exp, x))) for v in x] for x in (s, t))
            pairs = zip(log_s, log_t, strict=True)
            total += weight * sum(math.exp(q) * (q - p) for p, q in pairs) / 4
    return total / whole


def test_the_sides_of_gfl_by_their_code():
    """A pair in the reference form, its positives those of the student's own assigner."""
    config = taught('gfl', 'gfl', 'crosskd')
    source = 'mmdet.models.dense_heads.gfl_head.GFLHead.get_targets'
    config.distiller.student_recorders.targets = dict(type='MethodOutputs', source=source)
    loss, mapping = (
        config.distiller[key].crosskd_loss_cross
        for key in ('distill_losses', 'loss_forward_mappings')
    )
    loss.update(box_loss='sides', box_weight=4.0)
    mapping.num_pos = dict(recorder='targets', from_student=True, data_idx=5)
    torch.manual_seed(0)
    pair = MODELS.build(config).train()
    for head in (pair.student.bbox_head, pair.teacher.bbox_head):  # not as unsure as at the start
        torch.nn.init.constant_(head.gfl_cls.bias, 0.0)
    seen = {}
    loss = pair.distiller.distill_losses['crosskd_loss_cross']
    loss.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)
    data = pair.data_preprocessor(raw_batch(), training=True)
    logged = pair.loss(data['inputs'], data['data_samples'])

    teacher, at_work = seen['preds_T'], seen['preds_T'].at_work
    crossed = at_work.outputs(loss._maps(seen['preds_S'], teacher))
    rows, scores = at_work.rows(crossed), teacher.rows.log_prob.exp()
    own, other = (read_bins(pair.teacher.bbox_head, o) for o in (crossed, teacher.outputs))
    expected = 4 * sides_by_loops(own, other, scores)
    assert logged['distill.crosskd_cross_box'].item() == pytest.approx(expected, rel=1e-4)
    p, q = rows.log_prob.exp().flatten().tolist(), scores.flatten().tolist()
    cls = sum(abs(x - y) * bce(y, x) for x, y in zip(p, q, strict=True))
    positives = float(seen['num_pos'])
    assert positives > 2
    assert logged['distill.crosskd_cross_cls'].item() == pytest.approx(cls / positives, rel=1e-4)
    logged['distill.crosskd_loss_cross'].backward()
    tower = pair.student.bbox_head.reg_convs[0].conv.weight.grad
    assert tower.isfinite().all() and tower.any()


def test_sides_need_a_head_that_returns_them():
    with pytest.raises(
        ValueError, match=r"(?s)'sides' needs a teacher.*\(GFL\), but got TwoTowers"
    ):
        CrossHead(box_loss='sides')(run(0), run(1))
    with pytest.raises(ValueError, match="box_loss must be 'giou' or 'sides', but got 'kl'"):
        CrossHead(box_loss='kl')


def test_a_student_with_the_teachers_maps_has_nothing_to_learn():
    T = run(0)
    assert CrossHead()(apply(T, torch.clone), T).item() == pytest.approx(0, abs=1e-5)
    scaled = replace(T, maps=[[3 * m + 7 for m in tower] for tower in T.maps])
    assert CrossHead()(scaled, T).item() == pytest.approx(0, abs=1e-5)
    assert CrossHead(align=False)(scaled, T) > 0.1
    own = maps(3)
    at_work = HeadAtWork(TwoTowers(), Batch())
    whole = TowerRun([], at_work.predictions([own]), at_work)
    assert CrossHead()(own, own, whole).item() == pytest.approx(0, abs=1e-5)


def test_towers_of_other_widths():
    S, T = run(0), run(1)
    S = narrow({'preds_S': S})['preds_S']
    loss = CrossHead(in_channels=3, out_channels=4)
    loss(S, T).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
    with pytest.raises(ValueError, match='must be given together, got 3 and None'):
        CrossHead(in_channels=3)


def test_the_places_must_be_the_same():
    T = run(0)
    moved = replace(T, rows=replace(T.rows, priors=T.rows.priors + 1))
    with pytest.raises(ValueError, match='at the places of its own'):
        CrossHead()(run(1), moved)


def test_a_single_cell():
    one = torch.randn(1, 4, 1, 1, requires_grad=True)
    other = torch.randn(1, 4, 1, 1)
    found = aligned(one, other)
    torch.testing.assert_close(found, other)
    found.sum().backward()
    assert one.grad.isfinite().all()


def test_gradcheck():
    S, T = run(0, dtype=torch.float64), run(1, dtype=torch.float64)

    def by_maps(*levels):
        halves = [list(levels[:2]), list(levels[2:])]
        return CrossHead()(replace(S, maps=halves), T)

    leaves = [m.clone().requires_grad_() for tower in S.maps for m in tower]
    assert torch.autograd.gradcheck(by_maps, leaves)


def test_a_level_that_the_student_lacks_teaches_nothing():
    given = features(1)
    S, there, T = given['preds_S'], given['preds_T'], given['head_T']
    loss = CrossHead(align=False)
    whole = loss([S[0], there[1]], there, T)
    assert loss([S[0]], there, T) == whole > 0
    assert loss([S[1]], there, T) == loss([there[0], S[1]], there, T)
    with pytest.raises(ValueError, match='channels and sizes'):
        loss([S[0][:, :1]], there, T)
