"""``--int8``: which images give the ranges, which nodes are quantised, and what is told of it."""

import copy
import json
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmkd.checkpoints.detector_checkpoint import read_checkpoint, save_checkpoint
from mmkd.export.export_onnx import Settings, make_files
from mmkd.export.int8 import export_int8
from mmkd.export.int8.calibration import calibration_images
from mmkd.export.int8.choose import _found, choose, detection_cost, row_cost
from mmkd.export.int8.export_int8 import check_int8, make_int8, opened
from mmkd.export.int8.post_training import PostTraining
from mmkd.export.mean_ap import finder_of
from mmkd.export.trained import open_trained
from mmkd_cli.main import main
from tests.export.conftest import truth_by
from tests.tiny import scene

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')


@pytest.fixture(scope='module')
def with_training_set(ssd):
    """The checkpoint of the SSD again, with a training set of six images in its config."""
    root = ssd.parent
    rng = np.random.default_rng(1)
    truth = json.loads((root / 'val.json').read_text())
    images = []
    for i in range(6):
        cv2.imwrite(str(root / f'images/t{i}.png'), scene(rng, (50, 60), 3, 2)[0])
        images.append(dict(id=i, file_name=f't{i}.png', height=50, width=60))
    (root / 'train.json').write_text(json.dumps({**truth, 'images': images, 'annotations': []}))
    held = read_checkpoint(str(ssd))
    config = Config.fromstring(held['meta']['cfg'], '.py')
    train = copy.deepcopy(config.val_dataloader)
    train.dataset.update(ann_file='train.json', test_mode=False, filter_cfg=None)
    config.train_dataloader = train
    out = root / 'trained.pth'
    save_checkpoint({**held, 'meta': {**held['meta'], 'cfg': config.pretty_text}}, out)
    truth_by(opened(make_files(open_trained(str(ssd))).content), root)
    return out


def opened_with(path):
    return open_trained(str(path), also=('train_dataloader',))


def graph_of(content):
    return onnx.load_from_string(content).graph


def in_eight_bits(content) -> list[str]:
    """The convolutions all of whose inputs are numbers of eight bits."""
    graph = graph_of(content)
    made = {name: node.op_type for node in graph.node for name in node.output}
    convs = [node for node in graph.node if node.op_type == 'Conv']
    return [n.name for n in convs if {made.get(i) for i in n.input} == {'DequantizeLinear'}]


@pytest.fixture(scope='module')
def tools(with_training_set):
    """What quantises the SSD, its file, and inputs."""
    trained = opened_with(with_training_set)
    files = make_files(trained)
    rows = opened(files.rows)
    inputs = [rows.prepare(i).data['inputs'][None] for i in calibration_images(trained, 3)]
    return PostTraining(files.rows, inputs), files, inputs


def test_convolutions_become_int8_and_decoding_stays(with_training_set):
    trained = opened_with(with_training_set)
    files, parity = make_int8(trained, Settings(), 4, map_images=0)
    plain = make_files(trained)
    convs = [n.name for n in graph_of(files.rows).node if n.op_type == 'Conv']
    assert in_eight_bits(files.rows) == convs and len(convs) > 20
    assert parity.int8['quantised'] == len(convs) and parity.int8['left_out'] == []
    kinds = [[n.op_type for n in graph_of(made.rows).node] for made in (plain, files)]
    changed = Counter(kinds[1]) - Counter(kinds[0]), Counter(kinds[0]) - Counter(kinds[1])
    assert set(changed[0]) == {'QuantizeLinear', 'DequantizeLinear'}
    assert set(changed[1]) <= {'Relu', 'Identity'}  # all that decodes is as it was
    rows, detections, measured = parity.steps
    assert rows.passed is detections.passed is measured.passed is None
    assert 0 < rows.figures['score'] < 0.5
    sizes = {row.precision: row.size for row in parity.table}
    assert sizes['int8'] < sizes['float32'] and sizes['float16'] < sizes['float32']
    assert all(row.ms > 0 and row.points is None for row in parity.table)
    found = opened(files.content)
    assert found.metadata.told['precision'] == 'int8'
    assert found.metadata.told['weights_sha256'] == plain.metadata['weights_sha256']


def test_the_costliest_stay_in_float_until_the_map_holds(tools):
    quantiser, files, inputs = tools
    asked = []

    def finish(model):
        from mmkd.export.onnx_file import finished

        return finished(model, {**files.metadata, 'precision': 'int8'})

    def holds(content):
        asked.append(len(in_eight_bits(content)))
        return asked[-1] <= len(quantiser.layers) - 3

    quantiser.layers = quantiser.layers[:8]  # comparing each takes a while
    content, left_out = choose(quantiser, finish, holds, inputs[:1])
    everything = len(quantiser.layers)
    assert asked == [everything, everything - 1, everything - 2, everything - 3]
    assert set(in_eight_bits(content)) == set(quantiser.layers) - set(left_out)
    assert choose(quantiser, finish, lambda content: None, inputs)[1] == []
    never, left_out = choose(quantiser, finish, lambda content: False, inputs[:1])
    assert left_out == [] and len(in_eight_bits(never)) == everything


def test_matrices_of_weights_are_layers_and_what_decodes_is_none():
    """A Linear's product is one; that with a column, as of distributions of distances, is not."""
    rng = np.random.default_rng(0)
    held = {'weights': rng.normal(size=(12, 6)), 'column': rng.uniform(size=(6, 1))}
    nodes = [
        onnx.helper.make_node('Cast', ['image'], ['pixels'], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node('Flatten', ['pixels'], ['flat']),
        onnx.helper.make_node('MatMul', ['flat', 'weights'], ['sums']),
        onnx.helper.make_node('Relu', ['sums'], ['positive']),
        onnx.helper.make_node('MatMul', ['positive', 'column'], ['scores']),
    ]
    kinds = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        'linear',
        [onnx.helper.make_tensor_value_info('image', kinds[0], ['n', 3, 2, 2])],
        [onnx.helper.make_tensor_value_info('scores', kinds[1], ['n', 1])],
        [onnx.numpy_helper.from_array(v.astype(np.float32), name) for name, v in held.items()],
    )
    opset = [onnx.helper.make_opsetid('', 18)]
    content = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    inputs = [rng.integers(0, 256, (1, 3, 2, 2), dtype=np.uint8) for _ in range(4)]
    tools = PostTraining(content, inputs)
    quantised = tools.quantised(tools.layers)
    made = {name: node.op_type for node in quantised.graph.node for name in node.output}
    products = [node for node in quantised.graph.node if node.op_type == 'MatMul']
    assert len(tools.layers) == 1
    assert sorted(made.get(product.input[1], '') for product in products) == [
        '',
        'DequantizeLinear',
    ]
    found = [
        onnxruntime.InferenceSession(c).run(None, {'image': inputs[0]})[0]
        for c in (content, quantised.SerializeToString())
    ]
    assert found[0] == pytest.approx(found[1], rel=0.05, abs=2)


def test_where_rows_have_no_place_detections_are_compared(tools):
    _, files, inputs = tools
    exact = _found(files.rows, inputs[:1], by_place=False)
    boxes, scores, labels = exact[0]
    assert len(scores) > 3 and detection_cost(exact, exact) < 1e-6
    order = np.random.default_rng(0).permutation(len(scores))
    shuffled = [(boxes[order], scores[order], labels[order])]
    assert detection_cost(exact, shuffled) < 1e-6
    assert detection_cost(exact, [(boxes, scores * 0.9, labels)]) > 0.01
    assert detection_cost(exact, [(boxes[:0], scores[:0], labels[:0])]) == pytest.approx(1)


@pytest.mark.parametrize('moved', [0.0, 1.0, 8.0])
def test_the_cost_of_rows_is_what_has_changed(moved):
    rng = np.random.default_rng(0)
    corner, side = rng.uniform(0, 50, (2, 1, 9, 2))
    boxes, scores = np.concatenate([corner, corner + side + 9], -1), rng.uniform(0, 1, (1, 9, 3))
    cost = row_cost([[boxes, scores]], [[boxes + moved, scores * 0.9]])
    best = scores.max(-1)
    exact = (best * 0.1 * best).sum() / best.sum()
    assert cost == pytest.approx(exact) if not moved else cost > exact + 0.02


def test_ranges_are_of_training_images_alone(with_training_set):
    trained = opened_with(with_training_set)
    root = with_training_set.parent
    found = calibration_images(trained)
    assert [path.split('/')[-1] for path in found] == [f't{i}.png' for i in range(6)]
    spread = calibration_images(trained, 3)
    assert [path.split('/')[-1] for path in spread] == ['t0.png', 't2.png', 't4.png']
    both = copy.deepcopy(trained.config)
    both.train_dataloader.dataset = dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='MultiImageMixDataset',
            pipeline=[],
            dataset=dict(
                type='ConcatDataset',
                datasets=[trained.config.train_dataloader.dataset, both.val_dataloader.dataset],
            ),
        ),
    )
    assert calibration_images(trained._replace(config=both)) == found

    def fails(error, match, change):
        config = copy.deepcopy(trained.config)
        change(config)
        with pytest.raises(error, match=match):
            calibration_images(trained._replace(config=config))

    fails(ValueError, 'must have a train_dataloader', lambda c: c.pop('train_dataloader'))
    (root / 'link').symlink_to(root)
    again = dict(ann_file=f'{root}/val.json', data_root=f'{root}/../{root.name}/link/')
    fails(  # under another name of their folder
        ValueError,
        r'never from those.*each of the 4 images',
        lambda c: c.train_dataloader.dataset.update(again),
    )
    fails(
        FileNotFoundError,
        r'training set, which is not here.*gone\.json',
        lambda c: c.train_dataloader.dataset.update(ann_file=f'{root}/gone.json'),
    )
    fails(
        FileNotFoundError,
        r'image ".*t0\.png" is not here',
        lambda c: c.train_dataloader.dataset.update(data_prefix=dict(img='other/')),
    )


def test_the_command_prints_and_keeps_the_table(with_training_set, tmp_path, capsys, monkeypatch):
    def costs(tools, finished, inputs, by_place):  # measuring each takes a while
        return {name: float('cls' in name) for name in tools.layers}

    monkeypatch.setattr('mmkd.export.int8.choose._costs', costs)
    out, kinds = tmp_path / 's.onnx', []
    words = (with_training_set, '--format', 'onnx', '--int8', '--calibration', '3', '--nms')
    words = ['export', *map(str, (*words, '--map-images', 1, '--out', out))]
    watched = lambda d: kinds.append(d._outputs) or finder_of(d)  # noqa: E731
    monkeypatch.setattr(export_int8, 'finder_of', watched)
    status = main(words)
    told, report = capsys.readouterr().out, json.loads((tmp_path / 's.parity.json').read_text())
    assert status == (0 if report['passed'] else 1)
    assert report['precision'] == 'int8' and report['int8']['ranges'] == 'of 3 training images'
    assert [row['precision'] for row in report['table']] == ['float32', 'float16', 'int8']
    points = [row['points'] for row in report['table']]
    measured = report['steps'][2]['figures']
    assert points[0] == pytest.approx(measured['pytorch'], abs=0.1) and points[0] > 60
    assert len(kinds) > 2 and all(kind == ['detections'] for kind in kinds)  # of what is written
    assert points[2] == measured['file'] and measured['allowed'] == 1.0
    for row in report['table']:
        assert f'{row["precision"]:10} {row["points"]:6.2f} {row["size"] / 1e6:8.2f}' in told
    assert opened(out.read_bytes()).metadata.told['outputs'] == 'detections'
    with pytest.raises(FileExistsError, match='--force'):
        main(words)


def test_openvino_finds_what_the_int8_file_finds(with_training_set, tmp_path, capsys, monkeypatch):
    pytest.importorskip('openvino')
    monkeypatch.setattr('mmkd.export.int8.choose._costs', lambda tools, *_: {})
    out = tmp_path / 's.onnx'
    words = ('--format', 'openvino', '--int8', '--calibration', '3', '--out', out)
    main(['export', *map(str, (with_training_set, *words))])
    first, second = (
        json.loads((tmp_path / f's{kind}.parity.json').read_text()) for kind in ('', '.openvino')
    )
    assert second['precision'] == 'int8' and second['file'] == 's.xml'
    assert [step['passed'] for step in second['steps'][:2]] == [None, None]
    found = [report['steps'][2]['figures']['file'] for report in (first, second)]
    assert found[0] == pytest.approx(found[1], abs=5) and found[1] > 50
    assert 's.xml, made of' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('words', 'match'),
    [
        (['--half'], 'both were given. Drop one'),
        (['--calibration', '0'], 'above 0, but got 0'),
    ],
)
def test_what_does_not_go_with_int8_is_refused(with_training_set, tmp_path, words, match):
    given = ['--format', 'onnx', '--int8', '--out', str(tmp_path / 's.onnx'), *words]
    with pytest.raises(ValueError, match=match):
        main(['export', str(with_training_set), *given])
    assert list(tmp_path.iterdir()) == []


def test_tensorrt_and_missing_tools_are_refused(monkeypatch):
    with pytest.raises(ValueError, match='which TensorRT does not take'):
        check_int8(Settings(), 9, 'tensorrt')
    monkeypatch.setitem(sys.modules, 'onnxruntime.quantization', None)
    with pytest.raises(ModuleNotFoundError, match='quantisation tools of onnxruntime'):
        check_int8(Settings(), 9)


def test_a_number_of_images_alone_is_told(capsys):
    with pytest.raises(SystemExit):
        main(['export', 'a.pth', '--format', 'onnx', '--calibration', '9'])
    assert '--calibration goes with --int8' in capsys.readouterr().err
