"""The examination of a pair: a good one passes, and each broken one is told its remedy."""

import json
import logging
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch import nn

from mmkd.doctor.check_pictures import pixels
from mmkd.doctor.models import check_weights
from mmkd.doctor.report import Finding, Section, finding_of, text
from mmkd.hooks.pair_report_hook import PairReportHook
from mmkd.visualization.overlays import over_image
from mmkd_cli.main import main
from tests.cli.test_tools import CLASSES, DETECTOR, readme_pair, run
from tests.tiny import ROOT, raw_batch, tiny_pair, tiny_ssd, write_coco

pytestmark = pytest.mark.usefixtures('mmdet_scope')

TEACHER = 'work_dirs/my_teacher/epoch_1.pth'


class Factor(nn.Module):
    """A loss that is ``factor`` times the sum of the student's maps."""

    def __init__(self, factor: float, loss_weight: float = 1.0, **kwargs) -> None:
        super().__init__()
        self.factor, self.loss_weight = float(factor), loss_weight

    def forward(self, preds_S, preds_T, targets=None):
        return self.factor * self.loss_weight * sum(level.sum() for level in preds_S)


@MODELS.register_module(force=True)
class SpareResNet(ResNet):
    """A backbone with a part that nothing uses."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.spare = nn.Linear(1, 1)


@MODELS.register_module(force=True)
class AskingResNet(ResNet):
    """A backbone that counts steps by what a run tells."""

    def forward(self, x):
        hub = MessageHub.get_current_instance()
        assert hub.get_info('epoch') + hub.get_info('iter') == 0
        return super().forward(x)


MODELS.register_module('Factor', force=True, module=Factor)


def fit(config: Config, path: str, steps: int = 40) -> None:
    """Fit a detector to the training images, and save it as a training would."""
    config.work_dir, config.log_level = 'fit', 'ERROR'
    config.train_dataloader.batch_size = 4
    config.optim_wrapper.optimizer = dict(type='Adam', lr=0.002)
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=steps, val_interval=1000)
    config.default_hooks = dict(checkpoint=None, logger=None)
    config.randomness = dict(seed=0)
    runner = Runner.from_cfg(config)
    runner.train()
    Path(path).parent.mkdir(parents=True)
    runner.save_checkpoint(*map(str, (Path(path).parent, Path(path).name)), save_optimizer=False)


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """A user's folder with the README's pair and a teacher that knows its images."""
    folder = tmp_path_factory.mktemp('doctor')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_coco(Path('my_data'), 'train', 4, CLASSES, seed=1)
        write_coco(Path('my_data'), 'val', 2, CLASSES, seed=1)  # the first two of them
        for name, model in (
            ('my_teacher', tiny_ssd(width=16, std=1.0)),
            ('my_student', tiny_ssd(width=8)),
        ):
            detector = DETECTOR.replace('prob=0.5', 'prob=0.0')  # it knows no other images
            Path(f'{name}.py').write_text(detector.format(model=model, classes=CLASSES))
        wrong = (
            Path('my_teacher.py').read_text().replace("'std': [1.0, 1.0, 1.0]", "'std': [58.0] * 3")
        )
        Path('wrong_teacher.py').write_text(wrong)
        Path('my_pair.py').write_text(readme_pair())
        fit(Config.fromfile('my_teacher.py'), TEACHER)
        weights = torch.load(TEACHER, weights_only=False)['state_dict']
        torch.save(dict(state_dict=weights), 'bare.pth')
    return folder


@pytest.fixture
def check(folder, monkeypatch, capsys):
    """Call the tool in the user's folder; gives its exit status and what it prints."""
    monkeypatch.chdir(folder)

    def call(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(['check', *args])
        return status, capsys.readouterr().out

    return call


@pytest.fixture
def findings(check):
    """The findings of a pair changed by options, which must not be none."""

    def call(*options: str, images: int = 0) -> str:
        status, out = check(
            'my_pair.py', '--json', '--images', str(images), '--cfg-options', *options
        )
        found = [f for section in json.loads(out)['sections'] for f in section['findings']]
        assert status == 1 and found
        return '\n'.join(f'{f["severity"]}: {f["found"]} | {f["change"]}' for f in found)

    return call


def table(report: dict, title: str) -> dict[str, list]:
    """The rows of a section, by their first cell."""
    [section] = [section for section in report['sections'] if section['title'] == title]
    return {row[0]: row[1:] for row in section['rows']}


def test_a_good_pair(check):
    status, out = check('my_pair.py', '--json', '--show-dir', 'pictures')
    report = json.loads(out)
    assert report['ok'] and status == 0, out
    assert table(report, 'Weights')['teacher'][-1] == 1.0
    assert table(report, 'Preprocessing')['std'] == [[58.0] * 3, [1.0] * 3]
    assert table(report, 'Models')['strides'] == [[8, 16, 32, 64], [8, 16, 32, 64], True]
    rows = next(s['rows'] for s in report['sections'] if s['title'].startswith('mAP'))
    maps = {(model, way): value for model, way, value, _ in rows}
    through = maps['teacher', 'through the distillation pipeline']
    assert through > 0.1
    assert through == pytest.approx(maps['teacher', 'through its own preprocessing'], abs=0.02)
    assert all(images == 2 for *_, images in rows), 'there are no more'
    losses = table(report, 'Losses')
    assert losses['distill.loss_soft'][-1] == 0.3 and losses['distill.loss_soft'][2] > 0.001
    assert losses['all of the student'][2] == 1.0
    assert table(report, 'Statistics')['distill.bounded_active'][0] > 0
    assert table(report, 'Parameters')['without gradient'] == [0]
    assert table(report, 'Time of a step')['teacher'][0] > 0
    drawn = [cv2.imread(file) for file in table(report, 'Pictures')]
    assert len(drawn) == 2 and all(np.ptp(image) > 200 and image.std() > 20 for image in drawn)

    [page] = re.findall(r'```text\n(.*?)```', (ROOT / 'docs/doctor.md').read_text(), re.S)
    titles = [line for line in page.splitlines() if line[:1].isalpha()]
    assert titles[:-1] == [section['title'] for section in report['sections']]
    assert all(column in page for section in report['sections'] for column in section['columns'])
    assert titles[-1].startswith('All is well: ')


def test_the_report_shows_what_the_json_holds(check):
    options = ['my_pair.py', '--images', '0', '--cfg-options', 'model.teacher_ckpt=None']
    (status, out), (_, data) = check(*options), check(*options[:3], '--json', *options[3:])
    shown = ' '.join(out.split())
    assert status == 1
    for section in json.loads(data)['sections']:
        assert section['title'] in out
        for finding in section['findings']:
            assert f'{finding["severity"]}: {finding["found"]} {finding["change"]}' in shown
        for row in section['rows'] if section['title'] in ('Weights', 'Models', 'Records') else ():
            assert all(text(cell) in shown for cell in row)
    assert 'error: teacher_ckpt is not set' in shown and 'Set model.teacher_ckpt' in shown
    assert re.search(r'\d to change: my_pair.py', shown)


def test_a_missing_teacher_file(findings):
    found = findings('model.teacher_ckpt=nowhere.pth')
    assert 'there is no file "nowhere.pth"' in found
    assert '| Train or download it first, or correct the path.' in found


def test_a_wrong_setting_of_quantize(findings):
    found = findings('model.quantize.batches=-1')
    assert 'quantize.batches must be a number of batches, 0 or more, but got -1' in found


def test_a_mapping_to_nowhere(findings):
    found = findings('model.distiller.teacher_recorders.head.source=bbox_haed')
    assert 'got "bbox_haed"' in found and 'Nearest: bbox_head' in found


def test_a_step_that_fails_still_shows_the_shapes(check):
    option = 'model.distiller.loss_forward_mappings.loss_soft.preds_S.data_idx=None'
    status, out = check('my_pair.py', '--json', '--images', '0', '--cfg-options', option)
    last = json.loads(out)['sections'][-1]
    assert status == 1 and last['title'] == 'Mappings'
    assert [row[:3] for row in last['rows']][:2] == [
        ['loss_soft', 'preds_S', 'student'],
        ['loss_soft', 'preds_T', 'teacher'],
    ]
    assert 'Map the argument to a record that holds' in last['findings'][0]['change']


def test_a_teacher_of_other_classes_teaches_features_only(check, folder):
    """Its mAP has no meaning on this data; only the student's is measured."""
    teacher = DETECTOR.format(model=tiny_ssd(width=16, classes=5), classes=CLASSES)
    (folder / 'other.py').write_text(teacher)
    feature = "dict(type='ModuleOutputs', source='backbone')"
    (folder / 'features.py').write_text(f"""
_base_ = 'my_student.py'
model = dict(
    _delete_=True, _scope_='mmrazor', type='DetectionDistill', architecture=_base_.model,
    teacher='other.py', distiller=dict(
        type='ConfigurableDistiller',
        student_recorders=dict(f={feature}), teacher_recorders=dict(f={feature}),
        connectors=dict(a=dict(
            type='FeatureAdapter', in_channels=[16, 32, 64], out_channels=[32, 64, 128])),
        distill_losses=dict(loss_f=dict(type='PKDLoss', loss_weight=0.1)),
        loss_forward_mappings=dict(loss_f=dict(
            preds_S=dict(recorder='f', from_student=True, connector='a'),
            preds_T=dict(recorder='f', from_student=False)))))
""")
    _, out = check('features.py', '--json', '--images', '1')
    report = json.loads(out)
    [maps] = [section for section in report['sections'] if section['title'].startswith('mAP')]
    assert maps['rows'] == [['student', 'at its start', 0.0, 1]] and not maps['findings']
    assert maps['notes'] == ['The teacher is left out: it has 5 classes, the data 3.']
    assert table(report, 'Losses')['distill.loss_f'][2] > 0
    assert 'no loss of this pair logs any' in out


def test_a_teacher_with_another_normalisation(findings):
    """The file tells how the teacher was trained, and without that its mAP does."""
    wrong = 'model.teacher=wrong_teacher.py'
    told = findings(wrong, images=2)
    found = findings(wrong, 'model.teacher_ckpt_strict=False', images=2)
    assert 'teacher_ckpt must hold weights that mean in the teacher what they meant' in told
    assert 'std=[58.0, 58.0, 58.0], but its checkpoint was trained with [1.0, 1.0, 1.0]' in told
    assert (
        'has std=[58.0, 58.0, 58.0], but its checkpoint was trained with [1.0, 1.0, 1.0]' in found
    )
    assert '| Set std=[1.0, 1.0, 1.0] in data_preprocessor of the teacher' in found
    assert 'it has nothing to teach. The config has std=[58.0, 58.0, 58.0], but' in found
    assert '| Give teacher_ckpt a trained teacher' in found
    [only] = findings(wrong, 'model.teacher_ckpt=bare.pth', images=2).splitlines()
    assert 'mAP through the distillation pipeline' in only and 'data_preprocessor' in only


def test_a_translation_that_is_wrong_shows_in_the_mAP(findings, monkeypatch):
    monkeypatch.setattr(
        'mmkd.teachers.input_translation.InputTranslation.__call__', lambda self, inputs, *_: inputs
    )
    found = findings('model.teacher_ckpt=bare.pth', images=2)
    assert "on the student's images and" in found and 'behind its own data_preprocessor' in found


LOSS = 'model.distiller.distill_losses.loss_soft'


@pytest.mark.parametrize(
    'options, found, change',
    [
        ([f'{LOSS}.factor=0.0'], 'distill.loss_soft is 0 and gives', 'Map its first argument'),
        ([f'{LOSS}.factor=nan'], 'distill.loss_soft is nan', 'Look for a division by 0'),
        ([f'{LOSS}.factor=1e9'], 'times that of the student', 'instead of 0.3 would make them'),
    ],
)
def test_a_loss_of_no_use(findings, options, found, change):
    told = findings(f'{LOSS}.type=mmdet.Factor', *options)
    assert found in told and change in told


def test_a_part_that_no_loss_reaches(findings):
    [found] = findings('model.architecture.backbone.type=SpareResNet').splitlines()
    assert '2 parameters get no gradient: architecture.backbone.spare.weight' in found
    assert '| Take out or freeze' in found


@pytest.mark.parametrize(
    'options',
    [
        # As of mmdet's YOLOv3 on MobileNetV2, whose config says so.
        ['model.architecture.backbone.type=SpareResNet', 'find_unused_parameters=True'],
        # As heads of TOOD, YOLOv6 and PPYOLOE do, and the preprocessing of YOLOX.
        ['model.architecture.backbone.type=AskingResNet'],
        ['model.quantize.batches=1'],
    ],
)
def test_what_detectors_of_mmdet_do_is_well(check, options):
    status, out = check('my_pair.py', '--json', '--images', '0', '--cfg-options', *options)
    assert status == 0, out


def test_a_key_without_loss_is_no_loss(check, folder):
    rename = """
for part in (_base_.distiller.distill_losses, _base_.distiller.loss_forward_mappings):
    part['soft'] = part.pop('loss_soft')
"""
    pair = (folder / 'my_pair.py').read_text().replace('model = pair(', f'{rename}model = pair(')
    (folder / 'unnamed.py').write_text(pair)
    status, out = check('unnamed.py', '--json', '--images', '0')
    assert status == 1 and 'distill_losses.soft is not back-propagated' in out
    assert 'Rename it to loss_soft' in out


def test_what_is_no_pair(check):
    for config, told in (('my_student.py', 'must be a distillation pair'), ('no.py', 'no.py')):
        status, out = check(config)
        assert status == 1 and told in out and 'Traceback' not in out


def test_training_starts_with_the_cheap_part(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv', sys.argv)
    run('train', 'my_pair.py')
    [log] = Path('work_dirs/my_pair').glob('2*/*.log')
    told = log.read_text()
    assert 'Weights: teacher: file work_dirs/my_teacher/epoch_1.pth' in told
    assert 'Preprocessing: std: student [58, 58, 58], teacher [1, 1, 1]' in told
    assert told.count('First step: ') == 1 and 'distill.loss_soft' in told
    exported = Config.fromfile('work_dirs/my_pair/student.py')
    assert 'pair_report' not in exported.default_hooks, 'mmdet does not know it'


@pytest.mark.parametrize(
    'soft, bounded, told',
    [
        (0.0, 0.0, 'loss_soft, distill.loss_bounded are exactly 0'),
        (math.nan, 1.0, 'must be finite at the first step, but got distill.loss_soft = nan'),
    ],
)
def test_training_stops_where_nothing_is_taught(soft, bounded, told):
    pair = MODELS.build(tiny_pair())
    runner = SimpleNamespace(model=pair, logger=logging.getLogger('hook'), iter=0)
    outputs = {'distill.loss_soft': soft, 'distill.loss_bounded': bounded, 'loss': 1.0}
    hook = PairReportHook()
    hook.after_train_iter(runner, 0, raw_batch(boxes=0), outputs)  # without objects 0 is right
    with pytest.raises(ValueError, match=told):
        hook.after_train_iter(runner, 1, raw_batch(), outputs)
    hook.after_train_iter(runner, 2, raw_batch(), outputs)  # the first step only


def test_training_goes_on_where_something_is_taught_or_nothing_is_meant_to(caplog):
    pair = MODELS.build(tiny_pair())
    runner = SimpleNamespace(model=pair, logger=logging.getLogger('hook'), iter=0)
    outputs = {'distill.loss_soft': 1.0, 'distill.loss_bounded': 0.0}
    PairReportHook().after_train_iter(runner, 0, raw_batch(), outputs)
    assert 'Exactly 0 at the first step: distill.loss_bounded' in caplog.text
    for loss in pair.distiller.distill_losses.values():
        loss.loss_weight = 0.0
    PairReportHook().after_train_iter(runner, 0, raw_batch(), {**outputs, 'distill.loss_soft': 0.0})


def test_a_teacher_of_other_classes_or_in_another_order(tmp_path):
    path = str(tmp_path / 'named.pth')
    weights = MODELS.build(tiny_ssd(width=16, std=1.0)).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=CLASSES))), path)
    pair = MODELS.build(tiny_pair(teacher_ckpt=path))
    for classes, severity in (
        (CLASSES[::-1], ['error']),
        (('x', 'y', 'z'), ['warning']),
        ((*CLASSES, 'x'), []),
        (CLASSES, []),
    ):
        section = Section('Weights')
        check_weights(section, pair, {}, classes)
        found = [f for f in section.findings if 'metainfo.classes' in f.found]
        assert [f.severity for f in found] == severity


def test_weights_that_only_partly_fit(tmp_path):
    path = str(tmp_path / 'part.pth')
    weights = MODELS.build(tiny_ssd(width=16, std=1.0)).state_dict()
    lost = next(iter(weights))
    torch.save(dict(state_dict={k: v for k, v in weights.items() if k != lost}), path)
    section = Section('Weights')
    pair = MODELS.build(tiny_pair(teacher_ckpt=path, teacher_ckpt_strict=False))
    check_weights(section, pair, {})
    assert section.rows[0][2:4] == [len(weights) - 1, len(weights)]
    assert lost in section.findings[0].found


@pytest.mark.parametrize('lean', [None, {}, dict(dtype='bfloat16')])
def test_a_lean_teacher_is_looked_at_as_its_file_has_it(tmp_path, lean):
    path = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=MODELS.build(tiny_pair()).teacher.state_dict()), path)
    config = tiny_pair(teacher_ckpt=path, lean_teacher=lean)
    section = Section('Weights')
    check_weights(section, MODELS.build(config), {})
    assert section.rows[0][-1] == 1.0 and not section.findings


@pytest.mark.parametrize(
    'error, found, change',
    [
        (ValueError('a must be b.c, got d. Set e.f.'), 'a must be b.c, got d.', 'Set e.f.'),
        (KeyError('x'), "KeyError: 'x'.", 'Correct what the message names.'),
    ],
)
def test_an_error_becomes_a_finding(error, found, change):
    assert finding_of(error) == Finding('error', found, change)


def test_cells_are_drawn_where_their_priors_are():
    """A cell of 4 pixels: around its middle, or around its corner where the prior is there."""
    cell = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])
    for offset, first in ((0.5, 4), (0.0, 2)):
        drawn = over_image(cell, (8, 8), offset)[0]
        assert drawn.nonzero()[0].tolist() == [first, first]
    seen = over_image([cell, torch.full((1, 1, 1, 1), 0.5)], (8, 8), 0.5)[0]
    assert seen.unique().tolist() == [0.5, 1.0], 'the highest of the levels'


def test_pixels_are_those_of_the_file():
    pair = MODELS.build(tiny_pair())
    raw = raw_batch(1)
    image = raw['inputs'][0].flip(0).permute(1, 2, 0) / 255  # BGR to RGB
    data = pair.data_preprocessor(raw, training=True)
    torch.testing.assert_close(pixels(data['inputs'], pair)[0], image, atol=1e-3, rtol=0)
