import os

import pytest
import torch
from torch import distributed, multiprocessing

from mmkd.normalizer import across_ranks


@pytest.mark.parametrize('total', [3, 3.0, torch.tensor(3), torch.tensor([3.0])])
def test_one_process_divides_by_the_total(total):
    assert across_ranks(total, torch.zeros(1)).item() == 3


def test_clamps_and_keeps_precision():
    assert across_ranks(0, torch.zeros(1)).item() == 1
    assert across_ranks(0, torch.zeros(1), minimum=1e-6).item() == pytest.approx(1e-6)
    assert across_ranks(1, torch.zeros(1, dtype=torch.float16)).dtype == torch.float32
    assert across_ranks(1, torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_the_total_is_left_alone():
    total = torch.tensor(0.0, requires_grad=True)
    assert not across_ranks(total, torch.zeros(1)).requires_grad
    assert total.item() == 0


def _rank(rank, path, result):
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    distributed.init_process_group('gloo', init_method=f'file://{path}', rank=rank, world_size=2)
    counts = [(3, 0), (0, 0)]
    result.put((rank, [across_ranks(pair[rank], torch.zeros(1)).item() for pair in counts]))
    distributed.destroy_process_group()


def test_two_ranks_share_the_mean(tmp_path):
    # Sum 3 and 0 over 2 ranks: 3 / 2 on both, though one has no objects; 0 and 0: 1 / 2.
    # Gradients are averaged, so (g0 / 1.5 + 0 / 1.5) / 2 = g0 / 3.
    context = multiprocessing.get_context('spawn')
    result = context.SimpleQueue()
    processes = [
        context.Process(target=_rank, args=(rank, tmp_path / 'store', result)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert dict([result.get(), result.get()]) == {0: [1.5, 0.5], 1: [1.5, 0.5]}
