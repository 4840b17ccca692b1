"""Let any detector label the images of a student: its detections are a file that teaches.

mmkd label my_teacher.py my_teacher.pth data/images --out teacher.json
mmkd label yolov5m.pt data/annotations/train.json --out teacher.json --soft
mmkd label model.onnx images.txt --describe model.json --out teacher.json --tta

Interrupted, it goes on where it was when called again with the same arguments.
"""

import argparse
import sys
from pathlib import Path

from mmkd_cli.predict import count, is_config, share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The detector, what it looks at, and where its detections go."""
    parser.add_argument(
        'detector',
        metavar='DETECTOR',
        help='config of mmdet or MMYOLO, or the name of a detector of torchvision, then its '
        'checkpoint comes next; or student.pth, a YOLOv5 .pt, an ONNX file',
    )
    parser.add_argument(
        'words',
        nargs='+',
        metavar='[CKPT] IMAGES',
        help='a folder, images, globs, a list (.txt), or a COCO file (.json), whose ids are kept',
    )
    parser.add_argument('--out', type=Path, required=True, help='the file, teacher.json')
    parser.add_argument('--tta', action='store_true', help='look at mirror images, too')
    parser.add_argument('--soft', action='store_true', help='write the score of each class')
    parser.add_argument(
        '--score-thr', type=share, default=0.05, help='leave out what scores less; default: 0.05'
    )
    parser.add_argument('--draw', type=Path, metavar='DIR', help='draw into this folder')
    parser.add_argument('--root', help="the folder of a COCO file's images")
    parser.add_argument('--classes', nargs='+', default=(), help="names of the detector's classes")
    parser.add_argument('--describe', metavar='FILE', help='of an ONNX file of another program')
    parser.add_argument('--device', help='for example cuda:1; default: a GPU, if there is one')
    parser.add_argument('--batch', type=count, default=1, help='images at once; default: 1')
    parser.add_argument(
        '--force', action='store_true', help='overwrite files, and throw begun work away'
    )
    parser.set_defaults(run=run, error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Check everything, then label."""
    checkpoint, images = split_words(args)
    from mmkd.config.config_errors import message_last

    sys.excepthook = message_last
    from mmkd.label import label_images

    outcome = label_images(
        args.detector,
        images,
        args.out,
        checkpoint,
        tta=args.tta,
        soft=args.soft,
        score_thr=args.score_thr,
        draw=args.draw,
        root=args.root,
        classes=args.classes,
        description=args.describe,
        device=args.device,
        batch=args.batch,
        overwrite=args.force,
    )
    print(f'{outcome.results} detections in {outcome.images} images: {args.out}')
    if outcome.unreadable:
        print(f'{len(outcome.unreadable)} could not be read:')
        for why in outcome.unreadable.values():
            print(f'  {why}')
    return 0 if outcome.images else 1


def split_words(args: argparse.Namespace) -> tuple[str | None, list[str]]:
    """The checkpoint, if the detector needs one, and the images."""
    first, words = args.detector, args.words
    config = is_config(first)
    named = config or not Path(first).exists()
    if not named or first.lower().endswith('.onnx'):
        return None, words
    if len(words) < 2 and (config or not {'/', '.'} & set(first)):  # that of a file is missing
        args.error(f'after {first} its checkpoint must come, and then the images')
    return (words[0], words[1:]) if len(words) > 1 else (None, words)
