"""Make the digits, split an annotation file, or write COCO JSON for data in VOC form."""

import argparse
import sys
from pathlib import Path

#: Settings of the digits and their defaults, those of ``mmkd.datasets.digits.DigitsSettings``.
DIGITS = dict(train=2400, val=300, seed=0, canvas=128, min_size=16, max_size=56)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A subcommand for each form of data."""
    kinds = parser.add_subparsers(metavar='WHAT', required=True)

    def kind(name: str, text: str) -> argparse.ArgumentParser:
        return kinds.add_parser(name, help=text, description=text)

    digits = kind('digits', 'Make the digits data set.')
    digits.add_argument('--out', default='data/digits', help='folder to write')
    digits.add_argument('--force', action='store_true', help='replace a set of other settings')
    for name, default in DIGITS.items():
        digits.add_argument(f'--{name.replace("_", "-")}', type=int, default=default)
    digits.set_defaults(run=make_digits)

    split = kind(
        'split',
        'Split a COCO annotation file into parts by chance, say to hold test images out of a '
        'training set.',
    )
    split.add_argument('annotations', type=Path, help='the parts are written beside it')
    split.add_argument('--shares', type=part, nargs='+', required=True, metavar='PART=SHARE')
    split.add_argument('--seed', type=int, default=0)
    split.add_argument('--force', action='store_true', help='overwrite the parts')
    split.set_defaults(run=split_coco)

    voc = kind(
        'voc2coco',
        'Write COCO JSON for a data set in VOC form, so that both evaluators can be used on it.',
    )
    voc.add_argument('root', type=Path, help='has JPEGImages, Annotations, ImageSets/Main')
    voc.add_argument('--classes', nargs='+', required=True, help='in the order of the labels')
    voc.add_argument('--splits', nargs='+', default=['train', 'val', 'test'])
    voc.add_argument('--force', action='store_true', help='overwrite the JSON files')
    voc.set_defaults(run=voc_to_coco)


def part(text: str) -> tuple[str, float]:
    """A part's name and its share, of ``NAME=SHARE``."""
    name, _, share = text.partition('=')
    if not name or Path(name).name != name or not 0 < float(share) <= 1:
        raise ValueError(text)
    return name, float(share)


def make_digits(args: argparse.Namespace) -> int:
    """Draw the digits."""
    from rich.progress import track

    from mmkd.datasets import digits

    settings = digits.DigitsSettings(**{name: getattr(args, name) for name in DIGITS})
    try:
        made = digits.make_digits(
            args.out,
            settings,
            args.force,
            track=lambda images, total: track(images, 'Drawing digits', total=total),
        )
    except (ValueError, OSError) as error:
        print(f'make_digits: {error}', file=sys.stderr)
        return 1
    print(f'{args.out}: {"made" if made else "already there, unchanged"}')
    return 0


def split_coco(args: argparse.Namespace) -> None:
    """Split the file, or say why not."""
    from mmkd.datasets.split_coco import write_parts

    try:
        parts = write_parts(args.annotations, args.shares, args.seed, args.force)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    for path, images in parts.items():
        print(f'{path}: {images} images')


def voc_to_coco(args: argparse.Namespace) -> None:
    """Write the JSON files, or say why not."""
    from mmkd.datasets.voc_to_coco import write_coco

    try:
        written = write_coco(args.root, args.classes, args.splits, args.force, _warn)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    for path, (images, boxes, empty) in written.items():
        print(f'{path}: {images} images, {boxes} boxes, {empty} empty left out')


def _warn(note: str) -> None:
    print(f'warning: {note}', file=sys.stderr)
