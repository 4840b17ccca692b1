"""The classes of a data set: what is named wrongly is said, what mmdet reads is accepted."""

import pytest
from mmengine.config import Config

from mmkd.datasets.data_checks import check_data
from mmkd.datasets.metainfo import classes_of
from tests.tiny import write_coco, write_voc

CLASSES = ('ant', 'bee', 'cat')


def coco(**changes) -> dict:
    return dict(
        dict(
            type='CocoDataset',
            ann_file='annotations/train.json',
            data_prefix=dict(img='JPEGImages/'),
        ),
        **changes,
    )


WRONG = {
    'text': (dict(classes='balloon'), r"got the text \"balloon\".*classes=\('balloon',\)"),
    'in brackets alone': (dict(classes=('ant')), r"classes=\('ant',\)"),
    'a file that is not there': (dict(classes='classes.txt'), 'there is no such file'),
    'as in mmdet 2': (dict(CLASSES=CLASSES), 'metainfo has "CLASSES"'),
    'as in YOLO': (dict(names=CLASSES), 'metainfo has "names"'),
    'another key': (dict(class_names=CLASSES), 'metainfo has "class_names"'),
    'a list of one dict': ([dict(classes=CLASSES)], 'metainfo must be a dict'),
    'a tuple': (('ant',), 'metainfo must be a dict'),
    'a dict of names': (dict(classes={0: 'ant'}), 'a tuple or list of names'),
    'a set': (dict(classes={'ant'}), 'a tuple or list of names'),
    'null': (dict(classes=None), 'a tuple or list of names'),
    'numbers': (dict(classes=(0, 1)), 'each of them text'),
    'an empty name': (dict(classes=('ant', '')), 'each of them text'),
    'twice': (dict(classes=('ant', 'bee', 'ant')), 'each class once, but got ant twice'),
    'none': (dict(classes=()), 'each class once, but got none'),
}


@pytest.mark.parametrize('case', WRONG)
def test_metainfo_that_is_not_read_as_meant(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    metainfo, match = WRONG[case]
    write_coco(tmp_path, 'train', 1, CLASSES)
    # Config itself would make other types of some of these
    dataset = coco(data_root=f'{tmp_path}/', metainfo=metainfo)
    with pytest.raises((TypeError, ValueError), match=f'train_dataloader: .*{match}'):
        classes_of('train_dataloader', dataset, 'mmdet')


def test_metainfo_is_checked_before_a_run(tmp_path):
    write_coco(tmp_path, 'train', 1, CLASSES)
    dataset = coco(data_root=f'{tmp_path}/', metainfo=dict(classes='bee'))
    cfg = Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=dataset)))
    with pytest.raises(TypeError, match=r'train_dataloader: metainfo\.classes must be'):
        check_data(cfg, ('train',))


def test_metainfo_that_mmdet_reads(tmp_path):
    (tmp_path / 'classes.txt').write_text('ant\nbee\n')
    for metainfo, expected in (
        (dict(classes=['ant', 'bee']), ['ant', 'bee']),
        (dict(classes=('ant',), palette=[(1, 2, 3)], names='x'), ('ant',)),
        (dict(classes=str(tmp_path / 'classes.txt')), ['ant', 'bee']),
    ):
        assert classes_of('x', coco(metainfo=metainfo), 'mmdet') == expected
    for metainfo in (None, {}, dict(palette=[(1, 2, 3)])):
        assert len(classes_of('x', coco(metainfo=metainfo), 'mmdet')) == 80
    assert classes_of('x', dict(type='BaseDetDataset'), 'mmdet') is None


def loaders(root, first: tuple, second: tuple, **second_changes) -> Config:
    datasets = [coco(data_root=f'{root}/', metainfo=dict(classes=c)) for c in (first, second)]
    datasets[1].update(second_changes)
    return Config(
        dict(
            default_scope='mmdet',
            train_dataloader=dict(dataset=datasets[0]),
            val_dataloader=dict(dataset=datasets[1]),
        )
    )


def test_labels_mean_one_thing_in_training_and_validation(tmp_path):
    write_coco(tmp_path, 'train', 2, CLASSES)
    check_data(loaders(tmp_path, CLASSES, list(CLASSES)), ('train', 'val'))
    with pytest.raises(ValueError, match=r'val_dataloader: metainfo\.classes must be those of tra'):
        check_data(loaders(tmp_path, CLASSES, CLASSES[:2]), ('train', 'val'))
    write_voc(tmp_path, 'val', 2, CLASSES)
    voc = dict(
        type='VOCDataset', ann_file='ImageSets/Main/val.txt', data_prefix=dict(sub_data_root='')
    )
    check_data(loaders(tmp_path, CLASSES, CLASSES, **voc), ('train', 'val'))
    with pytest.raises(ValueError, match='but got cat, bee, ant and ant, bee, cat'):
        check_data(loaders(tmp_path, CLASSES, CLASSES[::-1], **voc), ('train', 'val'))


def test_classes_without_a_box_are_one_line(tmp_path):
    write_coco(tmp_path, 'train', 1, CLASSES, boxes=1)
    [note] = check_data(loaders(tmp_path, CLASSES, CLASSES), ('train',))
    assert 'has no box of 2 classes: ' in note
