"""What methods say of themselves, and which is picked."""

import shutil

import pytest
from mmengine.config import Config

from mmkd.algorithms.build_detector import build_detector
from mmkd.pairing.methods import Figure, Gain, Method, ranked, read_methods
from mmkd.pairing.needs import EQUAL, FACTS, unmet
from tests import zoo
from tests.heads import models as heads
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


def method(name, *points, published=(), student=SSD, needs=()):
    gains = tuple(Gain(p, 'data', 'pair', student) for p in points)
    figures = tuple(Figure(f'{t}Head', f'{s}Head', p) for t, s, p in published)
    return Method(name, 'teaches', needs, 'source', figures, gains)


@pytest.fixture
def models(mmdet_scope):
    sources = dict(ssd=tiny_ssd(), fcos=small('fcos'), retina=small('retinanet'))
    return {name: build_detector(model) for name, model in sources.items()}


def test_a_method_that_lost_in_pilots_of_alike_pairs_is_not_taken(models):
    lost = (Figure('RetinaHead', 'FCOSHead', -4.0),)
    harmful = Method('a', 'teaches', ('one', 'two'), 'source', lost=lost)
    methods = [harmful, method('unknown')]
    assert names(methods, models['fcos'], models['ssd']) == ['unknown', 'a']
    assert names(methods, models['fcos'], models['fcos']) == ['a', 'unknown'], 'of another kind'
    [(_, why)] = ranked([harmful], CONFIGS, models['fcos'], models['ssd'])
    assert 'in pilots here it lost: -4.0 (Retina to FCOS)' in why
    assert harmful.gained() == 'not measured here; in pilots -4.0 (Retina to FCOS)'
    log = (CONFIGS.parent / 'docs/logs/other_heads_tuning.txt').read_text()
    [shipped] = [m for m in read_methods(CONFIGS) if m.name == 'prediction_rows']
    section = log.split('teaches FCOS (0.4020 0.7580 alone)')[1]
    assert shipped.lost[0].points == pytest.approx(36.1 - 40.2) and '| 0.3610' in section


def names(methods, student, teacher):
    return [m.name for m, _ in ranked(methods, CONFIGS, student, teacher)]


def test_what_was_measured_counts_more_than_what_was_published(models):
    methods = [
        method('unknown'),
        method('harmful', -1.0, 0.5),
        method('published', published=[('SSD', 'SSD', 9.0)]),
        method('better', 2.0, 4.0),
        method('good', 2.5),
    ]
    order = ['better', 'good', 'published', 'unknown', 'harmful']
    assert names(methods, models['ssd'], models['ssd']) == order
    others = [method('others', 1.0), method('published', published=[('GFL', 'GFL', 9.0)])]
    found = ranked(others, CONFIGS, models['fcos'], models['fcos'])
    assert [m.name for m, _ in found] == ['others', 'published']
    assert 'students with other heads gained +1.0' in found[0][1]
    these = method('these', published=[('FCOS', 'FCOS', 0.5)])
    assert names([*others, these], models['fcos'], models['fcos'])[0] == 'these'


def test_what_was_measured_counts_for_pairs_that_are_alike(models):
    """Of equal heads, or of two that differ; and of a DETR only what a DETR gained."""
    equal = method('equal', 3.0, student='configs/ssd_r18w8_bccd.py')
    gain = Gain(3.0, 'data', 'pair', 'configs/fcos_r18w8_bccd.py', 'configs/ssd_r18w8_bccd.py')
    mixed = Method('mixed', 'teaches', (), 'source', (), (gain,))
    methods = [equal, mixed, method('published', published=[('FCOS', 'Retina', 1.0)])]
    fcos, retina = models['fcos'], models['retina']
    assert names(methods, fcos, fcos)[0] == 'equal'
    assert names(methods, fcos, retina)[0] == 'mixed'
    assert names([equal, methods[2]], fcos, retina) == ['published', 'equal']
    [(_, why), *_] = ranked([mixed], CONFIGS, fcos, retina)
    assert why == 'students with FCOSHead gained +3.0 points with it here, in one pair (data)'
    detr = build_detector(zoo.small('detr'))
    assert names([equal, method('queries')], detr, detr) == ['equal', 'queries']
    [(_, why), *_] = ranked([equal], CONFIGS, detr, detr)
    assert 'no gain was measured here' in why


def test_of_what_was_published_these_heads_count_first_and_then_pairs_that_are_alike(models):
    methods = [
        method('general'),
        method('made for it', needs=('rows', 'equal classes')),
        method('equal', published=[('FCOS', 'FCOS', 2.0), ('GFL', 'GFL', 3.0)]),
        method('mixed', published=[('FCOS', 'Retina', 1.0)]),
        method('large', published=[('GFL', 'GFL', 5.0)]),
    ]
    fcos, retina = models['fcos'], models['retina']
    assert names(methods, fcos, fcos) == ['equal', 'large', 'mixed', 'made for it', 'general']
    assert names(methods, retina, fcos)[0] == 'mixed'
    assert names(methods, fcos, retina)[0] == 'mixed', 'of two heads that differ, too'
    [first, *_] = ranked(methods, CONFIGS, fcos, fcos)
    assert 'its authors report +2.0 (FCOS to FCOS)' in first[1]


def test_figures_of_other_heads_are_told_as_such(models, mmdet_scope):
    """A SOLO, which has no rows, is called by the head that it has."""
    solo = build_detector(heads.small('solo/solo_r50_fpn_1x_coco'))
    features = method('features', published=[('FCOS', 'Retina', 3.8)])
    for student, teacher, told in (
        ('retina', models['fcos'], 'its authors report +3.8 (FCOS to Retina); it was not measured'),
        ('fcos', solo, 'of SOLO to FCOS no gain was measured here or published, but of other'),
    ):
        [(_, why)] = ranked([features], CONFIGS, models[student], teacher)
        assert told in why and 'its authors report +3.8 (FCOS to Retina)' in why
    [lacking] = unmet(['teacher: rows'], models['fcos'], solo)
    assert lacking == 'rows, but the head of the teacher is SOLOHead'


def test_figures_of_other_heads_say_nothing_of_a_detr():
    detr = build_detector(zoo.small('detr'))
    methods = [method('features', published=[('GFL', 'GFL', 5.0)]), method('queries', needs=('a',))]
    assert names(methods, detr, detr) == ['queries', 'features']
    [lacking] = unmet(['sigmoid', 'equal classes', 'equal priors'], detr, detr)[-1:]
    assert lacking == 'equal priors, but neither of them has a prior_generator'


@pytest.mark.parametrize('width', [10, 40, 80])
def test_the_lines_of_a_method_fit_the_terminal(width):
    for one in read_methods(CONFIGS):
        lines = one.lines(width)
        assert lines[0].startswith(f'{one.name}:')
        said = ' '.join(' '.join(lines).split())
        assert said == ' '.join(' '.join(one.lines(999)).split()), 'no word is lost'
        for line in lines:
            assert len(line) <= max(width, 24) or len(line.split()) <= 2


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
