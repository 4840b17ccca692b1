"""Write the config of a pair from those of two detectors, with the method that evidence favours.

mmkd pair TEACHER.py STUDENT.py --teacher-ckpt teacher.pth --data data/mine --out my_pair.py
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from mmkd_cli.shipped import shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two detectors, the data, and where the pair goes."""
    parser.add_argument(
        'teacher',
        nargs='?',
        help="config: a file, or 'mmdet::...', 'mmyolo::...'; a file of detections; an ONNX file",
    )
    parser.add_argument('student', nargs='?', help='config, likewise')
    parser.add_argument('--teacher-ckpt', help="the trained teacher's checkpoint: file or address")
    parser.add_argument(
        '--describe', type=Path, help='of an ONNX file of another program: JSON that describes it'
    )
    parser.add_argument('--method', help='one of --list; default: the best supported that fits')
    parser.add_argument('--data', type=Path, help='your own data: a folder in COCO or VOC form')
    parser.add_argument(
        '--classes', nargs='+', help='of --data, in order; default: all, as its file has them'
    )
    parser.add_argument('--out', type=Path, help='the file to write')
    parser.add_argument('--force', action='store_true', help='overwrite files that are there')
    parser.add_argument('--list', action='store_true', help='show the methods, and write nothing')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the pair and say why it is as it is."""
    from mmkd.algorithms.quiet_log import quiet_log
    from mmkd.pairing import Request, read_methods, write_pair

    configs = shipped('configs')
    if args.list:
        width = shutil.get_terminal_size().columns
        for method in read_methods(configs):
            print('\n'.join(method.lines(min(width, 100))))
        return 0
    lacking = [name for name in ('teacher', 'student', 'out') if getattr(args, name) is None]
    if lacking:
        words = ', '.join('--out' if name == 'out' else name.upper() for name in lacking)
        print(f'mmkd pair must be given {words}, or --list. See mmkd pair --help.', file=sys.stderr)
        return 2
    request = Request(
        args.teacher,
        args.student,
        args.out,
        configs,
        args.teacher_ckpt,
        args.method,
        args.data,
        args.classes,
        args.force,
        args.describe,
    )
    try:
        with quiet_log():
            written = write_pair(request)
    except (OSError, ValueError, TypeError) as error:
        print(f'mmkd pair: {error}', file=sys.stderr)
        return 1
    for path in written.files:
        print(f'{path}: written')
    print(f'method: {written.method}, since {written.why}')
    for note in written.notes:
        print(f'note: {note}')
    out = shlex.quote(str(args.out))
    if args.teacher_ckpt is None and request.given is None:
        print(f'next: mmkd compare {out} trains the teacher, then the student')
    else:
        print(f'next: mmkd check {out}; mmkd train {out}')
    return 0
