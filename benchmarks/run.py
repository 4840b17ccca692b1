"""What distillation costs: each target, what stands beside it, the ratio.

    python benchmarks/run.py [--quick] [--threads 2] [--rounds 9] [--pairs ssd yolov5]
    python benchmarks/run.py --device cuda --images 32

A step is forward, backward and an SGD step on one synthetic batch, untrained models.
All contenders of a pair run in turn in each round; a ratio is the median over the rounds.

    mmdet     mmdet's own step of the student, which knows nothing of a teacher
    mmrazor   SingleTeacherDistill with the same distiller
    student   the student's step with the options of a run: channels last, fused optimizer
    shipped   DetectionDistill's step with these options and the teacher in float32
    fast      with the teacher in bfloat16
    both      with the student in bfloat16 as well (autocast)
    cached    the teacher's records read from a cache and decoded (SSD)
    losses    mmkd's losses and connectors alone, forward and backward

mmdet and mmrazor run in the same process. Of mmkd's patches two touch what they do in a step:
stand-ins for compiled ops, without which mmdet cannot be imported, and none of which a step of
these students calls; and SSD's normaliser over ranks, which looks at the number of ranks and goes
on. So no patch helps or hinders them. The log, where one does, is no part of a step here; in
end_to_end.py it is, and there mmdet has a process of its own.
"""

import argparse
import copy
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
from cached_teacher import cached
from end_to_end import end_to_end
from measure import paired_seconds, peak_bytes, ratio
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmrazor.registry import MODELS

from mmkd.hooks.channels_last_hook import channels_last
from mmkd.losses.log_keys import DISTILL, is_term

ROOT = Path(__file__).resolve().parents[1]
PAIRS = {  # config, image size, batch size, objects per image
    'ssd': ('ssd_kd_vgg_to_mbv2_reference', 300, 4, 6),
    'yolov5': ('yolov5_kd_m_to_s_reference', 640, 2, 8),
}
CLASSES = {'ssd': 20, 'yolov5': 80}
FORMS = {
    'exact': {},
    'shipped': dict(lean_teacher={}),
    'fast': dict(lean_teacher=dict(dtype='bfloat16')),
    'both': dict(lean_teacher=dict(dtype='bfloat16')),
}
#: Highest ratios on a CPU and on a GPU; None where there is no target.
TARGETS = {
    'ssd': dict(student=(0.80, 0.40), shipped=(0.61, 0.30), cached=(0.85, 0.50), fast=(0.60, None)),
    'yolov5': dict(student=(0.80, None), shipped=(0.75, None), fast=(0.80, None)),
}


def build(
    name: str,
    device: str,
    type_: str = 'DetectionDistill',
    classes: int | None = None,
    **changes: Any,
) -> Any:
    """The pair of a config, untrained; the same student and teacher at each call."""
    config = Config.fromfile(ROOT / f'configs/{PAIRS[name][0]}.py')
    model = copy.deepcopy(config.model)
    model.update(type=type_, teacher_ckpt=None, **{'lean_teacher': None, **changes})
    model.teacher = Config.fromfile(model.teacher).model
    for detector in (model.architecture, model.teacher):
        detector.init_cfg = detector.backbone.init_cfg = None
        detector['_scope_'] = config.default_scope
        if name == 'ssd' and classes:
            detector.bbox_head.num_classes = classes
    if type_ == 'SingleTeacherDistill':
        model.pop('student_loss_weights', None)
        model.pop('lean_teacher')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        built = MODELS.build(model)
        torch.manual_seed(0)
        built.architecture.init_weights()
        torch.manual_seed(1)
        built.teacher.init_weights()
    if name == 'ssd':
        make_confident(built.teacher, classes or CLASSES[name])
    built.train()  # SingleTeacherDistill's returns nothing
    return built.to(device)


@torch.no_grad()
def make_confident(teacher: Any, classes: int) -> None:
    """Give an untrained SSD a trained one's logits: of a spread of 1.5, and sure of background."""
    features = teacher.eval().extract_feat(torch.randn(1, 3, 300, 300))
    for convs, feature in zip(teacher.bbox_head.cls_convs, features, strict=True):
        convs[-1].weight *= 1.5 / convs(feature).std()
        convs[-1].bias.view(-1, classes + 1)[:, -1] += 7


def make_batch(name: str, size: int, images: int, objects: int, classes: int) -> dict:
    """What a data loader gives: random images and boxes."""
    rng = np.random.default_rng(0)
    inputs, samples, rows = [], [], []
    for image in range(images):
        coarse = rng.integers(0, 255, (3, size // 20, size // 20), dtype=np.uint8)
        inputs.append(torch.from_numpy(np.kron(coarse, np.ones((1, 20, 20), np.uint8))))
        sides = rng.uniform(0.1, 0.5, (objects, 2)) * size
        corners = rng.uniform(0, 1, (objects, 2)) * (size - sides)
        boxes = torch.from_numpy(np.concatenate([corners, corners + sides], 1)).float()
        labels = torch.from_numpy(rng.integers(0, classes, objects))
        sample = DetDataSample(
            metainfo=dict(img_shape=(size, size), batch_input_shape=(size, size))
        )
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(sample)
        rows.append(torch.cat([torch.full((objects, 1), image), labels[:, None], boxes], 1))
    if name == 'yolov5':
        return dict(inputs=torch.stack(inputs), data_samples=dict(bboxes_labels=torch.cat(rows)))
    return dict(inputs=inputs, data_samples=samples)


def with_options(model: torch.nn.Module) -> torch.nn.Module:
    """The model with the options of a run, for a detector on its own and for a pair alike."""
    reason = channels_last(getattr(model, 'student', model))
    assert not reason, reason
    return model


def stepper(
    model: torch.nn.Module, batch: dict, fused: bool = False, amp: bool = False
) -> Callable[[], dict]:
    """A function that trains the model for a step on the batch and returns its terms."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-6, fused=fused or None)
    device = next(model.parameters()).device.type

    def step() -> dict:
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            data = model.data_preprocessor(copy.deepcopy(batch), True)
            terms = model(**data, mode='loss')
        optimizer.zero_grad()
        model.parse_losses(terms)[0].backward()
        optimizer.step()
        return {k: v.detach() for k, v in terms.items() if isinstance(v, torch.Tensor)}

    return step


def tensors(value) -> list[torch.Tensor]:
    """The tensors of nested lists."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


def recorded(manager) -> list[torch.Tensor]:
    """What the recorders of one side hold."""
    return [t for r in manager.recorders.values() for t in tensors(r.data_buffer)]


def record_bytes(model, batch: dict) -> int:
    """Bytes of what the teacher's recorders hold after a forward."""
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with model.distiller.teacher_recorders:
        model.teacher_source(data['inputs'], data['data_samples'])
    storages = {t.untyped_storage() for t in recorded(model.distiller.teacher_recorders)}
    model._release_records()
    return sum(storage.nbytes() for storage in {s.data_ptr(): s for s in storages}.values())


def loss_stepper(model, batch: dict) -> Callable[[], None]:
    """A function that runs the distillation losses and connectors alone, forward and backward."""
    distiller = model.distiller
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with distiller.teacher_recorders:
        model.teacher_source(data['inputs'], data['data_samples'])
    with distiller.student_recorders:
        model.student(data['inputs'], data['data_samples'], mode='loss')
    outputs = [t for t in recorded(distiller.student_recorders) if t.requires_grad]

    def run() -> None:
        total = sum(distiller.compute_distill_losses().values())
        torch.autograd.grad(total, outputs, allow_unused=True)

    return run


class Table:
    """Rows of a target, the figure and whether it is met."""

    def __init__(self) -> None:
        print(f'{"":58} {"target":>8} {"found":>8}')

    def row(self, what: str, target: float | None, found: float) -> None:
        verdict = '' if target is None else 'met' if found <= target else 'missed'
        shown = f'{"-":>8}' if target is None else f'{target:8.3f}'
        print(f'{what:58} {shown} {found:8.3f}  {verdict}')


def measure(
    name: str, device: str, table: Table, rounds: int, size: int, images: int, objects: int
) -> None:
    pairs = {form: build(name, device, **changes) for form, changes in FORMS.items()}
    batch = make_batch(name, size, images, objects, CLASSES[name])
    plain, own = build(name, device).student, with_options(build(name, device).student)
    contenders: dict[str, Callable] = {
        'mmdet': stepper(plain, batch),
        'mmrazor': stepper(build(name, device, 'SingleTeacherDistill'), batch),
        'student': stepper(own, batch, fused=True),
        **{
            form: stepper(with_options(pairs[form]), batch, fused=True, amp=form == 'both')
            for form in ('shipped', 'fast', 'both')
        },
    }
    contenders['losses'] = loss_stepper(build(name, device), batch)
    folder = tempfile.TemporaryDirectory()
    pairs['cached'] = build(name, device)
    view = cached(pairs['cached'], batch, folder.name)
    contenders['cached'] = stepper(with_options(pairs['cached']), batch, fused=True)
    exact = stepper(pairs['exact'], batch)()
    terms = {form: contenders[form]() for form in pairs if form != 'exact'}
    seconds = paired_seconds(contenders, rounds)
    print(f'\n{PAIRS[name][0]}, {images} images of {size} px: median seconds of a step')
    for contender, values in seconds.items():
        print(f'  {contender:10} {sorted(values)[len(values) // 2]:.3f}')
    targets = {what: pair[device != 'cpu'] for what, pair in TARGETS[name].items()}
    table.row(
        "student's own step / mmdet's", targets['student'], ratio(seconds, 'student', 'mmdet')
    )
    table.row(
        "shipped, float32 / MMRazor's", targets['shipped'], ratio(seconds, 'shipped', 'mmrazor')
    )
    table.row('fast / float32', targets['fast'], ratio(seconds, 'fast', 'shipped'))
    table.row('fast, bfloat16 student too / float32', None, ratio(seconds, 'both', 'shipped'))
    table.row("mmkd's losses / shipped", 0.03, ratio(seconds, 'losses', 'shipped'))
    # These are cheap, and near each other: more rounds tell them apart.
    near = {one: contenders[one] for one in ('mmdet', 'student', 'cached')}
    close = paired_seconds(near, 4 * rounds)
    table.row('cached / student', 1.02, ratio(close, 'cached', 'student'))
    table.row("cached / mmdet's plain step", targets['cached'], ratio(close, 'cached', 'mmdet'))
    table.row('cached: KB of a view', 64 if name == 'ssd' else 200, view / 1024)
    for form in terms:
        worst = max(
            abs(float(terms[form][key] / value) - 1)
            for key, value in exact.items()
            if key.startswith(DISTILL) and is_term(key) and value
        )
        target = None if form == 'both' else 0.01
        table.row(f'{form}: largest deviation of a distillation term', target, worst)
    alone = peak_bytes(contenders['student'], device)
    whole = peak_bytes(contenders['shipped'], device)
    beyond = whole - alone - record_bytes(pairs['shipped'], batch)
    table.row("shipped: peak memory beyond the records, by the student's", 0.05, beyond / alone)


def growth(name: str, device: str, rounds: int, size: int, images: int, objects: int) -> None:
    """How the losses' cost grows with image size, objects and classes."""
    classes = CLASSES[name]
    grown = {
        'as above': (classes, size, objects),
        'eight times the objects': (classes, size, 8 * objects),
    }
    if name == 'yolov5':
        grown['half the side'] = (classes, size // 64 * 32, objects)
    else:
        grown['four times the classes'] = (4 * classes, size, objects)
    contenders = {
        what: loss_stepper(
            build(name, device, classes=number), make_batch(name, side, images, many, number)
        )
        for what, (number, side, many) in grown.items()
    }
    seconds = paired_seconds(contenders, 3 * rounds)
    factors = [(ratio(seconds, what, 'as above'), what) for what in list(grown)[1:]]
    print(
        "  mmkd's losses take " + ', '.join(f'{f:.2f} times as long with {w}' for f, w in factors)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='one round on two images')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--images', type=int, help='in a batch; by default 4 of SSD, 2 of YOLOv5')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--pairs', nargs='+', choices=PAIRS, default=list(PAIRS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)  # what mmengine says of each initialised layer
    table = Table()
    for name in args.pairs:
        _, size, images, objects = PAIRS[name]
        images = args.images or images
        if args.quick:
            size, images, args.rounds = (300 if name == 'ssd' else 160), 2, 1
        measure(name, args.device, table, args.rounds, size, images, objects)
        growth(name, args.device, args.rounds, size, images, objects)
    print()
    end_to_end(args.device, 16, 32)
    load = f', load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores'
    machine = f'{args.threads} threads{load}'
    if args.device != 'cpu':
        machine = torch.cuda.get_device_name(args.device)
    print(f'\n{machine}, {args.rounds} rounds, torch {torch.__version__}')


if __name__ == '__main__':
    main()
