"""Write the student of a distillation checkpoint for mmdet, or any detector as an ONNX file.

mmkd export CONFIG CHECKPOINT NAME.pth                 for mmdet, with its config NAME.py
mmkd export student.pth --format onnx                  for onnxruntime, proven against PyTorch
mmkd export student.pth --format onnx --int8           in eight bits
mmkd export CONFIG CHECKPOINT --format onnx --nms      of a pair (its student), or of any detector
"""

import argparse
import sys
from pathlib import Path

from mmkd_cli.options import add_config_options, config_of
from mmkd_cli.predict import count_or_none, is_config

FORMATS = ('onnx', 'openvino', 'tensorrt', 'coreml', 'tflite')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The detector, the file to write, and what of it is chosen."""
    parser.add_argument(
        'config',
        metavar='CONFIG_OR_STUDENT',
        help='config of the pair or the detector; with --format also a checkpoint with its config '
        'in it, alone',
    )
    parser.add_argument('checkpoint', nargs='?', help='what training saved')
    parser.add_argument(
        'out', nargs='?', help='without --format: the file to write, NAME.pth, beside it NAME.py'
    )
    parser.add_argument('--force', action='store_true', help='overwrite files')
    add_config_options(parser)
    graph = parser.add_argument_group('with --format')
    graph.add_argument('--format', choices=FORMATS, help='a graph that runs without mmkd')
    graph.add_argument(
        '--out', dest='file', type=Path, metavar='FILE', help='default: CHECKPOINT.onnx'
    )
    graph.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), help="default: the test pipeline's"
    )
    graph.add_argument('--nms', action='store_true', help='detections, not rows, for outputs')
    graph.add_argument('--half', action='store_true', help='compute in float16')
    graph.add_argument('--int8', action='store_true', help='compute in eight bits')
    graph.add_argument(
        '--calibration',
        type=int,
        metavar='N',
        help='with --int8: how many training images give the ranges; default: the ranges that the '
        'student has learned, or of 200',
    )
    graph.add_argument('--opset', type=int, default=18, help='of ONNX; default: 18')
    graph.add_argument(
        '--input', choices=['uint8', 'float32'], default='uint8', help='pixels; default: uint8'
    )
    graph.add_argument(
        '--exporter',
        choices=['torchscript', 'dynamo'],
        default='torchscript',
        help="torch's; default: torchscript",
    )
    graph.add_argument(
        '--images',
        nargs='+',
        default=[],
        metavar='IMAGE',
        help='compare rows and detections on these; default: 16 of the validation set',
    )
    graph.add_argument(
        '--map-images',
        type=count_or_none,
        metavar='N',
        help='measure mAP on the first N of the validation set; default: all; 0: not at all',
    )
    parser.set_defaults(run=run, error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Write the student, or the graph."""
    if args.format is None:
        _run_student(args)
        return 0
    return _run_graph(args)


def _run_student(args: argparse.Namespace) -> None:
    if args.checkpoint is None or args.out is None:
        args.error('without --format it takes CONFIG CHECKPOINT NAME.pth')
    from mmkd.export.export_student import check_student, export_student

    config = config_of(args)
    check_student(args.checkpoint, config)
    out = export_student(args.checkpoint, config, args.out, args.force)
    print(f'{out} and {out.with_suffix(".py")}')


def _run_graph(args: argparse.Namespace) -> int:
    if args.out is not None:
        args.error(f'with --format the file is named by --out, but got {args.out} besides')
    if args.checkpoint is not None and not is_config(args.config):
        args.error(
            'with --format two words must be CONFIG CHECKPOINT, but got '
            f'"{args.config}", which is no config. Name the file to write by --out.'
        )
    if args.size is not None and min(args.size) < 1:
        args.error(f'--size must be two numbers above 0, but got {" ".join(map(str, args.size))}')
    if args.calibration is not None and not args.int8:
        args.error('--calibration goes with --int8: add it')
    from mmkd.config.config_errors import message_last

    sys.excepthook = message_last
    from mmkd.export.export_graph import export_graph
    from mmkd.export.export_onnx import Settings

    alone = args.checkpoint is None
    if alone and args.cfg_options:
        args.error('--cfg-options change a config, so name it: CONFIG CHECKPOINT')
    settings = Settings(
        size=tuple(args.size) if args.size else None,
        nms=args.nms,
        half=args.half,
        opset=args.opset,
        input=args.input,
        exporter=args.exporter,
    )
    passed = export_graph(
        args.config if alone else args.checkpoint,
        None if alone else config_of(args),
        args.format,
        settings,
        args.file,
        args.force,
        args.images,
        args.map_images,
        args.int8,
        args.calibration,
    )
    return 0 if passed else 1
