"""The method that is chosen for two detectors of different kinds, mmdet's and MMYOLO's."""

import re
from pathlib import Path

import pytest
from mmengine.hub import get_config

from mmkd.algorithms.build_detector import build_detector
from mmkd.pairing.choose_method import choose_method
from mmkd.pairing.pair_text import Request
from tests import zoo
from tests.heads.models import small
from tests.tiny import ROOT

CHOSEN = [
    path for path in sorted(ROOT.glob('configs/*.py')) if 'Chosen by mmkd pair' in path.read_text()
]


@pytest.mark.parametrize('path', CHOSEN, ids=lambda path: path.stem)
def test_shipped_pairs_have_the_method_that_is_chosen_for_them(path, mmdet_scope):
    """That of two detectors of different levels and stages is one of them."""
    request = Request('teacher.py', 'student.py', Path('pair.py'), ROOT / 'configs')
    if path.stem.startswith('yolov8'):
        pytest.importorskip('mmyolo')
        configs = [zoo.detector('yolov8')] * 2
    else:
        names = re.findall(r"'mmdet::(\S+)\.py'", path.read_text())
        assert len(names) == 2, 'of the student, and of the teacher'
        configs = [small(name) for name in names]
    method, _ = choose_method(request, *map(build_detector, configs))
    assert f'methods/{method.name}.py' in path.read_text()


def test_where_no_method_fits_another_door_is_named(mmdet_scope):
    """A CornerNet has one level of its own stride, and no rows."""
    source = 'mmdet::cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py'
    corner = get_config(source).model.to_dict()
    corner['backbone'] = dict(
        type='HourglassNet',
        num_stacks=1,
        downsample_times=3,
        stage_channels=[16] * 4,
        stage_blocks=[1] * 4,
        feat_channel=16,
    )
    corner['bbox_head'].update(in_channels=16, num_feat_levels=1, num_classes=3)
    request = Request('teacher.py', 'student.py', Path('pair.py'), ROOT / 'configs')
    models = [build_detector(zoo.small('fcos')), build_detector(corner)]
    with pytest.raises(ValueError, match=r'none does(?s:.*)\nLet "mmkd label" write.*TEACHER'):
        choose_method(request, *models)
    method, _ = choose_method(request, *reversed(models))
    assert method.name == 'soft_ground_truth'
