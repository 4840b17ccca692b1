"""What loading an image costs, transform by transform, and what share of a run that is.

    python benchmarks/loading.py [--quick]

The training pipelines of the shipped pairs on JPEGs of VOC's size, 500 x 375 px, with 8 boxes
each; CPU milliseconds an image, the median over the images, in one thread. The share is that of
loading in the CPU time of a run: on CPUs, training and the loader's workers share all cores, so
it holds for 2 cores as for 16. With a GPU the loader's workers have the cores to themselves:
16 of them load 16 / cost images a second, computed.
"""

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
import cv2
import measured_pairs as pairs
import numpy as np
import steps
import torch
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkd.datasets.seeding import seed_streams

PIPELINES = {'ssd': 'ssd_kd_vgg_to_mbv2', 'yolov5': 'yolov5_kd_m_to_s'}


def write_images(folder: Path, count: int) -> list[dict[str, Any]]:
    """Images, and what a data set knows of them."""
    rng = np.random.default_rng(0)
    infos = []
    for number in range(count):
        path = str(folder / f'{number}.jpg')
        coarse = rng.integers(0, 255, (25, 33, 3), dtype=np.uint8)
        cv2.imwrite(path, cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC))
        corners = rng.uniform(0, 1, (8, 2)) * (250, 200)
        boxes = np.concatenate([corners, corners + rng.uniform(20, 170, (8, 2))], 1)
        instances = [
            dict(bbox=box.tolist(), bbox_label=number % 20, ignore_flag=0) for box in boxes
        ]
        infos.append(dict(img_path=path, img_id=number, height=375, width=500, instances=instances))
    return infos


class Images:
    """What transforms that mix images ask a data set for."""

    def __init__(self, infos: list[dict[str, Any]], transforms: list[Any]) -> None:
        self.infos, self.load = infos, transforms[:2]

    def __len__(self) -> int:
        return len(self.infos)

    def get_data_info(self, index: int) -> dict[str, Any]:
        return {**self.infos[index], 'dataset': self}

    def __getitem__(self, index: int) -> dict[str, Any]:
        results = self.get_data_info(index)
        for transform in self.load:
            results = transform(results)
        return results


def pipeline_of(config: Any) -> list[dict[str, Any]]:
    """All transforms of a training data set, those of mixed images last."""
    within = config.get('dataset') or (config.get('datasets') or [None])[0]
    return (pipeline_of(within) if within else []) + list(config.get('pipeline') or [])


def milliseconds(function: Any, *args: Any) -> tuple[float, Any]:
    start = time.process_time()
    outcome = function(*args)
    return 1e3 * (time.process_time() - start), outcome


def measure(name: str, infos: list[dict[str, Any]], rounds: int) -> float:
    """Print each transform's cost; milliseconds of an image."""
    config = Config.fromfile(pairs.ROOT / f'configs/{PIPELINES[name]}.py')
    with DefaultScope.overwrite_default_scope(config.default_scope):
        transforms = [TRANSFORMS.build(t) for t in pipeline_of(config.train_dataloader.dataset)]
    images = Images(infos, transforms)
    costs: dict[str, list[float]] = {'seeding': []}
    for number in range(rounds * len(infos)):
        costs['seeding'].append(milliseconds(seed_streams, 0, number)[0])
        results: Any = images.get_data_info(number % len(infos))
        for place, transform in enumerate(transforms):
            results.setdefault('dataset', images)
            cost, results = milliseconds(transform, results)
            costs.setdefault(f'{place} {type(transform).__name__}', []).append(cost)
    print(f'\n{PIPELINES[name]}: CPU milliseconds an image')
    medians = {what: statistics.median(values) for what, values in costs.items()}
    for what, cost in medians.items():
        print(f'  {what:28} {cost:8.2f}')
    return sum(medians.values())


def step_cost(name: str, rounds: int) -> float:
    """CPU milliseconds of a lean distillation step, an image."""
    _, size, images, objects = pairs.PAIRS[name]
    batch = pairs.make_batch(name, size, images, objects, pairs.CLASSES[name])
    step = steps.stepper(pairs.build(name, 'cpu', lean_teacher={}), batch)
    step()
    return min(milliseconds(step)[0] for _ in range(rounds)) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--quick', action='store_true', help='few images')
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        infos = write_images(Path(folder), 4 if args.quick else 32)
        for name in PIPELINES:
            loading = measure(name, infos, 1 if args.quick else 3)
            step = step_cost(name, 1 if args.quick else 3)
            print(f'  loading {loading:.1f} ms, lean step {step:.0f} ms an image')
            print(f'  share of loading on CPUs, 2 cores or 16: {loading / (loading + step):.3f}')
            print(f'  16 workers beside a GPU: {16e3 / loading:.0f} images a second, computed')


if __name__ == '__main__':
    main()
