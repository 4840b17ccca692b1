"""Where steps run: GPUs, cores and threads."""

import pytest
import torch

from mmkd.compare import workers
from mmkd.compare.workers import describe_machine, worker_environments


@pytest.fixture
def machine(monkeypatch):
    """Pretend to have so many GPUs and cores."""
    for name in ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES'):
        monkeypatch.delenv(name, raising=False)

    def pretend(gpus: int, cores: int) -> None:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
        monkeypatch.setattr(torch.cuda, 'get_device_name', lambda i: f'GPU {i}')
        monkeypatch.setattr(workers, 'cores', lambda: cores)

    return pretend


def test_without_gpus_one_per_core_but_no_more_than_there_is_to_do(machine):
    machine(gpus=0, cores=8)
    assert len(worker_environments(None, most=20)) == 8
    few = worker_environments(None, most=3)
    assert [env['OMP_NUM_THREADS'] for env in few] == ['2'] * 3
    assert 'CUDA_VISIBLE_DEVICES' not in few[0]
    assert worker_environments(16, most=20)[0]['OMP_NUM_THREADS'] == '1'


def test_each_has_a_gpu_of_its_own(machine, monkeypatch):
    machine(gpus=2, cores=8)
    names = [env['CUDA_VISIBLE_DEVICES'] for env in worker_environments(None, most=9)]
    assert names == ['0', '1']
    assert [e['CUDA_VISIBLE_DEVICES'] for e in worker_environments(3, most=9)] == ['0', '1', '0']
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '5,7')
    names = [env['CUDA_VISIBLE_DEVICES'] for env in worker_environments(None, most=9)]
    assert names == ['5', '7']


def test_the_users_threads_are_kept(machine, monkeypatch):
    machine(gpus=0, cores=8)
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    found = describe_machine(worker_environments(2, most=9))
    assert (found['workers'], found['threads'], found['cores'], found['gpus']) == (2, 3, 8, [])
    assert found['versions']['torch'] == torch.__version__.split('+')[0] or torch.__version__
