"""Write teacher, student and pair for a data set of your own, chosen by what it is like.

mmkd new data/mine --out my/

DATA is a COCO JSON file or a folder in COCO, VOC or YOLO form; it is split if need be.
"""

import argparse
import contextlib
import io
import shlex
import sys
from pathlib import Path

from mmkd_cli.shipped import shipped

HEADS = ('ssd', 'rtmdet', 'yolov5', 'retinanet', 'fcos')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The data, the kind of detector, and where the files go."""
    parser.add_argument(
        'data',
        type=Path,
        metavar='DATA',
        help='a COCO JSON file, data.yaml, or a folder: with COCO JSON files, XML files (VOC), or '
        'data.yaml or labels/*.txt (YOLO)',
    )
    parser.add_argument('--out', type=Path, required=True, help='the folder to write')
    parser.add_argument('--images', type=Path, help='where the images lie, if not with the data')
    parser.add_argument('--head', choices=HEADS, default='ssd', help='default: ssd')
    parser.add_argument(
        '--size',
        choices=('small', 'medium'),
        default='small',
        help='small trains on a CPU; medium is larger in input and width. Default: small',
    )
    parser.add_argument(
        '--offline', action='store_true', help='all from scratch, no weights are fetched'
    )
    parser.add_argument('--force', action='store_true', help='overwrite files that are there')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the files and say what was chosen."""
    from mmkd.algorithms.quiet_log import quiet_log
    from mmkd.scaffold import NewRequest, write_new

    request = NewRequest(
        args.data,
        args.out,
        shipped('configs'),
        args.images,
        args.size,
        args.head,
        args.offline,
        args.force,
    )
    try:
        with quiet_log(), contextlib.redirect_stdout(io.StringIO()):  # of pycocotools and MMYOLO
            written = write_new(request)
    except (OSError, ValueError, TypeError) as error:
        print(f'mmkd new: {error}', file=sys.stderr)
        return 1
    for path in written.files:
        print(f'{path}: written')
    for line in written.lines:
        print(line)
    for note in written.notes:
        print(f'note: {note}')
    out = args.out.as_posix().rstrip('/')
    print(
        f'next: mmkd compare {shlex.quote(f"{out}/pair.py")} --seeds 0 1 2 --arms baseline kd '
        f'--work-dir {shlex.quote(f"{out}/work_dirs/compare")}'
    )
    return 0
