"""``mmkd pair``: two configs become a pair that is checked, trained and tested as it is."""

import ast
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.config.pair_config import set_classes
from mmkd.config.read_config import read_config
from mmkd.datasets.data_checks import check_data
from mmkd_cli.main import main
from tests import zoo
from tests.pairing.models import small, write_detector
from tests.tiny import ROOT, tiny_ssd, write_coco, write_voc

CLASSES = ('ant', 'bee', 'cat')


def teacher_of(classes: int, model: dict, path: str | Path) -> None:
    set_classes(model, classes)
    detector = build_detector(model)
    torch.save(dict(state_dict=detector.state_dict(), meta={}), path)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('made')
    for split, images, seed in (('train', 4, 1), ('val', 2, 2)):
        write_coco(folder / 'mine', split, images, CLASSES, seed=seed)
    write_detector(folder / 'retinanet.py', small('retinanet', 16))
    write_detector(folder / 'fcos.py', small('fcos'))
    teacher_of(3, small('retinanet', 16), folder / 'teacher.pth')
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """RetinaNet and FCOS of 80 classes, a RetinaNet's weights for three, and data of these."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def pair(*words) -> int:
    return main(['pair', *map(str, words)])


RETINA_FCOS = ('retinanet.py', 'fcos.py', '--out', 'my_pair.py')
OWN = ('--teacher-ckpt', 'teacher.pth', '--data', 'mine')


def test_retinanet_teaches_fcos_on_own_data_from_config_to_figures(here, capsys, monkeypatch):
    """No channels, priors or recorders, and no command but these."""
    monkeypatch.setattr('sys.argv', ['mmkd'])
    assert pair(*RETINA_FCOS, *OWN, '--classes', *CLASSES) == 0
    said = capsys.readouterr().out
    assert 'my_pair.py: written' in said
    assert 'method: score_imitation, since students with FCOSHead gained +2.4 points' in said
    text = Path('my_pair.py').read_text()
    code = [line for line in text.split('"""')[2].splitlines() if line]
    assert len(code) <= 25 and not {'channels', 'prior', 'recorder'} & set(text.split())
    assert main(['check', 'my_pair.py', '--images', '0', '--json']) == 0  # it is untrained
    report = json.loads(capsys.readouterr().out)
    assert report['ok']
    main(['train', 'my_pair.py'])
    config = Config.fromfile('my_pair.py')
    assert config.model.architecture.bbox_head.num_classes == 3
    main(['test', 'my_pair.py', 'work_dirs/my_pair/epoch_1.pth'])
    assert 'coco/bbox_mAP' in capsys.readouterr().out


def test_a_teacher_yet_to_be_trained_has_its_own_config(here, capsys):
    assert pair(*RETINA_FCOS, '--data', 'mine') == 0
    assert 'mmkd compare my_pair.py trains the teacher' in capsys.readouterr().out
    config = Config.fromfile('my_pair.py')
    assert config.model.teacher == f'{here}/my_pair_teacher.py'
    trained = f'{here}/work_dirs/my_pair_teacher'
    assert config.model.teacher_ckpt == f'{trained}/epoch_1.pth'
    assert config.work_dir == f'{here}/work_dirs/my_pair'
    teacher = Config.fromfile('my_pair_teacher.py')
    assert teacher.model.bbox_head.num_classes == 3
    assert teacher.train_dataloader == config.train_dataloader
    assert teacher.train_dataloader.dataset.data_root == f'{here}/mine/'
    assert teacher.work_dir == trained


def test_nothing_is_overwritten_without_force(here, capsys):
    Path('my_pair.py').write_text('kept')
    assert pair(*RETINA_FCOS, *OWN) == 1
    assert 'my_pair.py exists' in capsys.readouterr().err
    assert Path('my_pair.py').read_text() == 'kept'
    assert pair(*RETINA_FCOS, *OWN, '--force') == 0
    assert 'model = pair(' in Path('my_pair.py').read_text()


def test_what_the_checks_refuse_is_not_left_behind(here, capsys):
    teacher_of(5, small('retinanet', 16), 'teacher.pth')
    Path('my_pair.py').write_text('kept')
    assert pair(*RETINA_FCOS, *OWN, '--force') == 1
    said = capsys.readouterr().err
    assert said.startswith('mmkd pair: --teacher-ckpt must hold weights for the 3 classes')
    assert 'of the config (ant, bee, cat), but those of "teacher.pth" score 5: all keys' in said
    assert 'fit but the 2 of class layers. Train the teacher on your data first' in said
    assert Path('my_pair.py').read_text() == 'kept'
    assert not Path('my_pair_teacher.py').exists()


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('retinanet.py', 'fcos.py'), 'must be given --out'),
        (RETINA_FCOS, '--teacher-ckpt must name .* but is missing'),
        ((*RETINA_FCOS, '--teacher-ckpt', 'techer.pth'), r'no "techer\.pth".*teacher\.pth'),
        ((*RETINA_FCOS, *OWN, '--method', 'prediction_row'), 'Did you mean prediction_rows'),
        (
            (*RETINA_FCOS, *OWN, '--method', 'ssd_balanced'),
            'SSDHead.*needs of .*pkd, prediction_rows.* met',
        ),
        ((*RETINA_FCOS, *OWN, '--classes', 'ant', 'wasp'), 'categories.*ant, bee, cat.*got wasp'),
        ((*RETINA_FCOS, *OWN[:3], 'nowhere'), 'no "nowhere"'),
        ((*RETINA_FCOS, *OWN[:2], '--classes', 'ant'), 'of --data, which is missing'),
        (('retinanet.py', 'fcoss.py', '--out', 'my_pair.py', *OWN), 'STUDENT must be an existing'),
        (('retinanet.py', 'fcos.py', '--out', 'my_pair', *OWN), r'ends with \.py'),
        (('retinanet.py', 'ssd.py', '--out', 'my_pair.py', *OWN[:2]), 'has 80 and "ssd.py" 3'),
    ],
)
def test_what_does_not_do_is_told_and_nothing_is_written(here, capsys, words, message):
    write_detector(Path('ssd.py'), tiny_ssd())
    assert pair(*words) != 0
    text = ' '.join(capsys.readouterr().err.split())
    assert re.search(message, text), text
    assert not Path('my_pair.py').exists()


def test_what_was_measured_here_decides(here, capsys):
    """Two SSDs of equal priors get the recipe of the largest gain, at the maps of their heads."""
    write_detector(Path('small.py'), tiny_ssd(width=8))
    write_detector(Path('large.py'), tiny_ssd(width=16))
    teacher_of(3, tiny_ssd(width=16), 'teacher.pth')
    assert pair('large.py', 'small.py', '--out', 'sub/my_pair.py', *OWN) == 0
    said = capsys.readouterr().out
    assert 'method: ssd_balanced, since students with SSDHead gained +5.' in said
    config = Config.fromfile('sub/my_pair.py')
    assert config.model.distiller.student_recorders.feature.source == 'neck'
    assert config.model.teacher == f'{here}/sub/../large.py', 'it has these classes already'
    text = Path('sub/my_pair.py').read_text()
    assert "_base_ = ['../small.py', 'mmkd::_base_/methods/ssd_balanced.py']" in text
    assert "own = dict(data_root='{{ fileDirname }}/../mine/'" in text
    assert "teacher_ckpt='{{ fileDirname }}/../teacher.pth'" in text


def test_the_written_pair_works_from_another_folder(here, capsys, monkeypatch):
    """What was named by its whole path stays so."""
    monkeypatch.setattr('sys.argv', ['mmkd'])
    whole = ('--teacher-ckpt', here / 'teacher.pth', '--data', 'mine')
    assert pair(*RETINA_FCOS, *whole) == 0
    assert f"teacher_ckpt='{here}/teacher.pth'" in Path('my_pair.py').read_text()
    assert pair('retinanet.py', 'fcos.py', '--out', 'untaught.py', '--data', here / 'mine') == 0
    assert f"data_root='{here}/mine/'" in Path('untaught.py').read_text()
    there = here / 'elsewhere'
    there.mkdir()
    monkeypatch.chdir(there)
    for name in ('my_pair', 'untaught', 'untaught_teacher'):
        config = Config.fromfile(f'../{name}.py')
        check_data(config, ('train', 'val', 'test'))
        if name != 'untaught_teacher':
            assert Path(config.model.teacher).is_file()
    assert Path(Config.fromfile('../my_pair.py').model.teacher_ckpt).is_file()


def test_a_warm_up_that_takes_the_run_is_noted(here, capsys):
    """With its numbers, of the student and of a teacher that is yet to be trained."""
    for name in ('retinanet', 'fcos'):
        with Path(f'{name}.py').open('a') as file:
            file.write("param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False,"
                       ' begin=0, end=500)]\n')  # fmt: skip
    assert pair(*RETINA_FCOS, '--data', 'mine') == 0
    said = capsys.readouterr().out
    rule = 'of 4 images, 2 in a step: param_scheduler.0 warms up for 500 of the 2 iterations. Shor'
    assert f'note: {rule}' in said and f'note: teacher: {rule}' in said


def test_detectors_of_masks_need_masks(here, capsys):
    """Of a teacher whose weights are there nothing is trained, so that it needs none."""
    write_detector(Path('mask.py'), zoo.small('mask_rcnn').to_dict())
    text = Path('mask.py').read_text().replace('with_bbox=True)', 'with_bbox=True, with_mask=True)')
    Path('mask.py').write_text(text)
    teacher_of(3, zoo.small('mask_rcnn'), 'mask.pth')
    out = ('--out', 'my_pair.py', '--data', 'mine')
    assert pair('retinanet.py', 'mask.py', *out) == 1
    assert 'Faster R-CNN is for Mask R-CNN' in capsys.readouterr().err
    assert pair('mask.py', 'fcos.py', *out) == 1
    assert 'Faster R-CNN is for Mask R-CNN' in capsys.readouterr().err
    assert not list(Path().glob('my_pair*'))
    assert pair('mask.py', 'fcos.py', *out, '--teacher-ckpt', 'mask.pth') == 0


def test_data_in_voc_form_get_their_files(here, capsys):
    for split in ('train', 'val'):
        write_voc(Path('voc'), split, 2, CLASSES)
    words = ('--teacher-ckpt', 'teacher.pth', '--data', 'voc')
    assert pair(*RETINA_FCOS, *words) == 1
    assert 'VOC form need --classes' in capsys.readouterr().err
    assert pair(*RETINA_FCOS, *words, '--classes', *CLASSES) == 0
    assert Path('voc/annotations/val.json').is_file()


def test_the_list_has_every_method_with_its_gains(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    assert pair('--list') == 0
    said = capsys.readouterr().out
    names = {path.stem for path in (ROOT / 'configs/_base_/methods').glob('*.py')}
    assert {line.split(':')[0] for line in said.splitlines() if line[0] != ' '} == names
    assert '(ssd_kd_r18_to_r18w8_digits)' in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').glob('*_kd_*.py')), ids=lambda p: p.stem)
def test_the_shipped_pairs_look_like_what_is_written(path):
    tree = ast.parse(path.read_text())
    names = [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)
             and isinstance(node.targets[0], ast.Name)]  # fmt: skip
    assert names[0] == '_base_' and names[-1] == 'model'
    call = tree.body[-1].value
    assert isinstance(call, ast.Call) and call.func.id == 'pair'
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    teacher = given['teacher']
    is_file = isinstance(teacher, ast.Constant) and not teacher.value.endswith('.py')
    weights_within = is_file or isinstance(teacher, ast.List)
    assert 'teacher_ckpt' in given or (weights_within and '::' not in ast.unparse(teacher))


@pytest.mark.parametrize('out', ['my_pair', 'my_rtmdet'])
def test_the_commands_of_the_docs(here, capsys, out):
    """Detectors of mmdet at their full size: they are built, not trained."""
    text = (ROOT / 'docs/your_own_data.md').read_text().replace('\\\n', '')
    [command] = re.findall(rf'^mmkd (pair .*{out}\.py)', text, re.M)
    shutil.copytree('mine', 'data/mine')
    assert main(command.split()) == 0
    assert Path(f'{out}_teacher.py').is_file()
    config = Config.fromfile(f'{out}.py')
    assert config.model.architecture.bbox_head.num_classes == 3
    teacher = Config.fromfile(f'{out}_teacher.py')
    for one in (config, teacher):
        assert one.auto_scale_lr == dict(enable=True, base_batch_size=16)
    assert 'base_batch_size' not in capsys.readouterr().out, 'there is nothing to note'


def test_a_learning_rate_that_cannot_be_scaled_is_noted(here, capsys):
    pytest.importorskip('mmyolo')
    yolo = 'mmyolo::yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py'
    assert pair(yolo, yolo, '--data', 'mine', '--out', 'my_pair.py') == 0
    said = capsys.readouterr().out
    assert 'note: student: auto_scale_lr.base_batch_size is missing in "mmyolo::' in said
    assert 'auto_scale_lr' not in Path('my_pair.py').read_text()
    weights = Path('yolo.pth')
    with DefaultScope.overwrite_default_scope('mmyolo'):
        teacher_of(3, read_config(yolo).model, weights)
    assert pair(yolo, yolo, *OWN[2:], '--teacher-ckpt', weights, '--out', 'taught.py') == 0
    said = capsys.readouterr().out
    assert 'note: student: auto_scale_lr' in said
    assert 'note: teacher: auto_scale_lr' not in said, 'it is not trained'


@pytest.mark.parametrize('named', [(), ('cat', 'ant', 'bee')])
def test_labels_count_as_the_file_lists_its_categories(here, capsys, named):
    """As mmdet counts them, whatever their ids; the images lie deep, by parts."""
    for split in ('train', 'val'):
        file = Path(f'mine/annotations/{split}.json')
        content = json.loads(file.read_text())
        content['categories'] = [content['categories'][i] for i in (2, 0, 1)]
        folder = Path(f'mine/images/{split}2017/cam0')
        folder.mkdir(parents=True)
        for i, image in enumerate(content['images']):
            shutil.move(f'mine/JPEGImages/{image["file_name"]}', folder / f'{i:04d}.jpg')
            image['file_name'] = f'{i:04d}.jpg'
        file.write_text(json.dumps(content))
    words = ('--classes', *named) if named else ()
    out = 'of mine/my pair.py'
    assert pair('retinanet.py', 'fcos.py', '--out', out, *OWN, *words) == 0
    assert "next: mmkd check 'of mine/my pair.py'; mmkd train 'of mine/my pair.py'" in (
        capsys.readouterr().out
    )
    config = Config.fromfile(out)
    check_data(config, ('train', 'val', 'test'))
    for split in ('train', 'val'):
        dataset = config[f'{split}_dataloader'].dataset
        assert dataset.metainfo.classes == ('cat', 'ant', 'bee')
        assert dataset.data_prefix.img == f'images/{split}2017/cam0/'
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert DATASETS.build(dict(dataset, pipeline=[])).cat2label == {3: 0, 1: 1, 2: 2}
    wrong = ('--classes', 'ant', 'bee', 'cat', '--force')
    assert pair('retinanet.py', 'fcos.py', '--out', out, *OWN, *wrong) == 1
    assert 'Take --classes cat ant bee.' in capsys.readouterr().err
