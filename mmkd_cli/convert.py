"""Write an Ultralytics YOLOv5 checkpoint as an MMYOLO checkpoint.

mmkd convert yolov5m.pt yolov5m.pth --config mmkd::yolov5_m_coco
"""

import argparse
import hashlib
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Source and target."""
    parser.add_argument('source', help='.pt file of YOLOv5 v6.0 to 7.0, as path or URL')
    parser.add_argument('target', type=Path, help='.pth file to write')
    parser.add_argument('--config', help='config of a YOLOv5 that the weights must fit')
    parser.add_argument('--force', action='store_true', help='overwrite the target')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Convert, or say why not."""
    try:
        convert(args.source, args.target, args.config, args.force)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')


def convert(
    source: str | Path, target: Path, config: str | None = None, force: bool = False
) -> None:
    """Convert ``source``; ``target`` appears whole or not at all.

    Raises:
        CheckpointError: ``target`` exists, or ``source`` is not as it must be.
    """
    from mmkd.algorithms.build_detector import build_detector
    from mmkd.checkpoints.detector_checkpoint import save_checkpoint
    from mmkd.checkpoints.foreign import describe_foreign
    from mmkd.checkpoints.reader import find_checkpoint
    from mmkd.checkpoints.ultralytics import (
        CheckpointError,
        convert_yolov5,
        load_yolov5_state_dict,
        read_yolov5_file,
    )
    from mmkd.config.config_files import config_files
    from mmkd.fileio.check_not_read import check_not_read

    if target.exists() and not force:
        raise CheckpointError(f'{target}: exists; give another name, or --force to overwrite it')
    source = find_checkpoint(source, 'the file to convert')
    check_not_read([target], [source, *config_files(config)])
    foreign = describe_foreign(source)
    if foreign is not None:
        raise CheckpointError(
            f"{source}: must be a .pt file of YOLOv5, in torch's zip format, but is {foreign}"
        )
    file = read_yolov5_file(source)
    if config:
        state = load_yolov5_state_dict(source, build_detector(config, '--config'))
    else:
        state = convert_yolov5(file)
    meta = {
        'dataset_meta': {'classes': file.class_names},
        'anchors': file.anchors,
        'strides': file.strides,
        'source': source.name,
        'source_sha256': hashlib.sha256(source.read_bytes()).hexdigest(),
        'source_weights': f'{file.source} of {file.network_class} {file.date}'.strip(),
    }
    save_checkpoint({'meta': meta, 'state_dict': state}, target)
    print(f'{target}: {len(state)} tensors, {file.num_classes} classes, from {source}')
