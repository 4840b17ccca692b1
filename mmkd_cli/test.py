"""Evaluate a detector: the student of a distillation checkpoint, an exported one, a teacher."""

import argparse
import os
import sys

from mmkd_cli.options import add_config_options, add_launcher, config_of, prepare_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The detector, its weights, and what is kept of its predictions."""
    parser.add_argument('config', help='config of the pair or of the detector')
    parser.add_argument(
        'checkpoint',
        help='a file or a URL; of a teacher that is known by its detections its ONNX file, the '
        'name of its function, or what it detected in the test images',
    )
    parser.add_argument(
        '--teacher',
        nargs='?',
        const='',
        metavar='NAME',
        help="of a pair: the checkpoint is that of its teacher, whose classes become the student's",
    )
    parser.add_argument('--work-dir', help='where the log and the metrics go')
    parser.add_argument('--out', help='write the predictions to this .pkl file')
    parser.add_argument('--show-dir', help='draw the predictions into this folder')
    add_config_options(parser)
    add_launcher(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Evaluate the detector."""
    from mmkd.config.config_errors import message_last
    from mmkd.export.student_config import student_config
    from mmkd.runner.evaluate import evaluate
    from mmkd.runner.teacher_on_data import teacher_on_data

    cfg, classes = config_of(args), None
    if args.teacher is None:
        cfg = student_config(cfg)  # the teacher has no part in it
    else:
        cfg, classes = teacher_on_data(cfg, args.teacher, args.checkpoint)
    prepare_run(cfg, args)
    if args.show_dir:
        folder = os.path.abspath(args.show_dir)  # else it would lie in the work dir
        draw = dict(type='mmdet.DetVisualizationHook', draw=True, test_out_dir=folder)
        cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'visualization': draw}
    if args.out:
        dump = dict(type='mmdet.DumpDetResults', out_file_path=args.out)
        evaluators = cfg.test_evaluator
        cfg.test_evaluator = [*(evaluators if isinstance(evaluators, list) else [evaluators]), dump]
    sys.excepthook = message_last
    evaluate(cfg, args.checkpoint, args.launcher, classes)
