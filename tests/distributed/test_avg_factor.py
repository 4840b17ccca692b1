import pytest
import torch
from torch import distributed

from mmkd.distributed.avg_factor import across_ranks
from mmkd.losses import FineGrainedImitation, ObjScaledBoxCls, TeacherBoundedReg, WeightedSoftCls
from tests.losses.contract import apply, tensors
from tests.losses.ssd_inputs import NUM_CLASSES, maps, targets
from tests.processes import context, start


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


def _ssd(seed, images, num_pos):
    """Box maps and targets of the given images; the second has no positive."""
    labels, label_weights, boxes, box_weights, _ = targets(seed, share=0.4)
    for label, weight in zip(labels, box_weights, strict=True):
        label[1], weight[1] = NUM_CLASSES, 0
    assigned = [[m[images] for m in part] for part in (labels, label_weights, boxes, box_weights)]
    return (*assigned, num_pos)


def _problems(images, num_pos):
    """Each loss with its inputs for the given images of a batch of two."""
    each = {
        'bounded': (TeacherBoundedReg(), (maps(1, 4), maps(2, 4))),
        'soft': (WeightedSoftCls(), (maps(1, NUM_CLASSES + 1), maps(2, NUM_CLASSES + 1))),
        'imitation': (FineGrainedImitation(), (maps(1, 4), maps(2, 4))),
        'output': (
            ObjScaledBoxCls(NUM_CLASSES, nms_kernel=3),
            tuple((maps(s, NUM_CLASSES), maps(s + 1, 4), maps(s + 2, 1)) for s in (1, 9)),
        ),
    }
    mask = [torch.zeros(2, 1, *m.shape[2:]) for m in maps(0, 1)]
    mask[0][0, :, 0] = 1  # no cell of the second image
    extra = {
        'bounded': {'targets': _ssd(0, images, num_pos)},
        'soft': {'targets': _ssd(0, images, num_pos)},
        'imitation': {'mask': [m[images] for m in mask]},
        'output': {},
    }
    for name, (loss, pair) in each.items():
        student, teacher = apply(pair, lambda m: m[images].clone().requires_grad_())
        yield name, loss, student, {'preds_S': student, 'preds_T': teacher, **extra[name]}


def _gradients(images, num_pos):
    found = {}
    for name, loss, student, arguments in _problems(images, num_pos):
        loss(**arguments).backward()
        found[name] = torch.cat([m.grad.flatten(1) for m in tensors(student)], 1).tolist()
    return found


def _rank(rank, path, result):
    distributed.init_process_group('gloo', init_method=f'file://{path}', rank=rank, world_size=2)
    counts = [(3, 0), (0, 0)]
    avg_factors = [across_ranks(pair[rank], torch.zeros(1)).item() for pair in counts]
    result.put((rank, avg_factors, _gradients([rank], num_pos=[7, 1][rank])))
    distributed.destroy_process_group()


def test_two_ranks_have_the_gradient_of_one_process(tmp_path):
    result = context().Queue()
    processes = [start(_rank, rank, tmp_path / 'store', result) for rank in (0, 1)]
    received = sorted(result.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    # Sum 3 and 0 over 2 ranks: 3 / 2 on both, though one has no objects; 0 and 0: 1 / 2.
    assert [avg_factors for _, avg_factors, _ in received] == [[1.5, 0.5]] * 2
    # DDP averages: half of each rank's gradient is what one process has for that image.
    whole = _gradients([0, 1], num_pos=8)
    for name, gradient in whole.items():
        shares = torch.tensor([ranks[name][0] for _, _, ranks in received]) / 2
        assert torch.allclose(shares, torch.tensor(gradient), rtol=1e-4, atol=1e-7), name
