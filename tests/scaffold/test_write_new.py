"""``mmkd new``: what is written fits its data, trains as it is, and is said why."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.config.read_config import read_config
from mmkd.doctor.check_priors import COLUMNS, check_priors
from mmkd.doctor.report import Report
from mmkd_cli.main import main
from mmkd_cli.new import HEADS
from mmkd.scaffold.recipes import RECIPES
from tests.scaffold.sets import pictures, write_coco, write_labels, write_voc

NEW = ('new', 'data', '--out', 'my', '--offline')


def new(*words) -> int:
    return main([*NEW, *words])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['mmkd'])
    return tmp_path


def data(sizes, **settings):
    made = pictures(Path('data/images'), sizes, **settings)
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


def test_what_fails_leaves_nothing(here, capsys, monkeypatch):
    data([(64, 48)] * 4)
    monkeypatch.setattr('mmkd.scaffold.write_new.check_pair', _fail)
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
    'tall pictures': ([(60, 240)] * 20, {}, 'ssd'),
    'wide pictures, fcos': ([(480, 60)] * 20, {}, 'fcos'),
    'pictures of many sizes': ([(60 + 9 * i, 200 - 6 * i) for i in range(20)], {}, 'retinanet'),
}


@pytest.mark.parametrize('name', SETS)
def test_priors_fit_whatever_the_objects(here, name, capsys):
    sizes, settings, head = SETS[name]
    data(sizes, **settings)
    assert new('--head', head) == 0, capsys.readouterr().err
    assert 'note: ' not in capsys.readouterr().out
    assert findings(read_config('my/student.py')) == []


def test_names_of_all_kinds_and_few_pictures(here, capsys):
    names = ('red fox', 'Bär', 'say "hi"', "it's", 'a|b', '{x}', 'back\\slash', '日本')
    data([(64, 48)] * 5, classes=names, each=8)
    assert new() == 0, capsys.readouterr().err
    config = read_config('my/student.py')
    assert set(config.train_dataloader.dataset.metainfo.classes) == set(names)
    assert '| a\\|b |' in Path('my/README.md').read_text()
    categories = json.loads(Path('my/annotations/val.json').read_text())['categories']
    assert [one['name'] for one in categories] == sorted(names)


def test_voc_and_yolo_give_the_same_as_coco(here, capsys):
    paths, objects = data([(64, 48)] * 6)
    assert new() == 0
    Path('data/all.json').unlink()
    write_voc(Path('data/Annotations'), paths, objects)
    assert main(['new', 'data', '--out', 'voc', '--offline']) == 0
    shutil.rmtree('data/Annotations')
    write_labels(Path('data/labels'), paths, objects, ('ant', 'bee'))
    Path('data/data.yaml').write_text('names: [ant, bee]\ntrain: images\n')
    assert main(['new', 'data/data.yaml', '--out', 'yolo', '--offline']) == 0
    for name in ('student.py', 'teacher.py', 'pair.py'):
        own = Path('my', name).read_text()
        for out in ('voc', 'yolo'):
            assert Path(out, name).read_text().replace(f'{out}/', 'my/') == own
    for part in ('train', 'val'):
        own = json.loads(Path(f'my/annotations/{part}.json').read_text())
        assert json.loads(Path(f'voc/annotations/{part}.json').read_text()) == own


def test_pictures_without_an_object_and_crowds_are_kept(here):
    paths, objects = pictures(Path('data/images'), [(64, 48)] * 12)
    objects[3] = []
    write_coco(Path('data/all.json'), paths, objects)
    content = json.loads(Path('data/all.json').read_text())
    content['annotations'][0]['iscrowd'] = 1
    Path('data/all.json').write_text(json.dumps(content))
    assert new() == 0
    found = [json.loads(Path(f'my/annotations/{p}.json').read_text()) for p in ('train', 'val')]
    assert sum(len(part['images']) for part in found) == 12
    crowds = [a['iscrowd'] for part in found for a in part['annotations']]
    assert sum(crowds) == 1 and len(crowds) == 22


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
    assert main(['new', 'data', '--out', 'two', '--head', 'rtmdet', '--size', 'medium']) == 0
    for name in ('student', 'teacher'):
        address = read_config(f'two/{name}.py').model.init_cfg.checkpoint
        assert address.startswith('https://download.openmmlab.com/mmdetection/v3.0/rtmdet/')
    assert main(['new', 'data', '--out', 'off', '--head', 'rtmdet', '--offline']) == 0
    assert 'http' not in Path('off/teacher.py').read_text() + Path('off/student.py').read_text()


def test_the_configs_do_not_depend_on_where_one_is(here, monkeypatch):
    data([(64, 48)] * 4)
    assert new() == 0
    Path('my').rename('yours')
    monkeypatch.chdir(here / 'yours')
    dataset = read_config('student.py').train_dataloader.dataset
    [name, *_] = json.loads(Path(dataset.ann_file).read_text())['images']
    assert Path(dataset.data_prefix.img, name['file_name']).is_file()
