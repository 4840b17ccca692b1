"""Where what comes with mmkd lies, and which config a name means."""

import pytest

from mmkd_cli.main import main
from mmkd_cli.shipped import shipped, shipped_config
from tests.tiny import ROOT


@pytest.mark.parametrize(
    'words', [['train', 'mmkd::ssd_r18w8_digit'], ['configs', 'copy', 'ssd_r18w8_digit']]
)
def test_a_name_that_is_not_shipped(words, capsys):
    assert main(words)
    assert 'no "ssd_r18w8_digit.py". Did you mean ssd_r18w8_' in capsys.readouterr().err


def test_where_shipped_files_lie():
    assert shipped('tools/train.py') == ROOT / 'tools/train.py'
    assert shipped_config('mmkd::_base_/methods/ssd_balanced.py').is_file()
