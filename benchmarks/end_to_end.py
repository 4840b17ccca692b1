"""Images a second of a training, data loading included: mmkd's runner and options beside mmdet's.

    python benchmarks/end_to_end.py [--device cuda] [--workers 16] [--images 32] [--steps 60]

Each side has processes of its own, in turn; that of mmdet has no more of mmkd than what makes mmdet
importable beside current packages. Both train SSD300-MobileNetV2 without a teacher, with mmdet's
pipeline of SSD, on JPEGs drawn here, as large as VOC's. The first third of the steps is left out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = 2.5


def draw(folder: Path, count: int) -> None:
    """Images of 500 x 375 with boxes, in COCO's form."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    images, boxes = [], []
    for number in range(count):
        coarse = rng.integers(0, 255, (15, 20, 3), dtype=np.uint8)
        pixels = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f'{number}.jpg'), pixels)
        images.append(dict(id=number, file_name=f'{number}.jpg', width=500, height=375))
        for _ in range(3):
            x, y, w, h = (int(value) for value in rng.uniform((0, 0, 60, 60), (250, 180, 240, 190)))
            box = dict(id=len(boxes), image_id=number, bbox=[x, y, w, h], area=w * h, iscrowd=0)
            boxes.append({**box, 'category_id': int(rng.integers(20))})
    categories = [dict(id=i, name=f'class{i}') for i in range(20)]
    content = dict(images=images, annotations=boxes, categories=categories)
    (folder / 'train.json').write_text(json.dumps(content))


def train(side: str, folder: Path, workers: int, images: int, steps: int) -> None:
    """One training; prints the images a second."""
    sys.path.insert(0, str(ROOT))
    if side == 'mmkd':
        import mmkd  # noqa: F401
    else:
        from import_time import MODELS

        exec(MODELS)
    import torch
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    class Watch(Hook):
        """Notes when the steps that are counted begin."""

        def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
            if runner.iter + 1 == steps // 3:
                self.begun = _now()

    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    cfg = Config.fromfile(ROOT / 'configs/ssd300_mbv2_voc.py')
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    pipeline = [step for part in dataset.get('datasets', [dataset]) for step in part.pipeline]
    count = len(dataset.get('datasets', [dataset]))
    data = dict(
        type='CocoDataset',
        data_root=str(folder),
        ann_file='train.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=[f'class{i}' for i in range(20)]),
        pipeline=pipeline[: len(pipeline) // count],
    )
    optimizer = dict(type='SGD', lr=1e-4, momentum=0.9, weight_decay=5e-4)
    hooks = dict(logger=dict(type='LoggerHook', interval=50))
    if side == 'mmkd':
        optimizer['fused'] = True
        hooks |= dict(channels_last=dict(type='ChannelsLastHook'))
        hooks |= dict(non_finite=dict(type='NonFiniteHook'))
        from mmkd.runner import ExactRunner as Kind
    else:
        Kind = Runner
    runner = Kind(
        model=cfg.model,
        work_dir=str(folder / side),
        train_dataloader=dict(
            batch_size=images,
            num_workers=workers,
            persistent_workers=workers > 0,
            sampler=dict(type='InfiniteSampler'),
            dataset=data,
        ),
        train_cfg=dict(by_epoch=False, max_iters=steps),
        optim_wrapper=dict(optimizer=optimizer),
        default_hooks=hooks,
        randomness=dict(seed=0),
        default_scope='mmdet',
        log_level='WARNING',
    )
    if side == 'mmkd':
        from mmkd.targets.batch_targets import batch_targets

        batch_targets(runner.model)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    print(json.dumps(images * (steps - steps // 3) / (_now() - watch.begun)))


def end_to_end(device: str, workers: int, images: int, steps: int = 60, rounds: int = 3) -> str:
    """The line of images a second, measured if there is a GPU."""
    what = 'images a second end to end, SSD, GPU / mmdet'
    if device == 'cpu':
        return f'{what}: not measured here, there is no GPU'
    rates: dict[str, list[float]] = {'mmkd': [], 'mmdet': []}
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), 8 * images)
        for _ in range(rounds):
            for side, found in rates.items():
                options = [side, folder, workers, images, steps]
                command = [sys.executable, '-W', 'ignore', __file__, '--train', *map(str, options)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found.append(json.loads(done.stdout.splitlines()[-1]))
    ratio = statistics.median(a / b for a, b in zip(*rates.values(), strict=True))
    shown = ', '.join(f'{side} {statistics.median(found):.0f}' for side, found in rates.items())
    verdict = 'met' if ratio >= TARGET else 'missed'
    return f'{what}: {ratio:.2f}, target {TARGET}: {verdict} ({shown}; {workers} workers)'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--workers', type=int, default=16)
    parser.add_argument('--images', type=int, default=32)
    parser.add_argument('--steps', type=int, default=60)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--train', nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        side, folder, *numbers = args.train
        train(side, Path(folder), *map(int, numbers))
    else:
        print(end_to_end(args.device, args.workers, args.images, args.steps, args.rounds))


if __name__ == '__main__':
    main()
