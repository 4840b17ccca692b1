"""The commands of "Quantise" in docs/use_the_student.md run, and it says what they do."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from mmkd.quantization import Quantize
from mmkd_cli.main import main
from tests.tiny import ROOT

PAGE = (ROOT / 'docs/use_the_student.md').read_text()
[SECTION] = re.findall(r'\n## Quantise\n(.*?)(?=\n## |\Z)', PAGE, re.S)
START = 'work_dirs/ssd_kd_r18_to_r18w8_digits'
#: So that commands take seconds.
FAST = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=2']
FEW = [
    'model.architecture.test_cfg.nms_pre=5',
    'model.teacher_ckpt=None',
    'model.lean_teacher=None',
]


def test_the_section_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip('sklearn', reason='the digits need it')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    blocks = '\n'.join(re.findall(r'```bash\n(.*?)```', SECTION, re.S)).replace('\\\n', '')
    commands = [shlex.split(line)[1:] for line in blocks.splitlines() if line]
    assert [words[0] for words in commands] == ['export', 'train', 'export']
    pair = 'mmkd::ssd_kd_r18_to_r18w8_digits.py'
    assert main(['data', 'digits', '--train', '6', '--val', '2']) == 0
    assert main(['train', pair, '--cfg-options', *FAST, *FEW]) == 0
    for words in commands:
        if words[0] == 'train':
            at = words.index('--epochs')
            assert words.pop(at) == '--epochs' and words.pop(at) == '2'
            words += [*FAST, *FEW, 'model.quantize.batches=1']
        assert main(words) in (0, 1)  # of untrained detectors any mAP may fall
    after, trained = (
        json.loads(Path(f'{n}.parity.json').read_text()) for n in ('after', 'trained')
    )
    assert after['int8']['ranges'] == 'of 6 training images'
    assert trained['int8']['ranges'] == 'of the training'
    assert len(trained['int8']['left_out']) == 6  # the convolutions that predict
    for report in (after, trained):
        assert [row['precision'] for row in report['table']] == ['float32', 'float16', 'int8']
        assert report['table'][2]['size'] < 0.6 * report['table'][0]['size']
    assert 'of the training' in capsys.readouterr().out


def test_the_table_lists_each_setting():
    rows = re.findall(r'^\| `(\w+)` \|', SECTION, re.M)
    assert sorted(rows) == sorted(Quantize.__dataclass_fields__)
    for name in ('batches', 'momentum'):
        assert f'default {getattr(Quantize(), name)}' in SECTION
