import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.losses import ObjScaledBoxCls
from tests.losses.contract import LossCase, shape_faults

NUM_CLASSES = 3
ANCHORS = 2
SIZES = ((3, 2), (1, 2))  # H, W of each level
YOLO = {
    'type': 'YOLOAnchorGenerator',
    'base_sizes': [[(10, 13), (16, 30)], [(30, 61), (62, 45)]],
    'strides': [8, 16],
}
POINTS = {'type': 'MlvlPointGenerator', 'strides': [8, 16], 'offset': 0}


def preds(seed, classes=NUM_CLASSES, anchors=ANCHORS, dtype=torch.float32, scale=2.0):
    generator = torch.Generator().manual_seed(seed)

    def maps(width):
        return [
            scale * torch.randn(2, anchors * width, *size, generator=generator, dtype=dtype)
            for size in SIZES
        ]

    return maps(classes), maps(4), maps(1)


def inputs(seed, **kwargs):
    return {'preds_S': preds(seed, **kwargs), 'preds_T': preds(seed + 100, **kwargs)}


def build(**overrides):
    return ObjScaledBoxCls(**{'num_classes': NUM_CLASSES, **overrides})


def other_classes(inputs):
    return {'preds_S': preds(0, classes=4), 'preds_T': preds(1, classes=4)}


def no_objectness_in_teacher(inputs):
    return inputs | {'preds_T': inputs['preds_T'][:2]}


def objectness_of_one_level(inputs):
    return {key: (*maps[:2], maps[2][:1]) for key, maps in inputs.items()}


def one_kind(inputs):
    return inputs | {'preds_T': inputs['preds_T'][:1]}


CASE = LossCase(
    build=build,
    inputs=inputs,
    empty=None,  # objectness is a matter of degree
    zero_at_equal=False,  # the corrected form is a cross-entropy: lowest at equality, not 0
    log_keys=('box', 'cls', 'obj', 'objectness'),
    faults=(
        *shape_faults('must agree in classes, anchors and strides|must have the same', 'must be'),
        (other_classes, r'needs A \* 3 class, A \* 4 box and A objectness channels'),
        (no_objectness_in_teacher, 'must both have objectness or both lack it'),
        (objectness_of_one_level, 'must have the same levels'),
        (one_kind, r'must be \(cls_scores, bbox_preds, objectnesses\)'),
    ),
)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def bce(x, y):
    return -y * math.log(sigmoid(x)) - (1 - y) * math.log(1 - sigmoid(x))


def softmax(row):
    exps = [math.exp(v) for v in row]
    return [e / sum(exps) for e in exps]


def priors(predictions, classes=NUM_CLASSES):
    """(level, class logits, box, objectness) of each prior, by loops; anchor-major channels."""
    found = []
    for level, (cls, box) in enumerate(zip(*predictions[:2], strict=True)):
        batch, channels, height, width = box.shape
        for i in range(batch):
            for a in range(channels // 4):
                for y in range(height):
                    for x in range(width):
                        c = cls[i, a * classes : (a + 1) * classes, y, x].tolist()
                        b = box[i, a * 4 : a * 4 + 4, y, x].tolist()
                        has = len(predictions) == 3
                        o = predictions[2][level][i, a, y, x].item() if has else max(c)
                        found.append((level, c, b, o))
    return found


def class_distance(kind, s, t, tau, reference):
    if kind == 'l2':
        return sum((p - q) ** 2 for p, q in zip(s, t, strict=True))
    if kind == 'kl':
        prob_S, prob_T = softmax([v / tau for v in s]), softmax([v / tau for v in t])
        return tau**2 * sum(q * math.log(q / p) for p, q in zip(prob_S, prob_T, strict=True))
    if reference:
        return sum(bce(p, q) for p, q in zip(s, t, strict=True))
    return tau**2 * sum(bce(p / tau, sigmoid(q / tau)) for p, q in zip(s, t, strict=True))


def box_distance(kind, s, t, norm):
    if kind == 'l2' and norm is None:
        return sum((p - q) ** 2 for p, q in zip(s, t, strict=True))
    scales = [1, 1, norm, norm] if norm is not None else [1] * 4
    return sum((sigmoid(p) - sigmoid(q) * k) ** 2 for p, q, k in zip(s, t, scales, strict=True))


def oracle(preds_S, preds_T, cls_loss, box_loss, tau, reference, norms=None, v=None, scale=False):
    """(box, cls, obj) of section 1 in plain loops."""
    levels = len(SIZES)
    student, teacher = priors(preds_S), priors(preds_T)
    box, cls, obj, scaled, weights, count = ([0.0] * levels for _ in range(6))
    for (level, c_S, b_S, o_S), (_, c_T, b_T, o_T) in zip(student, teacher, strict=True):
        w = sigmoid(o_T)
        norm = norms[level] if norms else None
        box[level] += w * box_distance(box_loss, b_S, b_T, norm)
        cls[level] += w * class_distance(cls_loss, c_S, c_T, tau, reference)
        obj[level] += w * (o_S - o_T) ** 2 if reference else bce(o_S, w)
        scaled[level] += w * bce(o_S, w)
        weights[level] += w
        count[level] += 1
    v = v or [1.0] * levels
    each = range(levels)
    if reference:
        return (
            sum(box[i] / (4 * count[i]) for i in each),
            sum(cls[i] / (NUM_CLASSES * count[i]) for i in each),
            sum(v[i] * obj[i] / count[i] for i in each),
        )
    total = sum(weights)
    mean = sum(v[i] * obj[i] / count[i] for i in each)
    return (
        sum(box) / total,
        sum(cls) / total,
        (sum(v[i] * scaled[i] / total for i in each) if scale else mean),
    )


def terms(loss, data):
    """(box, cls, obj), each by itself."""
    for part in ('box_weight', 'cls_weight', 'obj_weight'):
        setattr(loss, part, 1.0)
    value = loss(**data)
    found = [loss.logs[name] for name in ('box', 'cls', 'obj')]
    assert value.item() == pytest.approx(sum(found).item(), rel=1e-12)
    return [term.item() for term in found]


@pytest.mark.parametrize('cls_loss', ['bce', 'l2', 'kl'])
@pytest.mark.parametrize(('box_loss', 'norms'), [('l2', None), ('l2', [0.7, 1.4])])
@given(seed=st.integers(0, 10**6), tau=st.floats(0.5, 20))
@settings(max_examples=8, deadline=None)
def test_reference_form(cls_loss, box_loss, norms, seed, tau):
    data = inputs(seed, dtype=torch.float64)
    loss = build(
        cls_loss=cls_loss, box_loss=box_loss, temperature=tau, normalizer='mean', reg_norm=norms
    )
    expected = oracle(
        **data, cls_loss=cls_loss, box_loss=box_loss, tau=tau, reference=True, norms=norms
    )
    assert terms(loss, data) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('cls_loss', ['bce', 'l2', 'kl'])
@pytest.mark.parametrize('box_loss', ['decoded', 'l2'])
@pytest.mark.parametrize('scale_obj', [False, True])
@given(seed=st.integers(0, 10**6), tau=st.floats(0.5, 20))
@settings(max_examples=5, deadline=None)
def test_corrected_form(cls_loss, box_loss, scale_obj, seed, tau):
    data = inputs(seed, dtype=torch.float64)
    v = [4.0, 0.4]
    loss = build(
        cls_loss=cls_loss, box_loss=box_loss, temperature=tau, scale_obj=scale_obj, level_weights=v
    )
    expected = oracle(
        **data, cls_loss=cls_loss, box_loss=box_loss, tau=tau, reference=False, v=v, scale=scale_obj
    )
    assert terms(loss, data) == pytest.approx(expected, rel=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_without_objectness_the_weight_is_the_highest_class_probability(seed):
    data = {key: maps[:2] for key, maps in inputs(seed, dtype=torch.float64).items()}
    box, cls, _ = oracle(**data, cls_loss='bce', box_loss='decoded', tau=1.0, reference=False)
    assert terms(build(), data) == pytest.approx((box, cls, 0.0), rel=1e-9)


def test_by_hand():
    # One cell, one anchor, C = 2, obj_T = 0, so w = 1/2; corrected form, tau = 1:
    #   box: sigmoids of 0 and of ln 3 differ by 1/4 in one coordinate: w * 1/16 / w = 0.0625
    #   cls: student logits 0: each BCE is ln 2 whatever the target: 2 ln 2 = 1.386294
    #   obj: BCE(0, 1/2) = ln 2 = 0.693147
    # 0.05 * 0.0625 + 0.5 * 1.386294 + 0.693147 = 1.389419
    # Reference form, 'l2': box (ln 3)^2 * 1/2 / 4 = 0.150869; cls (1 + 4) * 1/2 / 2 = 1.25;
    # obj (1 - 0)^2 * 1/2 = 0.5 with obj_S = 1: 0.05 * 0.150869 + 0.5 * 1.25 + 0.5 = 1.132543
    ln3 = math.log(3)
    student = [torch.zeros(1, n, 1, 1) for n in (2, 4, 1)]
    teacher = [torch.zeros(1, n, 1, 1) for n in (2, 4, 1)]
    teacher[1][0, 2] = ln3
    teacher[0][0, :, 0, 0] = torch.tensor([1.0, -2.0])
    assert ObjScaledBoxCls(2)(student, teacher).item() == pytest.approx(1.389419, abs=2e-6)
    student[2].fill_(1.0)
    loss = ObjScaledBoxCls(2, cls_loss='l2', box_loss='l2', normalizer='mean')
    assert loss(student, teacher).item() == pytest.approx(1.132543, abs=2e-6)
    assert loss.logs['objectness'] == 0.5


FORMS = [
    {'cls_loss': cls_loss, 'box_loss': box_loss, 'normalizer': normalizer}
    for cls_loss, box_loss in [('bce', 'decoded'), ('l2', 'l2'), ('kl', 'l2')]
    for normalizer in ('objectness', 'mean')
]
FORMS.append({'box_loss': 'l2', 'reg_norm': 0.5, 'normalizer': 'mean'})
FORMS.append({'scale_obj': True, 'level_weights': [4.0, 1.0], 'temperature': 3.0})
FORMS += [{'box_loss': kind, 'prior_generator': YOLO} for kind in ('iou', 'giou', 'diou', 'ciou')]


@pytest.mark.parametrize('form', FORMS, ids=lambda form: '-'.join(map(str, form.values()))[:40])
def test_gradcheck(form):
    # ciou holds its alpha fixed in the backward pass, as its authors do: no true gradient.
    if form.get('box_loss') == 'ciou':
        pytest.skip('not a gradient by design')
    data = inputs(1, dtype=torch.float64, scale=1.0)
    kinds = [len(kind) for kind in data['preds_S']]
    loss = build(**form)

    def by_levels(*levels):
        split = [list(part) for part in zip(*[iter(levels)] * kinds[0], strict=True)]
        return loss(split, data['preds_T'])

    leaves = [level.requires_grad_() for kind in data['preds_S'] for level in kind]
    assert torch.autograd.gradcheck(by_levels, leaves)


def test_equal_heads_are_at_the_minimum():
    same = preds(0, dtype=torch.float64)
    leaves = [[m.clone().requires_grad_() for m in kind] for kind in same]
    build(temperature=2.0)(leaves, same).backward()
    assert all(m.grad.abs().max() < 1e-12 for kind in leaves for m in kind)
    assert build(cls_loss='l2', box_loss='l2', normalizer='mean')(same, same).item() == 0
    assert build(cls_loss='kl', obj_weight=0.0)(same, same).item() == pytest.approx(0, abs=1e-12)


# What mmdet's own IoU gives for boxes decoded by loops.


def decoded(box, level, a, y, x, coder):
    stride = YOLO['strides'][level]
    width, height = YOLO['base_sizes'][level][a] if coder != 'yolox' else (stride, stride)
    tx, ty, tw, th = box
    if coder == 'yolov5':
        center = [(2 * sigmoid(t) - 1 + 0.5 + n) * stride for t, n in ((tx, x), (ty, y))]
        size = [(2 * sigmoid(tw)) ** 2 * width, (2 * sigmoid(th)) ** 2 * height]
    elif coder == 'yolov3':
        center = [(sigmoid(t) + n) * stride for t, n in ((tx, x), (ty, y))]
        size = [math.exp(tw) * width, math.exp(th) * height]
    else:
        center = [(t + n) * stride for t, n in ((tx, x), (ty, y))]
        size = [math.exp(tw) * width, math.exp(th) * height]
    half = [n / 2 for n in size]
    return (
        *(c - h for c, h in zip(center, half, strict=True)),
        *(c + h for c, h in zip(center, half, strict=True)),
    )


def overlap_loss(kind, p, q):
    """1 - IoU, and the penalties of GIoU, DIoU and CIoU, from their papers."""
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (p, q)]
    inter = max(0, min(p[2], q[2]) - max(p[0], q[0])) * max(0, min(p[3], q[3]) - max(p[1], q[1]))
    union = sum(areas) - inter
    iou = inter / union
    wide, high = max(p[2], q[2]) - min(p[0], q[0]), max(p[3], q[3]) - min(p[1], q[1])
    if kind == 'iou':
        return 1 - iou
    if kind == 'giou':
        return 1 - iou + (wide * high - union) / (wide * high)
    centers = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in (p, q)]
    shift = sum((m - n) ** 2 for m, n in zip(*centers, strict=True)) / (wide**2 + high**2)
    if kind == 'diou':
        return 1 - iou + shift
    ratios = [math.atan((b[2] - b[0]) / (b[3] - b[1])) for b in (p, q)]
    unlike = 4 / math.pi**2 * (ratios[0] - ratios[1]) ** 2
    alpha = unlike / (1 - iou + unlike) if iou > 0.5 else 0
    return 1 - iou + shift + alpha * unlike


@pytest.mark.parametrize('kind', ['iou', 'giou', 'diou', 'ciou'])
@pytest.mark.parametrize('coder', ['yolov5', 'yolov3', 'yolox'])
@pytest.mark.parametrize('normalizer', ['objectness', 'mean'])
def test_iou_family(kind, coder, normalizer):
    anchors = 1 if coder == 'yolox' else ANCHORS
    data = inputs(5, anchors=anchors, dtype=torch.float64, scale=0.7)
    loss = build(
        box_loss=kind,
        bbox_coder=coder,
        prior_generator=POINTS if coder == 'yolox' else YOLO,
        normalizer=normalizer,
    )
    summed, weight, count = [0.0, 0.0], 0.0, [0, 0]
    for level, (height, width) in enumerate(SIZES):
        for i in range(2):
            for a in range(anchors):
                for y in range(height):
                    for x in range(width):
                        p, q = (
                            decoded(
                                data[key][1][level][i, 4 * a : 4 * a + 4, y, x].tolist(),
                                level,
                                a,
                                y,
                                x,
                                coder,
                            )
                            for key in ('preds_S', 'preds_T')
                        )
                        w = sigmoid(data['preds_T'][2][level][i, a, y, x].item())
                        summed[level] += w * overlap_loss(kind, p, q)
                        weight += w
                        count[level] += 1
    mean = sum(s / n for s, n in zip(summed, count, strict=True))
    expected = mean if normalizer == 'mean' else sum(summed) / weight
    assert terms(loss, data)[0] == pytest.approx(expected, rel=1e-6)


def test_one_class_drops_the_class_term():
    data = inputs(0, classes=1)
    box, cls, obj = terms(ObjScaledBoxCls(1), data)
    assert cls == 0 and box > 0 and obj > 0


def label_and_objectness(maps, level, i, a, y, x):
    scores = maps[0][level][i, a * NUM_CLASSES : (a + 1) * NUM_CLASSES, y, x]
    return scores.argmax().item(), sigmoid(maps[2][level][i, a, y, x].item())


def test_feature_map_nms_by_brute_force():
    data = inputs(7)
    expected = []
    for level, (height, width) in enumerate(SIZES):
        for i in range(2):
            for a in range(ANCHORS):
                for y in range(height):
                    for x in range(width):
                        label, own = label_and_objectness(data['preds_T'], level, i, a, y, x)
                        rivals = [
                            label_and_objectness(data['preds_T'], level, i, b, v, u)
                            for b in range(ANCHORS)
                            for v in range(max(0, y - 1), min(height, y + 2))
                            for u in range(max(0, x - 1), min(width, x + 2))
                        ]
                        best = max(score for c, score in rivals if c == label)
                        expected.append(own if own >= best else 0.0)
    loss = build(nms_kernel=3)
    loss(**data)
    assert 0 in expected
    mean = sum(expected) / len(expected)
    assert loss.logs['objectness'].item() == pytest.approx(mean, rel=1e-5)


def test_suppressed_priors_teach_no_object():
    data = inputs(7)
    data['preds_S'] = tuple([m.requires_grad_() for m in kind] for kind in data['preds_S'])
    build(nms_kernel=3)(**data).backward()
    slope = torch.cat([m.grad.flatten() for m in data['preds_S'][2]])
    logits = torch.cat([m.detach().flatten() for m in data['preds_S'][2]])
    count = torch.cat([torch.full((m.numel(),), m.numel()) for m in data['preds_S'][2]])
    target = logits.sigmoid() - slope * count
    assert (target.abs() < 1e-5).any()


def test_a_single_map_is_a_level():
    data = inputs(0)
    single = {key: [kind[0] for kind in maps] for key, maps in data.items()}
    listed = {key: [kind[:1] for kind in maps] for key, maps in data.items()}
    assert build()(**single) == build()(**listed)


def test_channels_last_maps():
    data = inputs(0)
    flipped = {
        key: [[m.to(memory_format=torch.channels_last) for m in kind] for kind in maps]
        for key, maps in data.items()
    }
    assert build()(**flipped).item() == pytest.approx(build()(**data).item(), rel=1e-6)


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'cls_loss': 'ce'}, "cls_loss must be one of bce, l2, kl, got 'ce'"),
        ({'box_loss': 'l1'}, "box_loss must be one of .* got 'l1'"),
        ({'normalizer': 'sum'}, "normalizer must be one of .* got 'sum'"),
        ({'bbox_coder': 'delta'}, "bbox_coder must be one of .* got 'delta'"),
        ({'num_classes': 0}, 'num_classes must be at least 1'),
        ({'temperature': 0.0}, 'temperature positive'),
        ({'reg_norm': 1.0}, "reg_norm belongs to box_loss='l2'"),
        ({'box_loss': 'giou'}, "box_loss='giou' decodes boxes and needs prior_generator"),
        ({'nms_kernel': 2}, 'nms_kernel must be odd'),
    ],
)
def test_bad_configs_are_refused_when_built(arguments, match):
    with pytest.raises(ValueError, match=match):
        build(**arguments)


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'level_weights': [4.0, 1.0, 0.4]}, 'level_weights needs one number per level'),
        ({'box_loss': 'l2', 'reg_norm': [1.0]}, 'reg_norm needs one number per level'),
        (
            {'box_loss': 'iou', 'prior_generator': YOLO | {'base_sizes': [[(8, 8)]] * 2}},
            "prior_generator must be the head's own",
        ),
    ],
)
def test_what_does_not_fit_the_maps_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        build(**arguments)(**inputs(0))
