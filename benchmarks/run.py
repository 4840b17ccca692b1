"""What distillation costs: each target, what stands beside it, the ratio.

    python benchmarks/run.py [--quick] [--threads 2] [--rounds 9] [--pairs ssd yolov5]
    python benchmarks/run.py --device cuda --images 32

A step is forward, backward and an SGD step on one synthetic batch, untrained models.
All contenders of a pair run in turn in each round; a ratio is the median over the rounds.

    student   the undistilled student's step
    teacher   the teacher's plain forward in eval mode
    pair      DetectionDistill's step as the config has it
    lean      with BatchNorm folded and channels last: the same maps up to rounding
    fast      with bfloat16 in backbone and neck as well
    cached    the teacher's records read from a cache and decoded (SSD)
    mmrazor   SingleTeacherDistill with the same distiller
    losses    mmkd's losses and connectors alone, forward and backward
"""

import argparse
import copy
import logging
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
from measure import paired_seconds, peak_bytes, ratio
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmrazor.registry import MODELS

from mmkd.cache.record import RecordLayout, plan_fields
from mmkd.cache.store import Store
from mmkd.datasets.data_samples import boxes_of
from mmkd.losses.log_keys import DISTILL, is_term

ROOT = Path(__file__).resolve().parents[1]
PAIRS = {  # config, image size, batch size, objects per image
    'ssd': ('ssd_kd_vgg_to_mbv2_reference', 300, 4, 6),
    'yolov5': ('yolov5_kd_m_to_s_reference', 640, 2, 8),
}
CLASSES = {'ssd': 20, 'yolov5': 80}
FORMS = {
    'pair': {},
    'lean': dict(lean_teacher={}),
    'fast': dict(lean_teacher=dict(dtype='bfloat16')),
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
    model.update(type=type_, teacher_ckpt=None, **changes)
    model.teacher = Config.fromfile(model.teacher).model
    for detector in (model.architecture, model.teacher):
        detector.init_cfg = detector.backbone.init_cfg = None
        detector['_scope_'] = config.default_scope
        if name == 'ssd' and classes:
            detector.bbox_head.num_classes = classes
    if type_ == 'SingleTeacherDistill':
        model.pop('student_loss_weights', None)
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


def stepper(model: torch.nn.Module, batch: dict) -> Callable[[], dict]:
    """A function that trains the model for a step on the batch and returns its terms."""
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), 1e-6)

    def step() -> dict:
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


def cached(model, batch: dict, folder: str) -> int:
    """Let the pair's teacher be a cache of this batch in ``folder``; bytes of a view."""
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    recorders = model.distiller.teacher_recorders
    with recorders:
        model.teacher_source(data['inputs'], data['data_samples'])
    layout = RecordLayout.of(plan_fields(model.distiller, model.student), recorders)
    truths = [boxes_of(sample) for sample in batch['data_samples']]
    records = layout.encode(recorders, (model.student.bbox_head.prior_generator, truths))
    model._release_records()
    store = Store(folder, layout.nbytes, len(records), 'benchmark')
    for slot, record in enumerate(records.cpu().numpy()):
        store.write(slot, 0, record)

    def read(inputs: torch.Tensor, data_samples: object) -> None:
        found = [store.read(slot) for slot in range(len(inputs))]
        assert all(found)
        stacked = torch.from_numpy(np.stack([record for _, record in found]))
        layout.decode(stacked.to(inputs.device), recorders)

    model.teacher_source = read
    return layout.nbytes


class Table:
    """Rows of a target, the figure and whether it is met."""

    def __init__(self) -> None:
        print(f'{"":58} {"target":>8} {"found":>8}')

    def row(self, what: str, target: float, found: float) -> None:
        print(f'{what:58} {target:8.3f} {found:8.3f}  {"met" if found <= target else "missed"}')


def measure(
    name: str, device: str, table: Table, rounds: int, size: int, images: int, objects: int
) -> None:
    pairs = {form: build(name, device, **changes) for form, changes in FORMS.items()}
    batch = make_batch(name, size, images, objects, CLASSES[name])
    plain = pairs['pair']
    data = plain.data_preprocessor(copy.deepcopy(batch), True)
    contenders: dict[str, Callable] = {
        'student': stepper(plain.student, batch),
        'teacher': lambda: plain.teacher_source(data['inputs'], data['data_samples']),
        **{form: stepper(model, batch) for form, model in pairs.items()},
        'mmrazor': stepper(build(name, device, 'SingleTeacherDistill'), batch),
    }
    contenders['losses'] = loss_stepper(build(name, device), batch)
    folder = tempfile.TemporaryDirectory()
    if name == 'ssd':
        pairs['cached'] = build(name, device)
        view = cached(pairs['cached'], batch, folder.name)
        contenders['cached'] = stepper(pairs['cached'], batch)
    terms = {form: contenders[form]() for form in pairs}
    seconds = paired_seconds(contenders, rounds)
    print(f'\n{PAIRS[name][0]}, {images} images of {size} px: median seconds of a step')
    for contender, values in seconds.items():
        print(f'  {contender:10} {sorted(values)[len(values) // 2]:.3f}')
    floor = ('student', 'teacher')
    table.row('pair / (student + teacher)', 1.03, ratio(seconds, 'pair', *floor))
    table.row('lean / (student + teacher)', 1.03, ratio(seconds, 'lean', *floor))
    table.row('lean / mmrazor', 1.0, ratio(seconds, 'lean', 'mmrazor'))
    table.row('fast / (student + teacher)', 0.75, ratio(seconds, 'fast', *floor))
    table.row("mmkd's losses / pair", 0.03, ratio(seconds, 'losses', 'pair'))
    if 'cached' in pairs:
        # These two are cheap, and near each other: more rounds tell them apart.
        both = {one: contenders[one] for one in ('student', 'cached')}
        close = paired_seconds(both, 4 * rounds)
        table.row('cached / student', 1.05, ratio(close, 'cached', 'student'))
        table.row('cached: KB of a view', 64, view / 1024)
    for form in [form for form in pairs if form != 'pair']:
        worst = max(
            abs(float(terms[form][key] / value) - 1)
            for key, value in terms['pair'].items()
            if key.startswith(DISTILL) and is_term(key) and value
        )
        table.row(f'{form}: largest deviation of a distillation term', 0.01, worst)
    own = peak_bytes(contenders['student'], device)
    whole = peak_bytes(contenders['lean'], device)
    beyond = whole - own - record_bytes(pairs['lean'], batch)
    table.row("lean: peak memory beyond the records, by the student's peak", 0.05, beyond / own)


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
    machine = f'{args.threads} threads'
    if args.device != 'cpu':
        machine = torch.cuda.get_device_name(args.device)
    print(f'\n{machine}, {args.rounds} rounds, torch {torch.__version__}')


if __name__ == '__main__':
    main()
