"""Every head that mmdet and MMYOLO register is read and checked, or listed here with its kind."""

import mmdet.models  # noqa: F401  (it registers)
import pytest
from mmdet.registry import MODELS

from mmkd.heads import READERS, WITHOUT_ROWS, find_reader, reader
from tests.heads import dense_cases, test_detr, test_guided, test_roi

# What is no detector's head, or predicts no box per row; in mmdet, if not said otherwise.
NOT_READ = {
    'abstract': 'AnchorFreeHead BasePanopticFusionHead BaseSemanticHead',
    'pairs of corners': 'CornerHead CentripetalHead',
    'lanes': 'CLRHead',
    'rotated boxes': 'mmyolo.RTMDetRotatedHead',
    'proposals without scores': 'EmbeddingRPNHead',
    'masks without boxes': (
        'MaskFormerHead Mask2FormerHead Mask2FormerTrackHead SOLOHead DecoupledSOLOHead '
        'DecoupledSOLOLightHead SOLOV2Head'
    ),
    "masks of another head's boxes": (
        'BoxInstMaskHead CondInstMaskHead YOLACTProtonet FCNMaskHead CoarseMaskHead '
        'DynamicMaskHead HTCMaskHead SCNetMaskHead MaskIoUHead MaskPointHead GridHead '
        'FeatureRelayHead'
    ),
    'maps of the whole image': (
        'FusedSemanticHead GlobalContextHead SCNetSemanticHead PanopticFPNHead HeuristicFusionHead '
        'MaskFormerFusionHead'
    ),
    'tracking and identity': (
        'LinearReIDHead QuasiDenseEmbedHead QuasiDenseTrackHead RoIEmbedHead RoITrackHead'
    ),
    'a neck': 'DyHead',
    'a part before the head': 'ResLayer SingleRoIExtractor GenericRoIExtractor',
}
# RoI heads whose boxes are those of a base that is checked, and that need a mask head to be built.
WITH_MASKS = {
    'MaskScoringRoIHead': 'StandardRoIHead',
    'PointRendRoIHead': 'StandardRoIHead',
    'GridRoIHead': 'StandardRoIHead',  # the box head's; the grid moves the final detections
}


def registered(models, package):
    for name, cls in models.module_dict.items():
        if cls.__module__.startswith(package) and ('head' in cls.__module__ or 'Head' in name):
            yield name, cls


def checked(*cases):
    return {name.split()[0] for group in cases for name in group}


def test_each_head_of_mmdet_is_checked_or_listed():
    found = {name for name, _ in registered(MODELS, 'mmdet')}
    read = checked(
        dense_cases.CASES,
        test_detr.CASES,
        test_roi.BOX_HEADS,
        test_roi.ROI_HEADS,
        WITH_MASKS,
        test_roi.ALONE,
        test_guided.ALONE,
        test_detr.ALONE,
    )
    listed = [n for names in NOT_READ.values() for n in names.split() if '.' not in n]
    assert len(listed) == len(set(listed)) and not read & set(listed)
    assert found == read | set(listed)
    for name in read:
        find_reader(MODELS.get(name).__new__(MODELS.get(name)))
    for base in ('_bbox_forward', 'bbox_loss'):
        for name, of in WITH_MASKS.items():
            if name != 'GridRoIHead' or base == '_bbox_forward':
                assert getattr(MODELS.get(name), base) is getattr(MODELS.get(of), base)


def test_each_head_of_mmyolo_is_checked_or_listed():
    pytest.importorskip('mmyolo.models')
    from mmyolo.registry import MODELS as YOLO_MODELS

    from tests.heads import test_yolo

    heads = {n for n, _ in registered(YOLO_MODELS, 'mmyolo') if not n.endswith('HeadModule')}
    listed = {
        n.split('.')[1]
        for names in NOT_READ.values()
        for n in names.split()
        if n.startswith('mmyolo.')
    }
    assert heads == checked(test_yolo.CASES) | listed


@pytest.mark.parametrize(
    ('kind', 'names'), [(k, v) for k, v in NOT_READ.items() if k in WITHOUT_ROWS.values()]
)
def test_heads_without_rows_say_what_they_predict(kind, names):
    for name in names.split():
        if '.' not in name:
            cls = MODELS.get(name)
            with pytest.raises(ValueError, match=f'{name} predicts {kind}. Distil its features'):
                find_reader(cls.__new__(cls))


def test_a_new_head_is_one_function():
    class Head:
        pass

    class Child(Head):
        pass

    with pytest.raises(
        ValueError, match=r"no reader for Head.*mmdet\.SSDHead|reader\('tests\.Head'\)"
    ):
        find_reader(Head())
    reader('tests.Head')(lambda head, outputs, batch: outputs)
    try:
        assert find_reader(Child())(None, 3, None) == 3
    finally:
        del READERS['tests.Head']


def test_a_subclass_is_read_like_its_base():
    from mmdet.models.dense_heads import GFLHead

    class Mine(GFLHead):
        pass

    assert find_reader(Mine.__new__(Mine)) is READERS['mmdet.GFLHead']
