"""Shared fixtures."""

import gc
import os

os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MMKD_LEAN_TEACHER', 'exact')  # no choice by time
os.environ.setdefault('MALLOC_ARENA_MAX', '8')  # a setting: trainings leave the allocator alone

import pytest
import torch

import mmkd  # noqa: F401  (first: it makes mmdet importable, and registers everything)

# isort: split
from hypothesis import settings
from mmdet.datasets import VOCDataset
from mmengine.registry import DefaultScope

from tests import (
    processes,
    shortcuts,  # noqa: F401  (what it leaves out is left out in all tests)
)
from tests.site import Site
from tests.tiny import write_voc

# One verdict per commit: no limit on the time of an example, the same examples in each run.
settings.register_profile('gate', deadline=None, derandomize=True)
# HYPOTHESIS_PROFILE=thorough: more of them, others in each run.
settings.register_profile('thorough', deadline=None, max_examples=1000)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'gate'))


def pytest_collection_finish():
    """What has been imported stays: the garbage collector need not look through it each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session')
def voc_root(tmp_path_factory) -> str:
    """A VOCdevkit/ with VOC2007 and VOC2012: 4 + 4 images to train, 3 to test."""
    root = tmp_path_factory.mktemp('voc') / 'VOCdevkit'
    classes = VOCDataset.METAINFO['classes']
    write_voc(root / 'VOC2007', 'trainval', 4, classes, seed=1)
    write_voc(root / 'VOC2007', 'test', 3, classes, seed=2)
    write_voc(root / 'VOC2012', 'trainval', 4, classes, seed=3)
    return f'{root}/'


_SCOPES = dict(DefaultScope._instance_dict)


@pytest.fixture(autouse=True)
def scopes():
    """The default scopes that runs, readers and fixtures of a module set end with each test."""
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(_SCOPES)


@pytest.fixture
def mmdet_scope():
    """Names are looked up in mmdet, as under a config with ``default_scope = 'mmdet'``."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def site():
    """A web server, empty so far."""
    site = Site()
    yield site
    site.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch's folder for what it fetches, empty."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'mmengine'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    return tmp_path / 'torch/hub/checkpoints'


@pytest.fixture
def forked_steps(monkeypatch):
    """The steps of a job begin with mmkd imported; latencies are measured for a moment."""
    monkeypatch.setattr('mmkd.compare.job.subprocess.Popen', processes.Command)
    monkeypatch.setattr('mmkd.compare.report.cost_section._ROUNDS', 3)


@pytest.fixture
def logged(monkeypatch):
    """What has been logged since the test began, by any of mmengine's loggers, in one text."""
    from mmengine.logging import MMLogger

    messages, handle = [], MMLogger.callHandlers

    def keep(self, record):
        messages.append(record.getMessage())
        handle(self, record)

    monkeypatch.setattr(MMLogger, 'callHandlers', keep)
    return lambda: '\n'.join(messages)
