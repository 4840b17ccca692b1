"""Split a COCO annotation file into parts by chance, say to hold test images out of a training set.

python tools/split_coco.py data/mine/annotations/all.json --shares train=0.7 val=0.15 test=0.15
"""

import argparse
import json
import math
import random
from pathlib import Path

from mmkd.datasets.annotations import check_coco
from mmkd.fileio.atomic_writes import write_whole


def part(text: str) -> tuple[str, float]:
    name, _, share = text.partition('=')
    if not name or Path(name).name != name or not 0 < float(share) <= 1:
        raise ValueError(text)
    return name, float(share)


def split(content: dict, shares: dict[str, float], seed: int) -> dict[str, dict]:
    """The COCO content of each part: an image is in one of them, with its annotations."""
    order = list(range(len(content['images'])))
    random.Random(seed).shuffle(order)
    parts = {}
    before = 0.0
    for name, share in shares.items():
        start, end = (round(border * len(order)) for border in (before, before + share))
        before += share
        images = [content['images'][index] for index in sorted(order[start:end])]
        ids = {image['id'] for image in images}
        annotations = [a for a in content['annotations'] if a['image_id'] in ids]
        parts[name] = {**content, 'images': images, 'annotations': annotations}
    return parts


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('annotations', type=Path, help='the parts are written beside it')
    parser.add_argument('--shares', type=part, nargs='+', required=True, metavar='PART=SHARE')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--force', action='store_true', help='overwrite the parts')
    args = parser.parse_args(argv)
    shares = dict(args.shares)
    if len(shares) < len(args.shares) or not math.isclose(sum(shares.values()), 1):
        raise SystemExit(f'--shares must name each part once and add up to 1, got {args.shares}.')
    out = {name: args.annotations.with_name(f'{name}.json') for name in shares}
    for path in out.values():
        if path == args.annotations:
            raise SystemExit(f'{path} is what is split: no part may have its name.')
        if path.exists() and not args.force:
            raise SystemExit(f'{path} must not exist yet, but it does; --force overwrites it.')
    try:
        check_coco('annotations', str(args.annotations), None)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    parts = split(json.loads(args.annotations.read_text(encoding='utf-8')), shares, args.seed)
    empty = [name for name, content in parts.items() if not content['images']]
    if empty:
        raise SystemExit(f'Each part must have images, but none are left for {", ".join(empty)}.')
    for name, content in parts.items():
        write_whole(out[name], json.dumps(content).encode())
        print(f'{out[name]}: {len(content["images"])} images')


if __name__ == '__main__':
    main()
