"""Evaluate a detector: the student of a distillation checkpoint, an exported one, a teacher."""

import argparse
import os
import sys
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from mmkd.checkpoints.data_origin import check_data_origin
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.config.config_errors import config_errors, message_first
from mmkd.config.read_config import read_config
from mmkd.datasets.data_checks import check_data
from mmkd.distributed.unwrapped import unwrapped
from mmkd.export.student_config import student_config
from mmkd.runner.launch import prepare_launch


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the pair or of the detector')
    parser.add_argument('checkpoint', help='a file or a URL')
    parser.add_argument('--work-dir', help='where the log and the metrics go')
    parser.add_argument('--out', help='write the predictions to this .pkl file')
    parser.add_argument('--show-dir', help='draw the predictions into this folder')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='key=value, into the config'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes it; the environment is what counts
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    sys.excepthook = message_first
    cfg = read_config(args.config, options=args.cfg_options)
    cfg = student_config(cfg)  # the teacher has no part in it
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    if args.show_dir:
        draw = dict(type='DetVisualizationHook', draw=True, test_out_dir=args.show_dir)
        cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'visualization': draw}
    if args.out:
        dump = dict(type='mmdet.DumpDetResults', out_file_path=args.out)
        evaluators = cfg.test_evaluator
        cfg.test_evaluator = [*(evaluators if isinstance(evaluators, list) else [evaluators]), dump]
    test(cfg, args.checkpoint, args.launcher)


def test(cfg: Config, checkpoint: str, launcher: str = 'none') -> dict:
    """Evaluate a detector's config with the weights of ``checkpoint``; an error names its key."""
    with config_errors(cfg):
        prepare_launch(cfg, launcher)
        notes = check_data(cfg, ('test',))
        runner = Runner.from_cfg(cfg)
        for note in notes:
            runner.logger.warning(note)
        model = unwrapped(runner.model)
        load_detector(model, checkpoint, 'the checkpoint')
        classes = getattr(runner.test_dataloader.dataset, 'metainfo', {}).get('classes')
        check_data_origin(model, cfg, classes)
        return runner.test()


if __name__ == '__main__':
    main()
