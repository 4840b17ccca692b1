"""What docs/any_teacher.md says of files of detections is done, at a small size."""

import json
import re
import shlex
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmrazor.registry import MODELS
from pycocotools.coco import COCO

from mmkd.algorithms.build_teacher import METHODS
from mmkd.config.given_teacher import is_given
from mmkd.datasets.mixed_batches import mixed_loader
from mmkd.detections.fitted import OTHER_CLASSES
from mmkd.detections.following import PASTING
from mmkd.teachers.onnx_description import Description
from mmkd_cli.main import main
from tests.predict.conftest import PLAIN
from tests.teachers.test_outside_detectors import model
from tests.tiny import ROOT

PAGE = (ROOT / 'docs/any_teacher.md').read_text()
FAST = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=2']
SMALLER = {
    'data digits': ['--train', '4', '--val', '2'],
    'train mmkd::ssd_r18w32_digits.py': [*FAST, 'model.test_cfg.nms_pre=5'],
    'train my_pair.py': [*FAST, 'model.architecture.test_cfg.nms_pre=5'],
    'label mmkd::ssd_r18w32_digits.py': ['--score-thr', '0.1'],
}


def blocks(kind: str) -> list[str]:
    return re.findall(rf'```{kind}\n(.*?)```', PAGE, re.S)


@pytest.fixture(scope='module')
def here(tmp_path_factory):
    """The folder in which the commands of the page were run."""
    pytest.importorskip('sklearn', reason='the digits need it')
    folder = tmp_path_factory.mktemp('page')
    [pair] = [block for block in blocks('python') if block.startswith('# my_pair.py')]
    (folder / 'my_pair.py').write_text(pair)
    with pytest.MonkeyPatch.context() as patch, PLAIN:
        patch.chdir(folder)
        patch.setattr(sys, 'excepthook', sys.excepthook)
        lines = blocks('bash')[0].replace('\\\n', '').splitlines()
        for words in (shlex.split(line)[1:] for line in lines):
            assert main([*words, *SMALLER.get(' '.join(words[:2]), [])]) == 0
            first = Path('work_dirs/ssd_r18w32_digits/epoch_1.pth')
            if first.is_file():
                shutil.copy(first, first.with_name('epoch_5.pth'))  # the end, as the page has it
    return folder


@pytest.fixture
def names(here, monkeypatch):
    monkeypatch.chdir(here)
    return {}


def test_the_first_commands(here):
    assert (here / 'work_dirs/my_pair/student.pth').is_file()
    found = json.loads((here / 'teacher.json').read_text())
    assert len(found['images']) == 4 and found['results']


def test_other_programs_take_the_results(here, names):
    [block] = [block for block in blocks('python') if 'loadRes' in block]
    exec(block, names)
    truth = COCO(str(here / 'data/digits/annotations/train.json'))
    assert len(truth.loadRes(names['rows']).anns) == len(names['rows'])


class Processor:
    """Stands for what transformers has: the page's calls, and what they give."""

    @classmethod
    def from_pretrained(cls, name):
        return cls()

    def __call__(self, images, return_tensors):
        assert return_tensors == 'pt' and all(image.shape[2] == 3 for image in images)
        # As its torchvision backend takes them: no array that is read backwards.
        return dict(pixel_values=torch.stack([torch.from_numpy(image) for image in images]))

    def post_process_object_detection(self, outputs, threshold, target_sizes):
        found = dict(
            boxes=torch.tensor([[1.0, 2, 30, 40]]),
            scores=torch.tensor([0.9]),
            labels=torch.tensor([3]),
        )
        return [found for _ in target_sizes]


class Model(torch.nn.Module):
    # COCO's table has numbers without a class, some of which a config may leave out
    config = types.SimpleNamespace(id2label={0: 'N/A', 1: 'person', 2: 'N/A', 3: 'three', 5: 'N/A'})

    @classmethod
    def from_pretrained(cls, name):
        return cls()

    def forward(self, pixel_values):
        return pixel_values


def test_a_function_of_hugging_face(names, monkeypatch):
    library = types.ModuleType('transformers')
    library.AutoImageProcessor, library.AutoModelForObjectDetection = Processor, Model
    monkeypatch.setitem(sys.modules, 'transformers', library)
    for block in blocks('python'):
        if 'processor' in block or 'label_images' in block:
            exec(block, names)
    found = json.loads(Path('detr.json').read_text())
    assert len(found['results']) == 4 and found['results'][0]['category_name'] == 'three'
    assert found['classes'] == ['N/A 0', 'person', 'N/A 2', 'three', 'class 4', 'N/A 5']
    [block] = [block for block in blocks('python') if 'processor' in block]
    assert len([line for line in block.splitlines()[:-8] if line]) <= 10


def test_a_described_file_labels(names):
    [told] = blocks('json')
    Path('detector.json').write_text(told)
    described = Description.of(json.loads(told))
    outputs = dict(boxes=[[5, 10, 20, 25]], scores=[[0.1] * 9 + [0.9]])
    model('detector.onnx', outputs, size=described.size)
    words = ['label', 'detector.onnx', 'data/digits/JPEGImages', '--describe', 'detector.json']
    assert main([*words, '--out', 'onnx.json']) == 0
    rows = json.loads(Path('onnx.json').read_text())['results']
    assert rows and {row['category_name'] for row in rows} == {'nine'}
    [table] = re.findall(r'\| key \| meaning.*?\n((?:\|.*\n)+)', PAGE)
    named = set(re.findall(r'`(\w+)`', ' '.join(line.split('|')[1] for line in table.splitlines())))
    assert named == set(Description.__dataclass_fields__) - {'session', 'objectness'}


def test_each_live_teacher_is_one(tmp_path):
    [block] = [block for block in blocks('python') if 'my_package.detect' in block]
    lines = [line for line in block.splitlines() if line]
    assert len(lines) == 3
    for line in lines:
        given = re.search(r'teacher=(.*?)\)(?:  #.*)?$', line)
        assert is_given(eval(given[1] + (')' if given[1].count('(') > given[1].count(')') else '')))


def test_unlabelled_images(here, names):
    [line] = [block for block in blocks('python') if 'unlabelled=' in block]
    pair = Path('my_pair.py').read_text()
    Path('more.py').write_text(pair[: pair.index('model = ')] + line)
    shutil.copytree('data/digits/JPEGImages', 'photos')
    cfg = Config.fromfile('more.py')
    made = mixed_loader(cfg)
    half = cfg.train_dataloader.batch_size // 2
    assert (made.sampler.labelled, made.sampler.unlabelled) == (half, half)
    assert MODELS.build(cfg.model).labelled_loss.mixed
    [line] = [block for block in blocks('python') if 'missed_objects=' in block]
    Path('missed.py').write_text(pair[: pair.index('model = ')] + line)
    own = MODELS.build(Config.fromfile('missed.py').model).labelled_loss
    assert not own.mixed and own.missed.score_thr == 0.6


def test_the_rules_are_those_of_the_code():
    assert all(f'`{name}`' in PAGE for name in (*METHODS, *PASTING))
    assert 'left out with a count' in PAGE and 'student does not have' in OTHER_CLASSES
    for name in METHODS:
        found = Config.fromfile(ROOT / f'configs/_base_/methods/{name}.py')
        kinds = {r['type'] for r in found.distiller.teacher_recorders.values()}
        assert kinds == {'Predictions'}
