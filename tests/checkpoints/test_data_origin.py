"""Weights of other classes, another order or another image size: told, or refused where wrong."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

from mmkd.checkpoints.checkpoint_meta import scales_of_test
from mmkd.checkpoints.data_origin import check_data_origin, data_differences
from mmkd.checkpoints.loading import Loaded
from mmkd.config.config_errors import ConfigError
from mmkd.doctor.check_accuracy import Figures, _judge, _told
from mmkd.doctor.report import Section
from tests.checkpoints.test_weight_meaning import text
from tests.cli.test_tools import CLASSES, DETECTOR, project, run  # noqa: F401
from tests.tiny import tiny_pair, tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')

YOLO = [
    dict(type='YOLOv5KeepRatioResize', scale=(640, 640)),
    dict(type='LetterResize', scale=(640, 640), pad_val=dict(img=114)),
]
OLD = [dict(type='MultiScaleFlipAug', img_scale=(1333, 800), transforms=[dict(type='Resize')])]
TTA = [dict(type='TestTimeAug', transforms=[[dict(type='Resize', scale=s) for s in (300, 512)]])]


def resize(*scale: int, **changes) -> list[dict]:
    return [dict(type='LoadImageFromFile'), dict(type='Resize', scale=scale, **changes)]


@pytest.mark.parametrize(
    'config, scales',
    [
        (dict(test_dataloader=dict(dataset=dict(pipeline=resize(300, 200)))), ((300, 200),)),
        (dict(val_dataloader=dict(dataset=dict(dataset=dict(pipeline=YOLO)))), ((640, 640),)),
        (dict(test_pipeline=resize(1333, 800, keep_ratio=True)), ((800, 1333),)),
        (dict(test_pipeline=resize(800, 1333, keep_ratio=True)), ((800, 1333),)),
        (dict(data=dict(test=dict(pipeline=OLD))), ((1333, 800),)),
        (dict(test_pipeline=TTA), ((300, 300), (512, 512))),
        (dict(test_pipeline=[dict(type='Pad', size=(640, 640))]), ()),
        (dict(test_pipeline=[dict(type='Resize', scale_factor=2.0)]), ()),
        (dict(test_dataloader=None, test_pipeline='no'), ()),
        ({}, ()),
    ],
)
def test_the_scale_of_each_kind_of_test_pipeline(config, scales):
    assert scales_of_test(config) == scales
    config = Config(config, format_python_code=False)
    loaded = Loaded('checkpoint', 'a.pth', 1, 1, meta=dict(cfg=config.pretty_text))
    assert data_differences(loaded, config, None) == ()
    found = data_differences(loaded, dict(test_pipeline=resize(64, 64)), None)
    assert [one.clear for one in found] == [False] * bool(scales)


@pytest.mark.parametrize('kept', [(False, False), (False, True), (True, False), (True, True)])
def test_a_size_to_fit_into_has_no_order(kept):
    """(300, 200) with the aspect kept may be what 300x200 without is, or 200x300."""
    there, here = (
        dict(test_pipeline=resize(*size, keep_ratio=one))
        for size, one in zip(((300, 200), (200, 300)), kept, strict=True)
    )
    meta = dict(cfg=Config(there, format_python_code=False).pretty_text)
    loaded = Loaded('checkpoint', 'a.pth', 1, 1, meta=meta)
    assert len(data_differences(loaded, here, None)) == (not any(kept))
    other = dict(test_pipeline=resize(200, 301, keep_ratio=kept[1]))
    assert len(data_differences(loaded, other, None)) == 1


@pytest.mark.parametrize('kind', ['classes', 'CLASSES', 'old', 'indexed'])
@pytest.mark.parametrize(
    'classes, clear',
    [
        (CLASSES, []),
        (CLASSES[::-1], [True]),
        (('bee', 'x', 'cat'), [True]),
        (('ant', 'x', 'cat'), [False]),
        ((*CLASSES, 'x'), []),  # another head: other counts are told by its keys
        (None, []),
    ],
)
def test_the_order_of_classes(kind, classes, clear):
    metas = dict(
        classes=dict(dataset_meta=dict(classes=list(CLASSES))),
        CLASSES=dict(dataset_meta=dict(CLASSES=CLASSES, PALETTE=None)),
        old=dict(CLASSES=CLASSES),
        indexed=dict(dataset_meta=dict(classes=dict(enumerate(CLASSES)))),
    )
    loaded = Loaded('checkpoint', 'a.pth', 1, 1, meta=metas[kind])
    assert [one.clear for one in data_differences(loaded, {}, classes)] == clear


def test_an_order_is_an_error_where_scores_are_compared(tmp_path, logged):
    path = str(tmp_path / 'teacher.pth')
    weights = MODELS.build(tiny_ssd(width=16, std=1.0)).state_dict()
    torch.save(dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=CLASSES))), path)
    pair = MODELS.build(ConfigDict(tiny_pair(teacher_ckpt=path)))
    with pytest.raises(ValueError, match=r'teacher_ckpt must .*\(cat, bee, ant\).*\(ant, bee, cat'):
        pair.check_data_origin({}, CLASSES[::-1])
    pair.check_data_origin({}, CLASSES)
    assert 'was trained with' not in logged()
    pair.check_data_origin({}, ('x', 'y', 'z'))
    assert 'teacher_ckpt: the data has metainfo.classes=(x, y, z), but its check' in logged()
    pair = MODELS.build(ConfigDict(tiny_pair(teacher_ckpt=path, teacher_ckpt_strict=False)))
    pair.check_data_origin({}, CLASSES[::-1])  # by its own key
    check_data_origin(pair.student, {}, CLASSES)  # nothing was loaded


def test_the_finding_on_a_low_map_tells_of_another_scale(tmp_path):
    path = str(tmp_path / 'teacher.pth')
    model = tiny_ssd(width=16, std=1.0)
    meta = dict(cfg=text(model, test_pipeline=resize(300, 300)))
    torch.save(dict(state_dict=MODELS.build(model).state_dict(), meta=meta), path)
    pair = MODELS.build(ConfigDict(tiny_pair(teacher=model, teacher_ckpt=path)))
    section, nothing = Section('mAP'), Figures(0.0, {})
    told = _told(pair, dict(test_pipeline=resize(64, 64)), CLASSES)
    _judge(section, [nothing], nothing, told, {})
    told = 'the scale of the test pipeline=64x64, but its checkpoint was trained with 300x300.'
    assert section.findings[0].found.endswith(f'nothing to teach. The config has {told}')
    section = Section('mAP')
    told = _told(pair, dict(test_pipeline=resize(300, 300)), CLASSES)
    _judge(section, [nothing], nothing, told, {})
    assert section.findings[0].found.endswith('nothing to teach.')


def test_tools_test_refuses_what_is_told_and_wrong(project, logged):  # noqa: F811
    """Priors 20 % off, other classes first, another scale: the same weights, three verdicts."""
    config = Config.fromfile('my_student.py', format_python_code=False)
    torch.manual_seed(0)
    weights = MODELS.build(config.model.copy()).state_dict()

    def save(config: Config, classes=CLASSES) -> None:
        meta = dict(cfg=config.pretty_text, dataset_meta=dict(classes=classes))
        torch.save(dict(state_dict=weights, meta=meta), 'student.pth')

    save(config)
    run('test', 'my_student.py', 'student.pth')
    assert 'was trained with' not in logged()
    save(config, CLASSES[::-1])
    with pytest.raises(ValueError, match=r'metainfo\.classes=\(ant, bee, cat\), but its .*\(cat, '):
        run('test', 'my_student.py', 'student.pth')
    other = Config(config.to_dict(), format_python_code=False)
    other.model.bbox_head.anchor_generator.min_sizes = [9.6, 19.2, 38.4, 57.6]
    save(other)
    with pytest.raises(ValueError, match=r'^the checkpoint must hold weights .*base_anchors'):
        run('test', 'my_student.py', 'student.pth')
    other = Config(config.to_dict(), format_python_code=False)
    other.test_dataloader.dataset.pipeline[2].scale = (96, 96)
    save(other)
    run('test', 'my_student.py', 'student.pth')
    assert 'the scale of the test pipeline=64x64, but its checkpoint was trained with 9' in logged()


def test_tools_train_pairs_the_classes_of_a_teacher_by_their_names(project, logged):  # noqa: F811
    config = Config.fromfile('my_teacher.py', format_python_code=False)
    weights = MODELS.build(config.model.copy()).state_dict()

    def save(*classes: str) -> None:
        meta = dict(cfg=config.pretty_text, dataset_meta=dict(classes=classes))
        torch.save(dict(state_dict=weights, meta=meta), 'teacher.pth')

    options = ['--cfg-options', 'model.teacher_ckpt=teacher.pth']
    save(*CLASSES[::-1])
    run('train', 'my_pair.py', *options)
    assert 'Classes: ant: taught by [ant]' in logged()
    save('x', 'y', 'z')
    with pytest.raises(ConfigError, match='teacher and student must have at least one class'):
        run('train', 'my_pair.py', *options)


def test_the_export_is_of_the_configs_student(project):  # noqa: F811
    config = Config.fromfile('my_pair.py', format_python_code=False)
    config.model.teacher_ckpt = None
    pair = MODELS.build(config.model)
    config.model.architecture.bbox_head.anchor_generator.min_sizes = [9.6, 19.2, 38.4, 57.6]
    torch.save(dict(state_dict=pair.state_dict(), meta=dict(cfg=config.pretty_text)), 'kd.pth')
    with pytest.raises(ValueError, match='the checkpoint to export must hold weights that mean'):
        run('export_student', 'my_pair.py', 'kd.pth', 'out/student.pth')
