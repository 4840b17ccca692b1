"""The commands of docs/export.md run, and what it says of the options holds."""

import re
import shlex
import shutil

from mmkd_cli.main import main
from tests.tiny import ROOT

PAGE = (ROOT / 'docs/export.md').read_text()


def test_the_page_runs(ssd, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ssd, 'student.pth')
    shutil.copy(ssd.parent / 'images/0.png', 'image.png')
    [block] = re.findall(r'```bash\n(.*?)```', PAGE, re.S)
    [command] = [line for line in block.splitlines() if line.startswith('mmkd ')]
    assert main(shlex.split(command)[1:]) == 0
    assert (tmp_path / 'student.parity.json').is_file()
    [block] = re.findall(r'```python\n(.*?)```', PAGE, re.S)
    names = {}
    exec(block, names)
    assert len(names['found'].names) == len(names['found']) > 0
    assert len(capsys.readouterr().out.splitlines()) > 4
