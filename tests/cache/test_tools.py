"""As a user calls it: fill the cache with a tool, train with one more line."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from tests.cache.conftest import PIPELINE, dataset
from tests.cli import test_tools
from tests.processes import context
from tests.tiny import ROOT, tiny_pair

SCHEDULE = """
default_scope = 'mmdet'
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
"""


@pytest.fixture
def run(tmp_path, monkeypatch, root):
    """Calls a tool in a folder with ``pair.py``."""
    monkeypatch.chdir(tmp_path)
    repeated = dict(type='RepeatDataset', times=2, dataset=dataset(root))
    loader = dict(
        batch_size=2,
        num_workers=1,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=repeated,
    )
    pair = tiny_pair(teacher_ckpt=f'{root}/teacher.pth')
    Path('pair.py').write_text(f'{SCHEDULE}model = {pair!r}\ntrain_dataloader = {loader!r}\n')
    page = (ROOT / 'docs/cache.md').read_text()
    [line] = [text for text in page.splitlines() if text.startswith("model.teacher_cache = '")]
    with open('cached.py', 'w') as file:
        file.write(f"_base_ = 'pair.py'\nmodel = dict(teacher_cache={line.split(' = ')[1]})\n")

    monkeypatch.setattr(sys, 'argv', sys.argv)
    return test_tools.run


def test_fill_by_two_processes_and_train(run, monkeypatch):
    ours = SimpleNamespace(get_context=lambda kind: context())
    monkeypatch.setattr('mmkd.cache.fill.multiprocessing', ours)
    run('cache_teacher', 'cached.py', '--views', 3, '--processes', 2)
    folder = Path('work_dirs/pair_cache')
    assert json.loads((folder / 'cache.json').read_text())['complete']
    run('train', 'cached.py')
    [log] = Path('work_dirs/cached').glob('*/vis_data/scalars.json')
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(steps) == 4  # RepeatDataset's 8 items
    assert all(step['distill.loss_soft'] > 0 for step in steps)
    student = Config.fromfile('work_dirs/cached/student.py')
    assert student.train_dataloader.dataset.dataset.pipeline == [dict(t) for t in PIPELINE]
    assert not {'CachedViews', 'collate_with_records'} & set(student.pretty_text.split("'"))
