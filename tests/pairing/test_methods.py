"""What methods say of themselves, and which is picked."""

import shutil

import pytest
from mmengine.config import Config

from mmkd.algorithms.build_detector import build_detector
from mmkd.pairing.methods import Gain, Method, ranked, read_methods
from mmkd.pairing.needs import EQUAL, FACTS, unmet
from tests import zoo
from tests.pairing.models import small
from tests.tiny import ROOT, tiny_ssd

CONFIGS = ROOT / 'configs'
SSD = 'configs/ssd_r18w8_digits.py'


@pytest.mark.parametrize('method', read_methods(CONFIGS), ids=lambda method: method.name)
def test_needs_are_facts_or_heads(method):
    for need in method.needs:
        side, _, name = need.rpartition(': ')
        assert side in ('', 'student', 'teacher')
        assert name in FACTS or (name in EQUAL and not side) or name.endswith('Head')
    config = Config.fromfile(CONFIGS / f'_base_/methods/{method.name}.py')
    assert 'distiller' in config and not [key for key in config if 'method' in key]


def test_a_method_that_says_nothing_is_told(tmp_path):
    shutil.copytree(CONFIGS, tmp_path / 'configs')
    (tmp_path / 'configs/_base_/methods/mine.py').write_text("__method__ = dict(teaches='x')")
    with pytest.raises(ValueError, match=r'mine\.py: __method__ must say .* lacks needs, source'):
        read_methods(tmp_path / 'configs')


def method(name, *points, published=None, student=SSD):
    gains = tuple(Gain(p, 'data', 'pair', student) for p in points)
    return Method(name, 'teaches', (), 'source', published, gains)


def test_what_was_measured_counts_more_than_what_was_published():
    student = Config.fromfile(ROOT / SSD).model
    methods = [
        method('unknown'),
        method('harmful', -1.0, 0.5),
        method('published', published=9.0),
        method('better', 2.0, 4.0),
        method('good', 2.5),
    ]
    names = [m.name for m, _ in ranked(methods, CONFIGS, student)]
    assert names == ['better', 'good', 'published', 'unknown', 'harmful']
    other = small('fcos')
    found = ranked([method('others', 1.0), method('published', published=9.0)], CONFIGS, other)
    assert [m.name for m, _ in found] == ['others', 'published']
    assert 'students with others gained +1.0' in found[0][1]


def test_facts_of_heads(mmdet_scope):
    ssd, retina, fcos = map(build_detector, (tiny_ssd(), small('retinanet'), small('fcos')))
    assert unmet(['SSDHead', 'softmax', 'dense', 'rows', 'anchors', 'neck'], ssd, ssd) == []
    assert unmet(['sigmoid', 'tower', 'equal classes', 'equal levels'], fcos, retina) == []
    assert unmet(['student: anchors', 'teacher: priors'], retina, fcos) == []
    found = unmet(['DFL', 'objectness', 'DETR', 'two-stage', 'teacher: anchors'], retina, fcos)
    assert len(found) == 9 and found[-1] == 'anchors, but the head of the teacher is FCOSHead'
    [classes, levels] = unmet(['equal classes', 'equal levels'], ssd, retina)
    assert 'num_classes=3' in classes and 'strides [8, 16, 32, 64]' in levels


def test_pyramids_with_a_level_in_common(mmdet_scope):
    names = ('yolox', 'faster_rcnn', 'retinanet')
    yolox, faster, retina = (build_detector(zoo.small(name)) for name in names)
    for student, teacher in ((yolox, faster), (faster, retina), (retina, retina)):
        assert unmet(['a level in common'], student, teacher) == []
    [levels] = unmet(['equal levels'], faster, retina)
    assert 'strides [4, 8, 16, 32, 64] and [8, 16, 32, 64, 128]' in levels
