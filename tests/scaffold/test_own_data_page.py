"""The commands of docs/your_own_data.md on a tiny set of photographs."""

import json
import re
import shlex
from pathlib import Path

from mmkd_cli.main import main
from tests.scaffold.sets import images, write_voc
from tests.tiny import ROOT

TEXT = (ROOT / 'docs/your_own_data.md').read_text().replace('\\\n', ' ')
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r'```bash\n(.*?)```', TEXT, re.S)
    for line in block.splitlines()
]

#: What other tests run: of ``mmkd data``, of ``mmkd pair``, of the comparison.
ELSEWHERE = {
    ('data', 'split'): 'tests/cli/test_data.py',
    ('data', 'voc2coco'): 'tests/compare/test_compare.py',
    ('pair', 'mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'): 'tests/pairing/test_write_pair.py',
    ('pair', 'mmdet::rtmdet/rtmdet_m_8xb32-300e_coco.py'): 'tests/pairing/test_write_pair.py',
    ('compare', 'my_pair.py'): 'tests/compare/test_compare.py',
}


def test_from_photographs_to_a_report(tmp_path, request, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['mmkd'])
    paths, objects = images(Path('data/mine/JPEGImages'), [(80, 60)] * 10, ('ant', 'bee', 'cat'))
    write_voc(Path('data/mine/Annotations'), paths, objects)
    ran = []
    for words in sorted(COMMANDS, key=lambda words: words[0] == 'compare'):
        if tuple(words[:2]) in ELSEWHERE or words in ran:
            assert words in ran or (ROOT / ELSEWHERE[tuple(words[:2])]).is_file()
            continue
        ran.append(words)
        own = list(words)
        if words[0] == 'new' and '--offline' not in words:
            own.append('--offline')  # there is no network
        if words[0] == 'compare':  # last, for its steps start in another way
            request.getfixturevalue('forked_steps')
            own[own.index('--seeds') + 1 : own.index('--arms')] = ['0']
            own += ['--epochs', '1', '--workers', '2']
        status = main(own)
        # Of an untrained teacher, which the page has not trained yet, the doctor has to say so.
        assert status == (1 if words[0] == 'check' else 0), (words, capsys.readouterr())
    assert [words[0] for words in ran] == ['new', 'new', 'train', 'check', 'compare']
    report = json.loads(Path('my/work_dirs/compare/report.json').read_text())
    assert [run['arm'] for run in report['runs']] == ['teacher', 'baseline', 'kd']
    assert Path('my/work_dirs/student/epoch_2.pth').is_file()
