"""The method that is chosen for two detectors of different kinds."""

import re
from pathlib import Path

import pytest

from mmkd.algorithms.build_detector import build_detector
from mmkd.pairing.choose_method import choose_method
from mmkd.pairing.pair_text import Request
from tests.heads.models import small
from tests.tiny import ROOT

#: Those of mmdet's own configs.
CHOSEN = [
    path
    for path in sorted(ROOT.glob('configs/*.py'))
    if 'Chosen by mmkd pair' in path.read_text() and "teacher='mmdet::" in path.read_text()
]


@pytest.mark.parametrize('path', CHOSEN, ids=lambda path: path.stem)
def test_shipped_pairs_have_the_method_that_is_chosen_for_them(path, mmdet_scope):
    """That of two detectors of different levels and stages is one of them."""
    student, teacher = re.findall(r"'mmdet::(\S+)\.py'", path.read_text())
    request = Request('teacher.py', 'student.py', Path('pair.py'), ROOT / 'configs')
    models = [build_detector(small(name)) for name in (student, teacher)]
    method, _ = choose_method(request, *models)
    assert f'methods/{method.name}.py' in path.read_text()
