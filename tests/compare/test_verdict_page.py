"""docs/verdict.md says what the code does."""

import re

from mmkd.compare.arms import ARMS, USUAL_ARMS, Arm
from mmkd.compare.measure.bootstrap import RESAMPLES
from mmkd.compare.measure.errors import KINDS
from mmkd.compare.report.sample_size import POWER
from mmkd.compare.report.summary import FEW_OBJECTS
from mmkd.compare.report.teacher import _REMEDIES
from mmkd.compare.report.write_report import _ARMS
from tests.tiny import ROOT

PAGE = (ROOT / 'docs/verdict.md').read_text()
WORDS = ' '.join(PAGE.split())


def rows(header: str) -> dict[str, str]:
    table = PAGE.split(f'| {header} |')[1].split('\n\n')[0]
    cells = [line.strip('| ').split(' | ') for line in table.splitlines()[2:]]
    return {name.strip('`'): text for name, text in cells}


def test_arms_kinds_and_remedies_are_those_of_the_code():
    assert rows('arm') == {arm: _ARMS[Arm(arm)] for arm in ARMS}
    assert rows('kind') == KINDS
    assert tuple(re.findall(r'^\d\. (.*)$', PAGE, re.M)) == _REMEDIES


def test_figures_are_those_of_the_code():
    assert f'{RESAMPLES} sets of as many images are drawn' in WORDS
    assert f'fewer than {FEW_OBJECTS} objects' in WORDS
    assert 'four times in five' in WORDS and POWER == 0.8
    assert ARMS[:3] == USUAL_ARMS and 'The first three run unless' in WORDS


def test_coverage_is_that_of_the_kept_log():
    log = (ROOT / 'docs/logs/interval_coverage.txt').read_text()
    found = re.findall(r'^ *(\d+) +(\d+) +(0\.\d+|1\.0+) +(\S+) +(\S+) +(\S+) points$', log, re.M)
    table = PAGE.split('| images | seeds |')[1].split('\n\n')[0]
    shown = [tuple(line.strip('| ').split(' | ')) for line in table.splitlines()[2:]]
    assert len(found) == 6 and shown == found
    [trials] = set(re.findall(r'--trials (\d+)', PAGE))
    assert f'in {trials} simulated comparisons' in log
    assert all(float(row[4]) >= 0.95 for row in found), 'over both it is on the safe side'
    assert all(float(row[3]) < 0.95 for row in found), 'over images alone always too narrow'
