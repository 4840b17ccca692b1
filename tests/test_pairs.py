"""A ring of all kinds of detectors: each teaches the next, from two configs to a prediction."""

import logging
import warnings
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / 'benchmarks'


@pytest.fixture(scope='module')
def pairs():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        import pairs

        patch.setattr(import_module('mmkd.doctor.examine'), 'check_time', lambda *args: None)
        patch.setattr('builtins.print', lambda *args, **kwargs: None)  # of pycocotools
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            logging.disable(logging.WARNING)
            yield pairs
            logging.disable(logging.NOTSET)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('ring')


def ring():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        from pairs import KINDS, ordered

        return ordered(list(KINDS))[: len(KINDS)]


@pytest.mark.parametrize('teacher, student', ring())
def test_each_kind_teaches_the_next(pairs, folder, teacher, student):
    if 'mmyolo::' in pairs.KINDS[teacher] + pairs.KINDS[student]:
        pytest.importorskip('mmyolo')
    row = pairs.run_pair(folder, teacher, student)
    assert row['stage'] == pairs.DONE, row


def test_the_page_says_what_was_tried(pairs):
    row = dict(teacher='FCOS', student='GFL', method='pkd', stage='done', error=None)
    bad = dict(teacher='GFL', student='FCOS', method=None, stage='pair', error='none fits')
    text = pairs.page({('FCOS', 'GFL'): row, ('GFL', 'FCOS'): bad}, ['FCOS', 'GFL'])
    assert 'Of the 4 pairs of 2 kinds, 2 were tried' in text and 'and 1 went through' in text
    assert '| GFL | 1 of 1 | FCOS: pkd |' in text
    assert '| FCOS | 0 of 1 | GFL: **pair fails** |' in text
    assert 'GFL → FCOS, at pair: none fits' in text
