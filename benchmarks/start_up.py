"""What the checks before a run cost on a COCO file: 118 000 images, 860 000 boxes, synthetic.

    python benchmarks/start_up.py [--quick]

Beside it: ``json.load`` of the file, and mmdet's own ``load_data_list``. The target is at most 25 s
beyond the two. The checks are those of a training: the training split is the large one, the
validation split a thirtieth of it, with an evaluator that reads its own copy.
"""

import argparse
import contextlib
import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmkd.datasets.data_checks import check_data

TARGET = 25.0


def write_split(root: Path, name: str, images: int, boxes: int) -> Path:
    """Annotations of the form and size of COCO's, with polygons; the images are empty files."""
    draw = random.Random(0)
    folder = root / name
    folder.mkdir()
    records = []
    for number in range(images):
        (folder / f'{number:012d}.jpg').touch()
        records.append(dict(id=number, file_name=f'{number:012d}.jpg', width=640, height=480))
    annotations = []
    for number in range(boxes):
        x, y = draw.uniform(0, 600), draw.uniform(0, 440)
        width, height = draw.uniform(2, 80), draw.uniform(2, 80)
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        annotations.append(
            dict(
                id=number,
                image_id=draw.randrange(images),
                category_id=1 + number % 80,
                bbox=[round(value, 2) for value in (x, y, width, height)],
                area=round(width * height, 2),
                iscrowd=int(number % 100 == 0),
                segmentation=[[round(value, 2) for value in corners]],
            )
        )
    classes = CocoDataset.METAINFO['classes']
    categories = [dict(id=1 + i, name=name) for i, name in enumerate(classes)]
    content = dict(images=records, annotations=annotations, categories=categories)
    path = root / f'{name}.json'
    path.write_text(json.dumps(content))
    return path


def seconds(work: Callable[[], Any]) -> float:
    """Of CPU time: other work on the machine does not count."""
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):  # of pycocotools
        work()
    return time.process_time() - start


def dataset(root: Path, name: str) -> dict:
    return dict(
        type='CocoDataset',
        data_root=f'{root}/',
        ann_file=f'{name}.json',
        data_prefix=dict(img=f'{name}/'),
        pipeline=[],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--quick', action='store_true', help='a hundredth of the size')
    share = 100 if parser.parse_args().quick else 1
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        train = write_split(root, 'train', 118_000 // share, 860_000 // share)
        val = write_split(root, 'val', 4_000 // share, 29_000 // share)
        (root / 'copy.json').write_bytes(val.read_bytes())
        cfg = Config(
            dict(
                default_scope='mmdet',
                train_dataloader=dict(dataset=dataset(root, 'train')),
                val_dataloader=dict(dataset=dict(dataset(root, 'val'), test_mode=True)),
                val_evaluator=dict(type='CocoMetric', ann_file=str(root / 'copy.json')),
            )
        )
        loading = seconds(lambda: json.loads(train.read_text()))
        mmdet = seconds(
            lambda: CocoDataset(
                **{k: v for k, v in dataset(root, 'train').items() if k != 'type'},
                serialize_data=False,
            )
        )
        checks = seconds(lambda: check_data(cfg, ('train', 'val')))
    beyond = checks - loading
    print(f'json.load of the training file      {loading:6.1f} s')
    print(f"mmdet's load_data_list, with it     {mmdet:6.1f} s")
    print(f'all checks before the run           {checks:6.1f} s')
    print(
        f'beyond json.load                    {beyond:6.1f} s  target {TARGET:.0f} s: '
        f'{"met" if beyond <= TARGET else "missed"}'
    )


if __name__ == '__main__':
    main()
