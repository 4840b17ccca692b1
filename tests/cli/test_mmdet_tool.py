"""mmdet's own tools, run with the ops in place: on their own they stop at "import mmcv.ops"."""

import sys

import pytest

from mmkd_cli.main import main


def test_mmdets_own_tools(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'argv', sys.argv)
    assert main(['mmdet-tool']) == 0
    listed = capsys.readouterr().out.split()
    if not listed:
        pytest.skip('this mmdet comes without its tools')
    assert {'analyze_logs', 'browse_dataset', 'test'} <= set(listed)
    config = tmp_path / 'config.py'
    config.write_text('lr = 0.5\n')
    main(['mmdet-tool', 'print_config', str(config), '--cfg-options', 'lr=0.25'])
    assert 'lr = 0.25' in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r'"analyse" must be one of .*analyze_logs'):
        main(['mmdet-tool', 'analyse'])
