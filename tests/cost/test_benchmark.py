"""``mmkd benchmark``: its figures are those of the detectors, and files are not lost."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from rich.console import Console
from torch import nn

from mmkd.algorithms.build_detector import build_detector
from mmkd.checkpoints.detector_checkpoint import read_checkpoint, save_checkpoint
from mmkd.cost.contender import Contender, Opened, open_contender
from mmkd.cost.latency import Latency, latencies, thread_counts
from mmkd.cost.measure_costs import Cost, measure_costs
from mmkd.cost.measured_map import find_map, measured_map
from mmkd.cost.write_costs import cost_notes, cost_table, draw_costs
from mmkd.doctor.report import Section, show_table
from mmkd.export.rows_graph import RowsGraph
from mmkd_cli.main import main
from tests.export.conftest import CLASSES, config_for, save, truth_by
from tests.tiny import tiny_ssd
from tests.zoo import small

pytest.importorskip('onnxruntime', reason='of the extra "export"')
pytest.importorskip('onnx', reason='of the extra "export"')


@pytest.fixture(scope='module')
def ssd(tmp_path_factory) -> Path:
    """A student, its pair's place, and a test set on which it has an mAP of 1."""
    from mmkd import load

    model = tiny_ssd()
    model['test_cfg'].update(nms_pre=20, max_per_img=20)
    root = tmp_path_factory.mktemp('cost')
    path = save(model, root, 'stretch', 'mmdet')
    truth_by(load(path, device='cpu'), root)
    return path


@pytest.fixture(scope='module')
def exported(ssd) -> Path:
    out = ssd.parent / 'student.onnx'
    assert main(['export', str(ssd), '--format', 'onnx', '--out', str(out), '--map-images', '0',
                 '--images', str(ssd.parent / 'images/1.png')]) == 0  # fmt: skip
    return out


@pytest.fixture(scope='module')
def two_stage(ssd, tmp_path_factory) -> Path:
    """A teacher that has no form as a graph."""
    root = tmp_path_factory.mktemp('teacher')
    model = small('faster_rcnn').to_dict()
    model['roi_head']['bbox_roi_extractor']['roi_layer']['pool_mode'] = 'max'
    config = config_for(model, ssd.parent, 'stretch', 'mmdet')
    with DefaultScope.overwrite_default_scope('mmdet'):
        weights = build_detector(config.model).state_dict()
    meta = dict(cfg=config.pretty_text, dataset_meta=dict(classes=CLASSES))
    save_checkpoint(dict(state_dict=weights, meta=meta), root / 'teacher.pth')
    return root / 'teacher.pth'


def convolutions(model: nn.Module, size: tuple[int, int]) -> int:
    """Multiplications of all convolutions, counted by what they give."""
    total, hooks = [], []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):

            def count(layer, _, out):
                inner = layer.in_channels // layer.groups * layer.kernel_size[0] ** 2
                total.append(out.numel() * inner)

            hooks.append(layer.register_forward_hook(count))
    with torch.no_grad():
        model.bbox_head(model.extract_feat(torch.zeros(1, 3, *size)))
    for hook in hooks:
        hook.remove()
    return sum(total)


def test_the_figures_are_those_of_the_detector(ssd, tmp_path):
    one = open_contender(Contender('Student', str(ssd)), tmp_path)
    model = one.trained.model
    assert one.size == (64, 64) and not one.notes
    assert one.parameters == sum(p.numel() for p in model.parameters())
    own = convolutions(model, one.size)
    assert own <= one.macs < 1.1 * own
    assert one.bytes == one.exported.stat().st_size > 3 * one.parameters  # unused ones are left out
    larger = open_contender(Contender('Student', str(ssd)), tmp_path, (128, 64))
    assert larger.size == (128, 64) and 1.8 * one.macs < larger.macs < 2.1 * one.macs


def test_without_onnxruntime_there_is_pytorch(ssd, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    one = open_contender(Contender('Student', str(ssd)), tmp_path)
    assert one.exported is None and 'onnxruntime, which is not installed' in one.notes[0]
    assert one.parameters and one.bytes > 4 * one.parameters
    assert one.graph is not None and isinstance(one.graph, RowsGraph)


def test_suppression_that_no_file_states_leaves_the_other_figures(ssd, tmp_path):
    config = Config.fromstring(read_checkpoint(str(ssd))['meta']['cfg'], '.py')
    config.model.test_cfg.nms.type = 'soft_nms'
    one = open_contender(Contender('Student', str(ssd), config), tmp_path)
    assert one.exported is None and "its test_cfg has 'soft_nms'" in one.notes[0]
    assert one.macs and one.parameters and isinstance(one.graph, RowsGraph)


def test_a_table_of_all_kinds(ssd, exported, two_stage, tmp_path, monkeypatch, capsys):
    """A two-stage teacher, a student and its exported file, with their mAP."""
    monkeypatch.chdir(tmp_path)
    command = ['benchmark', str(ssd), str(exported), '--teacher', str(two_stage), '--rounds', '3']
    command += ['--data', str(write_data(ssd, tmp_path)), '--out', 'costs.json']
    assert main(command) == 0
    out = capsys.readouterr().out
    assert 'its latency by PyTorch has suppression in it' in out
    assert 'Written: costs.json, costs.png' in out and Path('costs.png').stat().st_size > 1000
    teacher, student, file = json.loads(Path('costs.json').read_text())['detectors']
    assert [one['role'] for one in (teacher, student, file)] == ['Teacher', 'Student', 'Student']
    kinds = [{(t['program'], t['threads']) for t in one['latencies']} for one in
             (teacher, student, file)]  # fmt: skip
    counts = thread_counts()
    assert kinds[0] == {('PyTorch', count) for count in counts}
    assert kinds[2] == {('onnxruntime', count) for count in counts}
    assert kinds[1] == kinds[0] | kinds[2]
    for one in (teacher, student, file):
        assert all(0 < t['median'] <= t['p95'] and t['rounds'] == 3 for t in one['latencies'])
    assert student['map'] > 0.9 and file['map'] > 0.9 > teacher['map']
    assert file['parameters'] is None and student['bytes'] == file['bytes']
    with pytest.raises(FileExistsError, match=r'costs\.json exists.*--force'):
        main(command)


def write_data(ssd: Path, folder: Path) -> Path:
    """The test set as a config of its own."""
    config = config_for(dict(type='none'), ssd.parent, 'stretch', 'mmdet')
    config.pop('model')
    (folder / 'data.py').write_text(config.pretty_text)
    return folder / 'data.py'


def test_the_map_is_taken_from_results(ssd, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('r.json').write_text('{"coco/bbox_mAP_50": 0.9, "coco/bbox_mAP": 0.625}')
    command = ['benchmark', str(ssd), '--rounds', '1', '--results']
    assert main([*command, 'r.json']) == 0
    assert '0.625' in capsys.readouterr().out
    Path('none.json').write_text('[1]')
    for words, error, told in (
        (['r.json', 'r.json'], ValueError, 'must be one file for each detector, .* but got 2'),
        (['lost.json'], FileNotFoundError, r'there is no "lost\.json"'),
        (['none.json'], ValueError, r'with an mAP, but "none\.json" has none'),
    ):
        with pytest.raises(error, match=told):
            main([*command, *words])


def test_what_cannot_be_is_told_before_work_starts(ssd, exported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, error, told in (
        (['lost.pth'], FileNotFoundError, 'the detector must be an existing file'),
        ([str(ssd), '--out', 'costs.txt'], ValueError, r'must be named NAME\.json'),
        ([str(exported), '--size', '32', '32'], ValueError, 'takes 64 64, and got 32 32'),
    ):
        with pytest.raises(error, match=told):
            main(['benchmark', *words])
    for words, told in (
        (['a.py'], r'after the config a\.py its checkpoint must come'),
        (['a.py', 'b.py', 'c.pth'], r'after the config a\.py its checkpoint'),
        ([str(ssd), '--size', '0', '8'], 'must be two numbers above 0'),
        ([str(ssd), '--map-images', '-2'], '0 or more, but got -2'),
    ):
        with pytest.raises(SystemExit):
            main(['benchmark', *words])
        assert told.replace('\\', '') in capsys.readouterr().err


def test_a_test_set_that_is_not_here_is_told(ssd, tmp_path):
    copied = tmp_path / 'student.pth'
    held = torch.load(ssd, weights_only=False)
    held['meta']['cfg'] = held['meta']['cfg'].replace(str(ssd.parent), '/nowhere')
    torch.save(held, copied)
    [cost] = measure_costs([Contender('Student', str(copied))], rounds=1, images=None)
    assert cost.map is None and 'mAP was not measured: the test set is not here' in cost.notes[0]


@pytest.mark.parametrize('file', [False, True])
def test_the_test_set_of_another_config_has_its_own_order_and_scope(ssd, exported, tmp_path, file):
    """Classes are found by name, and the detector's transforms where they are registered."""
    data = config_for(dict(type='none'), ssd.parent, 'stretch', 'mmdet')
    data.test_dataloader.dataset.metainfo = dict(classes=CLASSES[::-1])
    one = open_contender(Contender('Student', str(exported if file else ssd)), tmp_path)
    if one.trained is not None:
        for key in ('val_dataloader', 'test_dataloader'):
            one.trained.config[key].dataset.pipeline[-1].type = 'PackDetInputs'  # of mmdet alone
    data.default_scope = 'mmengine'
    assert measured_map(one, data, None) > 0.9


def test_threads_are_as_before_and_each_detector_is_measured(tmp_path):
    class Graph(nn.Module):
        seen: list[int] = []

        def forward(self, image):
            assert image.shape == (1, 3, 8, 16) and image.dtype == torch.uint8
            self.seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    one = Opened(Contender('Student', 'a/b.pth'), (8, 16), graph=Graph())
    [found] = latencies([one], rounds=2, limit=60)
    assert torch.get_num_threads() == before
    assert [time.threads for time in found] == thread_counts()
    assert Graph.seen == [count for count in thread_counts() for _ in range(3)]


def cost(**changes) -> Cost:
    times = (Latency('PyTorch', 1, 8.0, 9.0, 5), Latency('onnxruntime', 1, 2.0, 2.5, 5))
    values = dict(role='Student', name='a/s.pth', size=(64, 96), parameters=1_500_000,
                  macs=2_000_000_000, bytes=6_000_000, suppresses=False, latencies=times,
                  map=0.5, notes=())  # fmt: skip
    return Cost(**{**values, **changes})


def test_the_table_and_the_picture(tmp_path):
    teacher = cost(role='Teacher', parameters=None, macs=None, map=None, suppresses=True,
                   latencies=(Latency('PyTorch', 1, 80.0, 90.0, 5),), notes=('why',))  # fmt: skip
    assert cost_table([teacher, cost()]) == [
        ['', 'Teacher: a/s.pth', 'Student: a/s.pth'],
        ['input', '64 x 96', '64 x 96'],
        ['parameters', '-', '1.50 M'],
        ['MACs', '-', '2.00 G'],
        ['file', '6.00 MB', '6.00 MB'],
        ['PyTorch, 1 thread', '80.00 ms (90.00)', '8.00 ms (9.00)'],
        ['onnxruntime, 1 thread', '-', '2.00 ms (2.50)'],
        ['mAP', '-', '0.500'],
    ]
    assert cost_notes([teacher])[0] == 'a/s.pth: why' and len(cost_notes([teacher])) == 2
    assert cost().latency().program == 'onnxruntime'
    assert not draw_costs(tmp_path / 'a.png', [teacher])
    assert draw_costs(tmp_path / 'a.png', [teacher, cost()]) and (tmp_path / 'a.png').is_file()


@pytest.mark.parametrize('width', [20, 45, 80])
def test_a_narrow_terminal_cuts_nothing(width):
    console = Console(width=width, file=io.StringIO(), record=True)
    header, *rows = cost_table([cost(role='Teacher'), cost()])
    show_table(Section('Costs', header, rows), console)
    told = ''.join(console.export_text(clear=False).split())
    assert '…' not in told and told.count('8.00ms') == 2 and told.count('0.500') == 2
    assert max(map(len, console.export_text(clear=False).splitlines()), default=0) <= width


def test_no_objects_are_no_map():
    assert find_map({'coco/bbox_mAP': -1.0}) is None and find_map({'pascal_voc/mAP': 0.5}) == 0.5
    assert np.isclose(find_map({'coco/bbox_mAP': 0.0}), 0)


def test_a_pairs_checkpoint_gives_its_student(ssd, tmp_path):
    """Named with the config of the pair."""
    held = torch.load(ssd, weights_only=False)
    state = {f'architecture.{key}': value for key, value in held['state_dict'].items()}
    torch.save(dict(state_dict=state, meta=held['meta']), tmp_path / 'epoch_1.pth')
    shutil.copy(ssd, tmp_path / 'own.pth')
    Path(tmp_path / 'student.py').write_text(held['meta']['cfg'])
    one = open_contender(
        Contender('Student', str(tmp_path / 'epoch_1.pth'), tmp_path / 'student.py'), tmp_path
    )
    assert one.parameters == open_contender(Contender('', str(ssd)), tmp_path).parameters
