import re
from collections import Counter

import pytest
import torch
from mmdet.models import BaseDetector
from mmengine.config import Config
from mmrazor.registry import MODELS

from mmkd.checkpoints import reader
from mmkd.hooks.pair_report_hook import PairReportHook
from tests.tiny import raw_batch, tiny_pair, tiny_runner


@pytest.mark.parametrize('lean', [None, {}])
def test_a_start_reads_the_teachers_file_once_and_builds_it_once(tmp_path, monkeypatch, lean):
    path = str(tmp_path / 'teacher.pth')
    meta = dict(cfg=f'model = {dict(tiny_pair()["teacher"])!r}')
    torch.save(dict(state_dict=MODELS.build(tiny_pair()).teacher.state_dict(), meta=meta), path)
    done = Counter()
    read, build = reader.read_file, BaseDetector.__init__

    def counted_read(file, *args):
        done[str(file)] += 1
        return read(file, *args)

    def counted_build(self, *args, **kwargs):
        done['detectors'] += 1
        build(self, *args, **kwargs)

    monkeypatch.setattr(reader, 'read_file', counted_read)
    monkeypatch.setattr(BaseDetector, '__init__', counted_build)
    config = tiny_pair(teacher_ckpt=path, lean_teacher=lean)
    runner = tiny_runner(
        MODELS.build(config),
        [raw_batch(1)],
        tmp_path,
        cfg=Config(dict(model=config)),
        custom_hooks=[PairReportHook()],
    )
    runner.train()
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert re.search(rf'teacher: file {path}, keys loaded (\d+), of \1, share 1\b', log)
    assert done == {path: 1, 'detectors': 2}
