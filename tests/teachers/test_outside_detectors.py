"""A function and an ONNX file of another program detect as their description says."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd.teachers.class_names import class_names
from mmkd.teachers.onnx_description import Description
from mmkd.teachers.outside_detectors import FunctionDetector, OnnxDetector
from mmkd_onnx.model_file import KEY

onnx = pytest.importorskip('onnx')

CLASSES = ('ant', 'bee')


def brightest(images):
    """Where an image is bright, as a detector of its own."""
    boxes, scores, labels = [], [], []
    for image in images:
        y, x = np.nonzero(image[..., 2] > 200)
        boxes.append([[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(x) else [])
        scores.append([0.75] * bool(len(x)))
        labels.append(['bee'] * bool(len(x)))
    return boxes, scores, labels


def image(box=(10, 20, 40, 50), size=(80, 100)):
    made = np.zeros((*size, 3), np.uint8)
    x1, y1, x2, y2 = box
    made[y1:y2, x1:x2, 2] = 255
    return made


def test_a_function_detects():
    found, nothing = FunctionDetector(brightest, CLASSES)([image(), image((0, 0, 0, 0))])
    assert found.boxes.tolist() == [[10, 20, 40, 50]] and found.scores.tolist() == [0.75]
    assert found.labels.tolist() == [1] and found.distribution is None
    assert nothing.boxes.shape == (0, 4) and nothing.labels.shape == (0,)
    named = FunctionDetector(f'{__name__}.brightest', CLASSES)
    assert named([image()])[0].boxes.tolist() == [[10, 20, 40, 50]]


@given(st.lists(st.sampled_from(['N/A', '', ' ', 'N/A 0', 'class 1', 'cat', 'dog']), min_size=1))
def test_repeated_and_empty_names_get_the_number_of_their_label(names):
    """As in tables of labels in which some numbers stand for no class."""
    found = class_names(names)
    assert len(set(found)) == len(found) == len(names) and all(name.strip() for name in found)
    for i, (name, own) in enumerate(zip(names, found, strict=True)):
        if names.count(name) == 1 and name.strip():
            assert own == name
        else:
            assert own.rstrip('_') == f'{name if name.strip() else "class"} {i}'


def test_scores_of_all_classes_are_a_distribution():
    boxes, scores = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[0.25, 0.5]])
    detector = FunctionDetector(lambda images: ([boxes], [scores], [torch.tensor([1])]), CLASSES)
    [found] = detector([image()])
    assert found.scores.tolist() == [0.5] and found.distribution.tolist() == [[0.25, 0.5]]


@pytest.mark.parametrize(
    ('returned', 'match'),
    [
        ('xy', r'must return boxes, scores and labels, but returned str'),
        (([], [], []), r'for each of 1 images, but returned 0, 0 and 0'),
        (([[[1, 2, 3]]], [[0.5]], [[0]]), r'boxes \(n, 4\)'),
        (([[[1, 2, 3, 4]]], [[1.5]], [[0]]), r'scores from 0 to 1'),
        (([[[1, 2, 3, 4]]], [[0.5]], [[2]]), r'labels from 0 to 1'),
        (([[[1, 2, 3, 4]]], [[0.5]], [[-1]]), r'labels from 0 to 1'),
        (([[[1, 2, 3, float('nan')]]], [[0.5]], [[0]]), r'finite'),
        (([[[1, 2, 3, 4]]], [[0.5]], [['cow']]), r'its classes \(ant, bee\), but returned "cow"'),
        (([[[1, 2, 3, 4]]], [[0.5, 0.5]], [[0]]), r'boxes \(n, 4\)'),
        (([[[1, 2, 3, 4]]], [[float('nan')]], [[0]]), r'scores from 0 to 1.*from nan'),
        (([[[1, 2, 3, 4]]], [[-0.1]], [[0]]), r'scores from 0 to 1'),
        (([[[1, 2, 3, 4]]], [[[0.5, 1.5]]], [[0]]), r'scores from 0 to 1.*to 1\.5'),
        (([[[1, 2, 3, 4], [1]]], [[0.5] * 2], [[0] * 2]), r'of numbers, but ValueError'),
        (([[['x']]], [[0.5]], [[0]]), r'of numbers, but ValueError'),
        (([[[1, 2, 3, 4]]], [0.5], [[0]]), r'boxes \(n, 4\)'),
        (([[[1, 2, 3, 4]]], [[0.5]], [[0.7]]), r'whole labels.*0\.7'),
        (([[[1, 2, 3, 4]]], [[0.5]], [[None]]), r'whole labels.*None'),
        (([[[1, 2, 3, 4]]], [[0.5]], [[float('nan')]]), r'whole labels.*nan'),
        (([[[1, 2, 3, 4], [20, 20, 5, 5]]], [[0.5] * 2], [[0] * 2]), r'x1 <= x2.*\[20\.0, 20\.0'),
    ],
)
def test_what_a_function_must_not_return_is_refused(returned, match):
    with pytest.raises(ValueError, match=match):
        FunctionDetector(lambda images: returned, CLASSES)([image()])


def test_what_rounding_does_is_no_fault():
    """A softmax that multiplies by a reciprocal ends a little above 1; a box may be a line."""
    box, score = np.float32([[1, 2, 1, 2]]), np.float32([1.0000005])
    [found] = FunctionDetector(lambda images: ([box], [score], [[1.0]]), CLASSES)([image()])
    assert found.scores.tolist() == [1] and found.labels.tolist() == [1]


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_of_any_precision_and_names_in_any_array_will_do(kind):
    box, score = torch.tensor([1.0, 2, 3, 4], dtype=kind), torch.tensor(0.5, dtype=kind)
    for boxes, scores, labels in (
        (box[None], score[None], np.array(['bee'], dtype=object)),
        ([box], [score], ['bee']),
        ([box.requires_grad_()], [score], [torch.tensor(1)]),
    ):
        returned = [boxes], [scores], [labels]
        [found] = FunctionDetector(lambda images, r=returned: r, CLASSES)([image()])
        assert found.boxes.tolist() == [[1, 2, 3, 4]] and found.scores.tolist() == [0.5]
        assert found.labels.tolist() == [1]


def test_what_is_no_function_is_refused(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=r'must be callable.*but got 3\. Name it'):
        FunctionDetector(3, CLASSES)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'needs_more.py').write_text('import not_installed\ndef detect(images): pass\n')
    for name, why in (
        ('not_there.detect', r"\(ModuleNotFoundError: No module named 'not_there'\)"),
        ('needs_more.detect', r"No module named 'not_installed'\)"),
        ('json.detect', r"'json.detect'\. Name it as package.module.function, in a folder that"),
    ):
        with pytest.raises(TypeError, match=why):
            FunctionDetector(name, CLASSES)
    for classes in ((), 'ant', None, (1, 2), ('ant', None)):
        with pytest.raises(ValueError, match='different names'):
            FunctionDetector(brightest, classes)


def model(path, outputs, size=(40, 50), layout='NCHW', dtype='float32', batch=(1,)):
    """An ONNX file whose outputs are constants; ``most`` is the largest of each channel."""
    from onnx import TensorProto, helper, numpy_helper

    kind = getattr(TensorProto, dtype.upper().replace('FLOAT32', 'FLOAT'))
    shape = [*batch, 3, *size] if layout == 'NCHW' else [*batch, *size, 3]
    nodes, infos = [], []
    for name, value in outputs.items():
        value = np.asarray(value, np.int64 if name == 'labels' else np.float32)
        value = value.reshape(*batch, *value.shape)
        tensor = numpy_helper.from_array(value, f'{name}_value')
        nodes.append(helper.make_node('Constant', [], [name], value=tensor))
        number = TensorProto.INT64 if name == 'labels' else TensorProto.FLOAT
        infos.append(helper.make_tensor_value_info(name, number, value.shape))
    nodes.append(helper.make_node('Cast', ['input'], ['numbers'], to=TensorProto.FLOAT))
    axes = [-2, -1] if layout == 'NCHW' else [-3, -2]
    nodes.append(helper.make_node('ReduceMax', ['numbers'], ['most'], axes=axes, keepdims=0))
    infos.append(helper.make_tensor_value_info('most', TensorProto.FLOAT, [*batch, 3]))
    given = helper.make_tensor_value_info('input', kind, shape)
    graph = helper.make_graph(nodes, 'made', [given], infos)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8)
    onnx.save(made, path)
    return path


ROWS = [[5, 10, 20, 25], [6, 10, 20, 25], [30, 10, 45, 20]]  # the second is the first again
SCORES = [[0.1, 0.8], [0.2, 0.7], [0.6, 0.3]]
TOLD = dict(classes=CLASSES, size=(40, 50), boxes='boxes', scores='scores')


def detect(tmp_path, outputs, **told):
    detector = OnnxDetector(model(tmp_path / 'm.onnx', outputs), {**TOLD, **told})
    return detector([image()])[0]


def check(found, boxes=((10, 20, 40, 50), (60, 20, 90, 40))):
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, [0.8, 0.6], atol=1e-4)
    assert found.labels.tolist() == [1, 0]


def test_boxes_and_scores(tmp_path):
    """The input is half as large as the image: boxes come back doubled; of two alike one stays."""
    found = detect(tmp_path, dict(boxes=ROWS, scores=SCORES))
    check(found)
    np.testing.assert_allclose(found.distribution, [SCORES[0], SCORES[2]])


def test_every_form_of_rows_is_read_alike(tmp_path):
    rows, scores = np.array(ROWS, float), np.array(SCORES)
    sides, centres = rows[:, 2:] - rows[:, :2], (rows[:, 2:] + rows[:, :2]) / 2
    parts = rows / [50, 40, 50, 40]
    logits = np.log(scores / (1 - scores))
    with_nothing = np.log(np.c_[scores, 1 - scores.sum(1)].clip(1e-9))
    surest, labels = scores.max(1), scores.argmax(1)
    for outputs, told in (
        (dict(boxes=np.c_[centres, sides], scores=scores), dict(box_form='cxcywh')),
        (dict(boxes=np.c_[rows[:, :2], sides], scores=scores), dict(box_form='xywh')),
        (dict(boxes=parts, scores=scores), dict(relative=True)),
        (dict(boxes=rows, scores=logits), dict(activation='sigmoid')),
        (
            dict(boxes=rows, scores=with_nothing),
            dict(activation='softmax', background='last'),
        ),
        (
            dict(boxes=rows, scores=np.roll(with_nothing, 1, 1)),
            dict(activation='softmax', background='first'),
        ),
        (dict(boxes=np.c_[rows, scores]), dict(scores='')),
        (dict(boxes=np.c_[rows, scores].T), dict(scores='')),
        (dict(boxes=np.c_[rows, [0.5] * 3, scores * 2]), dict(scores='', objectness=True)),
        (
            dict(boxes=np.c_[rows, np.full(3, np.log(9)), np.log(scores / 0.9)]),
            dict(scores='', objectness=True, activation='softmax'),
        ),
        (dict(boxes=rows, scores=surest, labels=labels + 1), dict(labels='labels', first_label=1)),
    ):
        check(detect(tmp_path, outputs, **told))


@pytest.mark.parametrize('batch', [(), (1,)])
def test_outputs_may_come_without_the_axis_of_a_batch(tmp_path, batch):
    """As those of torchvision's exports, whose input has none either."""
    rows, scores = np.array(ROWS, float), np.array(SCORES)
    surest, labels, told = scores.max(1), scores.argmax(1), dict(labels='labels')
    for outputs, more in (
        (dict(boxes=rows, scores=scores), {}),
        (dict(boxes=np.c_[rows, scores]), dict(scores='')),
        (dict(boxes=np.c_[rows, scores].T), dict(scores='')),
        (dict(boxes=rows, scores=surest, labels=labels), told),
        (dict(boxes=rows[:, None], scores=surest[:, None], labels=labels[:, None]), told),
    ):
        path = model(tmp_path / 'm.onnx', outputs, batch=batch)
        check(OnnxDetector(path, {**TOLD, **more})([image()])[0])
    for count in (0, 1):  # which leaves other axes of one entry
        outputs = dict(boxes=rows[:count], scores=surest[:count], labels=labels[:count])
        path = model(tmp_path / 'm.onnx', outputs, batch=batch)
        [found] = OnnxDetector(path, {**TOLD, **told})([image()])
        np.testing.assert_allclose(found.scores, surest[:count])
        path = model(
            tmp_path / 'm.onnx', dict(boxes=rows[:count], scores=surest[:count]), batch=batch
        )
        [found] = OnnxDetector(path, {**TOLD, 'classes': ['ant']})([image()])  # a single class
        np.testing.assert_allclose(found.scores, surest[:count])
        assert found.boxes.shape == (count, 4)


@pytest.mark.parametrize(
    ('scores', 'told', 'match'),
    [
        ([[5, -3], [0, 1], [0, 1]], {}, r'"scores" 2 of 6 are not: 5, -3.*sigmoid.*is none'),
        ([[np.nan, 0.5]] * 3, {}, r'3 of 6 are not: nan, nan, nan'),
        ([[np.nan, 0.5]] * 3, dict(activation='sigmoid'), r'3 of 6 are not'),
        ([[99, 1], [0, 1], [0, 1]], {}, r'of scores in percent divide by 100'),
    ],
)
def test_scores_that_are_none_are_refused(tmp_path, scores, told, match):
    with pytest.raises(ValueError, match=rf'each score must be from 0 to 1, but.*{match}'):
        detect(tmp_path, dict(boxes=ROWS, scores=scores), **told)


def test_scores_of_no_class_and_rounding_are_no_fault(tmp_path):
    """Rows that fill an output up have no class; a softmax may end a little above 1."""
    outputs = dict(boxes=ROWS, scores=[0.8, -1, 0.6], labels=[1, -1, 0])
    check(detect(tmp_path, outputs, labels='labels'))
    found = detect(tmp_path, dict(boxes=ROWS, scores=[[1.000001, 0], [0, 0], [0, 0]]))
    assert found.scores.tolist() == [1]
    with pytest.raises(ValueError, match='four finite numbers'):
        detect(tmp_path, dict(boxes=[[np.nan] * 4, *ROWS[1:]], scores=SCORES))


def test_labels_beyond_the_classes_are_told_once_and_left_out(tmp_path, logged):
    outputs = dict(boxes=ROWS, scores=[0.8, 0.7, 0.6], labels=[2, 9, 1])
    path, told = model(tmp_path / 'm.onnx', outputs), {**TOLD, 'labels': 'labels'}
    detector = OnnxDetector(path, {**told, 'first_label': 1})
    for _ in range(2):
        [found] = detector([image()])
        assert found.labels.tolist() == [1, 0]  # 9 is none of 1 and 2
    assert logged().count('9 are beyond') == 1
    assert '2 classes of its description, from 1 on' in logged()
    # Neither what scores nothing, nor what stands for nothing.
    outputs = dict(boxes=ROWS, scores=[0.8, 0.01, 0.6], labels=[1, 7, 2])
    path, before = model(tmp_path / 'm.onnx', outputs), logged()
    [found] = OnnxDetector(path, {**told, 'background': 'last'})([image()])
    assert found.labels.tolist() == [1] and logged() == before


def test_labels_behind_a_first_background_begin_at_1(tmp_path):
    """As torchvision's: 0 is the label of nothing."""
    scores = np.array(SCORES)
    outputs = dict(boxes=ROWS, scores=scores.max(1), labels=scores.argmax(1) + 1)
    check(detect(tmp_path, outputs, labels='labels', background='first'))
    own = dict(outputs, labels=scores.argmax(1) + 5)
    check(detect(tmp_path, own, labels='labels', background='first', first_label=5))


def test_boxes_of_another_form_than_told_are_noted_once(tmp_path, logged):
    rows = np.array(ROWS, float)
    other = np.c_[(rows[:, :2] + rows[:, 2:]) / 2, rows[:, 2:] - rows[:, :2]]
    detector = OnnxDetector(model(tmp_path / 'm.onnx', dict(boxes=other, scores=SCORES)), TOLD)
    for _ in range(2):
        detector([image()])
    assert logged().count('3 of 3 that score 0.05 or more have not, and are left out') == 1
    assert 'Correct box_form of the description, which is xyxy' in logged()


def test_scores_that_exclude_each_other_are_known(tmp_path):
    path = model(tmp_path / 'm.onnx', dict(boxes=ROWS, scores=np.c_[SCORES, [0.1] * 3]))
    for told, softmax in (
        (dict(activation='softmax', background='last'), True),
        (dict(activation='softmax', classes=['a', 'b', 'c']), True),
        (dict(background='last'), True),  # of a softmax in the graph
        (dict(background='first', activation='sigmoid'), False),
        (dict(classes=['a', 'b', 'c']), False),
    ):
        assert OnnxDetector(path, {**TOLD, **told}).softmax is softmax
    assert not FunctionDetector(brightest, CLASSES).softmax
    assert FunctionDetector(brightest, CLASSES, softmax=True).settings['softmax'] is True


def test_a_detection_has_the_scores_of_its_own_row(tmp_path):
    """Also where another row lies where the border cuts it, and where rows have no box."""
    rows = [[10, 10, 90, 90], [10, 10, 50, 40], [np.nan] * 4]
    scores = [[0.1, 0.9], [0.7, 0.85], [0.02, 0.01]]
    outputs = dict(boxes=rows, scores=scores)
    path = model(tmp_path / 'm.onnx', outputs)
    described = OnnxDetector(path, TOLD)
    content = onnx.load(path)
    del content.graph.output[2:]
    thresholds = dict(
        score=0.05, iou=0.5, max_per_image=9, before_nms=None, levels=[3], min_side=0,
        multi_label=False, class_agnostic=False, clip_first=True,
    )  # fmt: skip
    preparation = dict(size=[40, 50], steps=[], padding=[0] * 3, input='float32')
    told = dict(classes=CLASSES, preprocessing=preparation, thresholds=thresholds)
    onnx.helper.set_model_props(content, {KEY: json.dumps(told)})
    onnx.save(content, path)
    for detector in (described, OnnxDetector(path)):
        [found] = detector([image(size=(40, 50))])
        np.testing.assert_allclose(found.boxes[0], [10, 10, 50, 40], atol=1e-3)
        np.testing.assert_allclose(found.scores[0], 0.9)
        np.testing.assert_allclose(found.distribution[0], [0.1, 0.9])


def test_outputs_of_other_axes_are_refused(tmp_path):
    for outputs, more, match in (
        (dict(boxes=[ROWS, ROWS], scores=SCORES), {}, r'"boxes" must have 2 axes.*\(1, 2, 3, 4\)'),
        (dict(boxes=ROWS, scores=SCORES, labels=[0]), dict(labels='labels'), 'each detection'),
        (dict(boxes=np.ones((3, 5)), scores=SCORES), {}, r'for boxes \(3, 5\)'),
    ):
        with pytest.raises(ValueError, match=match):
            detect(tmp_path, outputs, **more)


def test_rows_that_were_suppressed_in_the_file_stay(tmp_path):
    found = detect(tmp_path, dict(boxes=ROWS, scores=SCORES), iou_thr=None, score_thr=0.65)
    assert found.scores.tolist() == pytest.approx([0.8, 0.7])


@pytest.mark.parametrize('resize', ['letterbox', 'stretch', 'keep_ratio'])
def test_the_image_comes_back_by_the_way_it_went_in(tmp_path, resize):
    """An image of 80 x 160 in an input of 40 x 50."""
    tall = image(size=(80, 160))
    path = model(tmp_path / 'm.onnx', dict(boxes=ROWS[:1], scores=SCORES[:1]))
    [found] = OnnxDetector(path, {**TOLD, 'resize': resize})([tall])
    x1, y1, x2, y2 = ROWS[0]
    across, down = (50 / 160, 25 / 80) if resize != 'stretch' else (50 / 160, 0.5)
    top = 7 if resize == 'letterbox' else 0
    wanted = [x1 / across, (y1 - top) / down, x2 / across, (y2 - top) / down]
    np.testing.assert_allclose(found.boxes[0], wanted, rtol=1e-3)


def test_pixels_are_those_that_are_described(tmp_path):
    """The image is red alone, 255 in the last channel of BGR."""
    for layout in ('NCHW', 'NHWC'):
        for channels, place in (('RGB', 0), ('BGR', 2)):
            for dtype in ('float32', 'uint8'):
                path = model(tmp_path / 'm.onnx', dict(boxes=ROWS), layout=layout, dtype=dtype)
                told = dict(layout=layout, channels=channels, dtype=dtype, mean=[55] * 3, std=100)
                described = Description.of({**TOLD, 'scores': '', **told})
                described.open(path)
                red = np.zeros((3, 40, 50), np.uint8)
                red[2] = 255
                most = described._run(red)['most'][0]
                wanted = np.full(3, 0.0 if dtype == 'uint8' else -0.55)
                wanted[place] = 255 if dtype == 'uint8' else 2.0
                np.testing.assert_allclose(most, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ('told', 'match'),
    [
        (dict(classes='xy'), "classes of a description must be a list of names.*but got 'xy'"),
        (dict(classes=[1, 2]), r'classes .*but got \[1, 2\]'),
        (dict(classes=[]), r'classes .*but got \[\]'),
        (dict(size=[40, 50.5]), r'size .*height and width.*\[40, 50\.5\]'),
        (dict(size=[True, 50]), 'size'),
        (dict(size=[40, 10**6]), r'from 1 to 16384 each, but got \[40, 1000000\]'),
        (dict(boxes=''), "boxes .*name of an output, but got ''"),
        (dict(scores=None), 'scores .*but got None'),
        (dict(mean='123'), "mean .*a number, or one for each of three channels, but got '123'"),
        (dict(mean=[1, 2]), 'mean'),
        (dict(std=0), 'std .*other than 0.*but got 0'),
        (dict(std=[1, 0, 1]), 'std'),
        (dict(std=float('nan')), 'std'),
        (dict(relative='false'), "relative .*true or false, but got 'false'"),
        (dict(objectness=1), 'objectness .*true or false'),
        (dict(score_thr='high'), "score_thr .*from 0 to 1, but got 'high'"),
        (dict(score_thr=50), 'score_thr'),
        (dict(iou_thr=-0.1), 'iou_thr .*or null'),
        (dict(pad=300), 'pad .*from 0 to 255, but got 300'),
        (dict(pad=[0, 0, 0]), r'pad .*but got \[0, 0, 0\]'),
        (dict(max_per_img=0), 'max_per_img'),
        (dict(first_label=0.5), 'first_label .*whole number'),
        (dict(resize=['stretch']), r"resize .*one of.*but got \['stretch'\]"),
        (dict(labels='labels', scores=''), "scores .*those of the labels, but got ''"),
        (dict(labels='labels', objectness=True), 'objectness .*beside labels'),
        (dict(labels='labels', activation='softmax'), 'activation .*beside labels'),
        (dict(size=[40, 60]), r'the one input of .*, but are \[40, 60\]'),
        (dict(layout='NHWC'), 'the one input'),
        (dict(dtype='uint8'), r'the one input .*tensor\(float\)'),
    ],
)
def test_a_field_of_another_kind_is_refused_before_work_starts(tmp_path, told, match):
    path = model(tmp_path / 'm.onnx', dict(boxes=ROWS, scores=SCORES, labels=[0, 1, 0]))
    with pytest.raises(ValueError, match='of a description must be') as caught:
        OnnxDetector(path, {**TOLD, **told})
    assert re.search(match, str(caught.value))


def test_what_a_field_may_be_is_taken(tmp_path):
    path = model(tmp_path / 'm.onnx', dict(boxes=ROWS, scores=SCORES))
    for told in (
        dict(classes=list(CLASSES), size=[40, 50], labels=''),
        dict(size=np.array([40, 50])),
        dict(pad=0),
        dict(pad=114.0, mean=[0], std=(255, 255.0, 255)),
        dict(mean=np.zeros(3), std=np.float32(255)),
        dict(score_thr=0, iou_thr=1, max_per_img=300),
        dict(score_thr=np.float64(0.05), first_label=-1),
        dict(classes=('ant', 'ant')),
    ):
        detector = OnnxDetector(path, {**TOLD, **told})
        assert len(detector([image()])[0].scores) >= 2
    assert detector.classes == ('ant 0', 'ant 1')


def test_what_is_no_description_is_refused(tmp_path):
    path = model(tmp_path / 'm.onnx', dict(boxes=ROWS, scores=SCORES))
    for told, match in (
        (dict(), 'must have classes, size, boxes'),
        ({**TOLD, 'nms': 1}, 'may have'),
        ({**TOLD, 'layout': 'NWHC'}, "must be one of NCHW, NHWC, but got 'NWHC'"),
        ({**TOLD, 'size': 640}, 'height and width of the input, from 1 to 16384 each, but got 640'),
        ({**TOLD, 'boxes': 'dets'}, r'outputs of ".*" \(boxes, scores, most\), but it has no dets'),
        (dict(classes=CLASSES, size=(40, 50), boxes='boxes'), 'must have 4 numbers of a box and 2'),
        ({**TOLD, 'classes': ['a']}, 'must be those of 1 classes for each of 3 boxes'),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            OnnxDetector(path, told)([image()])
    with pytest.raises(ValueError, match='or come with a description'):
        OnnxDetector(path)
    with pytest.raises(FileNotFoundError, match='there is no'):
        OnnxDetector(tmp_path / 'none.onnx', TOLD)
    (tmp_path / 'told.json').write_text(json.dumps(TOLD))
    check(OnnxDetector(path, tmp_path / 'told.json')([image()])[0])
    (tmp_path / 'broken.onnx').write_bytes(b'x')
    with pytest.raises(ValueError, match='onnxruntime can run'):
        OnnxDetector(tmp_path / 'broken.onnx', TOLD)


def test_of_a_file_of_mmkd_export_what_is_no_number_is_left_out(tmp_path):
    """As mmkd.load leaves it out: neither JSON nor a loss can hold it."""
    boxes = np.array([[0, 0, 8, 8], [np.nan, 0, 8, 8]], np.float32)
    scores = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
    prepared = SimpleNamespace(
        data=dict(inputs=np.zeros((3, 8, 8)), placed=SimpleNamespace(back=lambda found: found))
    )
    detector = OnnxDetector.__new__(OnnxDetector)
    detector.path = tmp_path / 'm.onnx'
    detector._own = SimpleNamespace(
        prepare=lambda image: prepared,
        raw=lambda inputs: [boxes[None], scores[None]],
        chosen_rows=lambda outputs, placed: (np.arange(2), boxes, scores[:, 0], np.zeros(2, int)),
    )
    [found] = detector([np.zeros((8, 8, 3), np.uint8)])
    assert len(found.boxes) == 1 and found.scores.tolist() == [np.float32(0.9)]
    assert found.labels.tolist() == [0] and found.distribution.tolist() == scores[:1].tolist()
