"""The method that is chosen for two detectors of different kinds, mmdet's and MMYOLO's."""

import re
from pathlib import Path

import pytest

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
