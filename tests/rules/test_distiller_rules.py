"""Bad input is refused before a run, with the rule, what was received and the remedy."""

import copy

import pytest
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict

from mmkd.datasets.data_checks import check_data
from tests.tiny import tiny_pair, tiny_ssd, write_coco, write_voc

CLASSES = ('a', 'b', 'c')

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def build(edit=None, **changes):
    config = copy.deepcopy(tiny_pair(**changes))
    if edit:
        edit(config['distiller'])
    return MODELS.build(ConfigDict(config))


def test_recorder_source_that_does_not_exist_names_the_nearest():
    def edit(distiller):
        distiller['teacher_recorders']['head']['source'] = 'bbox_haed'

    with pytest.raises(ValueError, match=r'teacher_recorders\.head\.source.*Nearest: bbox_head'):
        build(edit)


def test_method_that_does_not_exist_names_the_nearest():
    def edit(distiller):
        source = 'mmdet.models.dense_heads.ssd_head.SSDHead.get_target'
        distiller['student_recorders']['targets']['source'] = source

    with pytest.raises(ValueError, match=r'student_recorders\.targets.*Nearest:.*get_targets'):
        build(edit)


def test_unknown_module_unknown_kind():
    def module(distiller):
        distiller['student_recorders']['targets']['source'] = 'nowhere.Head.get_targets'

    def kind(distiller):
        distiller['student_recorders']['targets']['type'] = 'MethodOutput'

    with pytest.raises(ValueError, match='nothing of "nowhere'):
        build(module)
    with pytest.raises(ValueError, match='Nearest: MethodOutputs'):
        build(kind)


@pytest.mark.parametrize(
    ('edit', 'match'),
    [
        (lambda m: m['loss_soft'].update(pred=m['loss_soft'].pop('preds_S')), 'Nearest:.* preds_S'),
        (lambda m: m['loss_soft'].pop('preds_T'), 'lacks preds_T'),
        (lambda m: m.pop('loss_soft'), 'loss_soft has none'),
        (lambda m: m.update(loss_sotf=m['loss_soft']), 'Nearest: loss_soft'),
        (lambda m: m['loss_soft']['preds_S'].update(recorder='haed'), 'Nearest: head'),
        (lambda m: m['loss_soft']['preds_S'].pop('from_student'), 'lacks from_student'),
        (lambda m: m['loss_soft']['preds_S'].update(connector='adapt'), 'one of connectors'),
    ],
)
def test_mappings(edit, match):
    with pytest.raises(ValueError, match=match):
        build(lambda distiller: edit(distiller['loss_forward_mappings']))


def test_unknown_loss_names_the_nearest():
    with pytest.raises(ValueError, match='Nearest: WeightedSoftCls'):
        build(lambda d: d['distill_losses']['loss_soft'].update(type='WeightedSoftClass'))


def test_different_class_counts():
    with pytest.raises(ValueError, match=r'equal classes.*num_classes=3, the teacher 5'):
        build(teacher=tiny_ssd(classes=5))


def test_different_priors():
    teacher = tiny_ssd()
    teacher['bbox_head']['anchor_generator'].update(min_sizes=[10, 16, 32, 48])
    with pytest.raises(ValueError, match=r'equal priors.*base anchors of level 0'):
        build(teacher=teacher)
    teacher['bbox_head']['anchor_generator'].update(strides=[8, 16, 32, 63])
    with pytest.raises(ValueError, match=r'equal priors.*their strides'):
        build(teacher=teacher)


def test_different_coders():
    teacher = tiny_ssd()
    teacher['bbox_head']['bbox_coder'].update(target_stds=[1.0] * 4)
    with pytest.raises(ValueError, match='equal coder'):
        build(teacher=teacher)


def coco(root, **changes):
    dataset = dict(
        type='CocoDataset',
        data_root=f'{root}/',
        ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=CLASSES),
    )
    dataset.update(changes)
    # as configs nest them
    nested = dict(type='RepeatDataset', times=2, dataset=dataset)
    return Config(dict(train_dataloader=dict(dataset=nested)))


def test_good_data_passes(tmp_path):
    write_coco(tmp_path, 'train', 2, CLASSES)
    check_data(coco(tmp_path), ('train', 'val'))


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(data_root='nowhere/'), 'data_root must exist'),
        (dict(ann_file='annotations/trian.json'), 'ann_file must exist'),
        (dict(data_prefix=dict(img='Images/')), r'data_prefix\.img must exist'),
    ],
)
def test_missing_paths(tmp_path, changes, match):
    write_coco(tmp_path, 'train', 2, CLASSES)
    with pytest.raises(FileNotFoundError, match=match):
        check_data(coco(tmp_path, **changes), ('train',))


@pytest.mark.parametrize('content', ['', 'a,b\n', '[1, 2]', '{"images": []}', '\x00\x01'])
def test_annotation_file_that_is_not_coco(tmp_path, content):
    write_coco(tmp_path, 'train', 2, CLASSES).write_text(content)
    with pytest.raises(ValueError, match='ann_file must be COCO JSON'):
        check_data(coco(tmp_path), ('train',))


def test_classes_that_the_file_does_not_have(tmp_path):
    write_coco(tmp_path, 'train', 2, CLASSES)
    with pytest.raises(ValueError, match=r'categories of the annotation file \(a, b, c\)'):
        check_data(coco(tmp_path, metainfo=dict(classes=('cat', 'dog'))), ('train',))


def test_voc_list_without_xml(tmp_path):
    write_voc(tmp_path, 'train', 2, CLASSES)
    voc = dict(type='VOCDataset', ann_file='ImageSets/Main/train.txt')
    config = coco(tmp_path, **voc, data_prefix=dict(sub_data_root=''))
    check_data(config, ('train',))
    (tmp_path / 'Annotations/train000.xml').unlink()
    with pytest.raises(FileNotFoundError, match='1 of its 2 names'):
        check_data(config, ('train',))
