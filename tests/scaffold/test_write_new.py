"""``mmkd new``: what is written fits its data, trains as it is, and is said why."""

import ast
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.config.read_config import read_config
from mmkd.datasets.data_checks import check_data
from mmkd.doctor.check_priors import COLUMNS, check_priors
from mmkd.doctor.report import Report
from mmkd.scaffold.recipes import RECIPES, Asked, detectors
from mmkd_cli.main import main
from mmkd_cli.new import HEADS
from tests.scaffold.sets import images, write_coco, write_labels

NEW = ('new', 'data', '--out', 'my', '--offline')


def new(*words) -> int:
    return main([*NEW, *words])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['mmkd'])
    return tmp_path


def data(sizes, **settings):
    made = images(Path('data/images'), sizes, **settings)
    write_coco(Path('data/all.json'), *made)
    return made


def needs(head: str) -> None:
    if head == 'yolov5':
        pytest.importorskip('mmyolo')


def findings(config: Config) -> list:
    """What the doctor says of the priors."""
    with DefaultScope.overwrite_default_scope(config.default_scope):
        dataset = DATASETS.build(config.train_dataloader.dataset)
    with Report('').section('priors', *COLUMNS) as section:
        check_priors(section, build_detector(config.model), dataset)
    assert section.rows, section.notes
    return section.findings


def test_the_heads_of_the_command_are_those_of_the_recipes():
    assert set(HEADS) == set(RECIPES)


@pytest.mark.parametrize('head', HEADS)
def test_a_pair_of_each_head_is_trained_as_it_is_written(here, head, capsys):
    needs(head)
    data([(160, 120)] * 10)
    assert new('--head', head) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    written = [line.split(':')[0] for line in out.splitlines() if line.endswith(': written')]
    parts = [f'my/annotations/{part}.json' for part in ('train', 'val')]
    assert written == ['my/README.md', *parts, 'my/pair.py', 'my/student.py', 'my/teacher.py']
    for name in ('student', 'teacher', 'pair'):
        lines = Path(f'my/{name}.py').read_text().splitlines()
        assert len(lines) < 110 and max(map(len, lines)) <= 100
    assert findings(read_config('my/student.py')) == []
    pair = read_config('my/pair.py')
    teacher = build_detector(read_config('my/teacher.py').model)
    Path(pair.model.teacher_ckpt).parent.mkdir(parents=True)
    torch.save(dict(state_dict=teacher.state_dict(), meta={}), pair.model.teacher_ckpt)
    main(['train', 'my/pair.py', '--epochs', '1'])
    assert Path('my/work_dirs/pair/student.pth').is_file()


def test_nothing_is_overwritten(here, capsys):
    data([(64, 48)] * 4)
    Path('my').mkdir()
    Path('my/student.py').write_text('mine')
    assert new() == 1
    assert 'my/student.py exists' in capsys.readouterr().err
    assert [p.name for p in Path('my').iterdir()] == ['student.py']
    assert Path('my/student.py').read_text() == 'mine'
    before = {path: path.read_bytes() for path in Path('data').rglob('*') if path.is_file()}
    assert new('--force') == 0
    assert Path('my/student.py').read_text() != 'mine'
    assert {path: path.read_bytes() for path in Path('data').rglob('*') if path.is_file()} == before
    assert sorted(path.name for path in here.iterdir()) == ['data', 'my']


def test_data_in_the_folder_that_is_written(here, capsys):
    """What was written is not read as data."""
    data([(64, 48)] * 6)
    for out in ('data/my', 'data/my --force', 'data/other', 'data', './data --force'):
        words = ['--out', *out.split()]
        assert main(['new', 'data', '--offline', *words]) == 0, capsys.readouterr().err
    assert 'COCO, 2 classes' in capsys.readouterr().out
    dataset = read_config('data/student.py').train_dataloader.dataset
    image = json.loads(Path('data/annotations/train.json').read_text())['images'][0]
    assert Path(dataset.data_prefix.img, image['file_name']).is_file()


def test_paths_may_hold_what_python_reads_otherwise(here, capsys):
    name = 'it\'s "a\\users" {x} Bär """{{ fileBasename }}\\'
    made = images(Path(name, 'images'), [(64, 48)] * 4)
    write_coco(Path(name, 'all.json'), *made)
    out = Path(name, 'my')
    assert main(['new', name, '--out', str(out), '--offline']) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    for file in ('student', 'teacher', 'pair'):
        config = read_config(out / f'{file}.py')
        path = shlex.quote((out / f'{file}.py').as_posix())
        assert f'mmkd train {path}\n' in ast.get_docstring(
            ast.parse((out / f'{file}.py').read_text())
        )
        assert config.work_dir == str(here / out / 'work_dirs' / file)
        check_data(config, ['train', 'val'])
    assert config.model.teacher == str(here / out / 'teacher.py')
    assert f'mmkd check {path}\n' in (out / 'README.md').read_text()
    assert f'mmkd compare {path} ' in told


def test_twins_across_given_parts_are_told(here, capsys):
    paths, objects = data([(160, 120)] * 6)
    Path('data/all.json').unlink()
    for i in range(2):
        paths.append(paths[i].with_name(f'copy{i}.jpg'))
        paths[-1].write_bytes(paths[i].read_bytes())
        objects.append(objects[i])
    for part, at in (('train', slice(5)), ('val', slice(5, 8))):
        write_coco(Path(f'data/{part}.json'), paths[at], objects[at])
    assert new() == 0
    told = '2 of 5 training images have a twin in another part'
    assert f'note: {told}' in capsys.readouterr().out
    assert told in Path('my/README.md').read_text()


def test_the_configs_do_not_depend_on_where_one_is(here, monkeypatch):
    """Nor are images without an object lost, and crowds; names may be of any kind."""
    names = ('red fox', 'Bär', 'say "hi"', "it's", 'a|b', '{x}', 'back\\slash', '日本')
    paths, objects = images(Path('data/images'), [(64, 48)] * 6, classes=names, each=8)
    objects[3] = []
    write_coco(Path('data/all.json'), paths, objects)
    content = json.loads(Path('data/all.json').read_text())
    content['annotations'][0]['iscrowd'] = 1
    Path('data/all.json').write_text(json.dumps(content))
    assert new() == 0
    Path('my').rename('yours')
    monkeypatch.chdir(here / 'yours')
    found = [json.loads(Path(f'annotations/{p}.json').read_text()) for p in ('train', 'val')]
    assert sum(len(part['images']) for part in found) == 6
    crowds = [a['iscrowd'] for part in found for a in part['annotations']]
    assert sum(crowds) == 1 and len(crowds) == 40
    dataset = read_config('student.py').train_dataloader.dataset
    assert set(dataset.metainfo.classes) == set(names)
    assert [one['name'] for one in found[0]['categories']] == sorted(names)
    assert '| a\\|b |' in Path('README.md').read_text()
    for image in found[0]['images']:
        assert Path(dataset.data_prefix.img, image['file_name']).is_file()


def test_what_fails_leaves_nothing(here, capsys, monkeypatch):
    data([(64, 48)] * 4)
    monkeypatch.setattr(sys.modules['mmkd.scaffold.write_new'], 'check_pair', _fail)
    assert new() == 1
    assert 'mmkd new: my/pair.py is wrong' in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ['data']


def _fail(path, *args):
    raise ValueError(f'{path} is wrong')


LARGE = dict(classes=('dog',), each=1, share=(0.6, 0.95))
SETS = {
    'large objects of one class': ([(160, 120)] * 40, LARGE, 'ssd'),
    'tiny objects, ssd': ([(320, 240)] * 4, dict(each=20, share=(0.015, 0.03)), 'ssd'),
    'tiny objects, rtmdet': ([(320, 240)] * 4, dict(each=20, share=(0.015, 0.03)), 'rtmdet'),
    'tall images': ([(60, 240)] * 20, {}, 'ssd'),
    'wide images, fcos': ([(480, 60)] * 20, {}, 'fcos'),
    'images of many sizes': ([(60 + 9 * i, 200 - 6 * i) for i in range(20)], {}, 'retinanet'),
}


@pytest.mark.parametrize('name', SETS)
def test_priors_fit_whatever_the_objects(here, name, capsys):
    sizes, settings, head = SETS[name]
    data(sizes, **settings)
    assert new('--head', head) == 0, capsys.readouterr().err
    assert 'note: ' not in capsys.readouterr().out
    assert findings(read_config('my/student.py')) == []


@pytest.mark.parametrize('head', ['ssd', 'yolov5'])
def test_images_that_stand_and_images_that_lie_have_one_input(here, head, capsys):
    """MMYOLO stacks them, and a long side is long whichever way it lies."""
    needs(head)
    data([(160, 120), (120, 160), (120, 160)] * 4)
    assert new('--head', head) == 0, capsys.readouterr().err
    assert 'in a square, since some stand and others lie' in capsys.readouterr().out
    config = read_config('my/student.py')
    with DefaultScope.overwrite_default_scope(config.default_scope):
        dataset = DATASETS.build(config.train_dataloader.dataset)
    width, height = config.train_pipeline[2].scale
    assert {tuple(dataset[i]['inputs'].shape) for i in range(len(dataset))} == {(3, height, width)}


def test_a_yolo_folder_gives_the_same_as_a_coco_file(here, capsys):
    paths, objects = data([(64, 48)] * 6)
    assert new() == 0
    Path('data/all.json').unlink()
    write_labels(Path('data/labels'), paths, objects, ('ant', 'bee'))
    Path('data/data.yaml').write_text('names: [ant, bee]\ntrain: images\n')
    assert main(['new', 'data/data.yaml', '--out', 'yolo', '--offline']) == 0
    for name in ('student.py', 'teacher.py', 'pair.py'):
        assert (
            Path('yolo', name).read_text().replace('yolo/', 'my/') == Path('my', name).read_text()
        )


def test_weights_by_address_and_where_there_are_none(here, capsys):
    data([(64, 48)] * 4)
    assert main(['new', 'data', '--out', 'my']) == 0
    out = capsys.readouterr().out
    assert 'student: SSD on a ResNet-18 of width 8, weights from scratch: nobody has' in out
    assert 'weights ImageNet, https://download.pytorch.org/models/resnet18' in out
    teacher = read_config('my/teacher.py').model
    assert teacher.backbone.init_cfg.checkpoint.startswith('https://')
    assert teacher.data_preprocessor.mean[0] == 123.675
    assert 'init_cfg' not in read_config('my/student.py').model.backbone


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('size', ['small', 'medium'])
def test_weights_are_there_or_it_is_said_why_not(head, size):
    needs(head)
    asked = Asked(head, size, False, 2, (64, 64), (8, 16, 32), {})
    for detector in detectors(asked):
        addresses = re.findall(r"'checkpoint': '(.*?)'", str(detector.model))
        assert len(addresses) == ('https://' in detector.weights)
        assert all(address in detector.weights for address in addresses)
        assert addresses or detector.weights.startswith('from scratch: nobody has')
    assert addresses, 'the teacher has some'
    for detector in detectors(asked._replace(offline=True)):
        assert 'http' not in str(detector)
