"""The arms are one list, and as text they are their names in any Python."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from mmkd.compare import ARMS
from mmkd.compare.arms import USUAL_ARMS, Arm
from mmkd.compare.report.run import Run
from mmkd_cli import compare


def test_the_command_offers_the_students():
    """It imports no torch, so that it has the names as text."""
    assert compare.ARMS == ARMS == ('baseline', 'kd', 'shuffled', 'longer')
    assert compare.USUAL_ARMS == USUAL_ARMS == ('baseline', 'kd', 'shuffled')
    assert all(type(arm) is str for arm in ARMS), 'argparse shows them as they are'


@pytest.mark.parametrize('arm', Arm)
def test_an_arm_is_its_name_wherever_text_is_made_of_it(arm):
    assert f'{arm}' == str(arm) == f'{arm:s}' == arm.value == Arm(arm.value)
    assert {arm: 1}[arm.value] == 1 and Path('job', arm).name == f'{arm.value}'
    assert json.loads(json.dumps({arm: [arm]}, indent=1)) == {arm.value: [arm.value]}
    assert ', '.join([arm]) == arm.value and arm.title() == arm.value.title()


def test_a_run_knows_its_arm_by_name():
    run = Run('kd', 0, 1, 0.5, 0.7)
    assert run.arm is Arm.DISTILLED and json.dumps(asdict(run)['arm']) == '"kd"'
    with pytest.raises(ValueError, match='other'):
        Run('other', 0, 1, 0.5, 0.7)
