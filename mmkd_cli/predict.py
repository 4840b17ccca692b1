"""Find objects in images and videos with a trained detector.

mmkd predict work_dirs/my_pair/student.pth photos/ --out drawn --json results.json
mmkd predict my_pair.py work_dirs/my_pair/epoch_12.pth film.mp4 --out drawn
mmkd predict student.onnx photos/ --json results.json    what mmkd export --format onnx wrote
mmkd predict student.pth 0 --out drawn    the first camera, until Ctrl-C

Without --out and --json a line for each image is printed.
"""

import argparse
import os
import sys
from pathlib import Path

#: What mmengine reads as a config; anything else is a checkpoint, whatever its ending.
CONFIGS = ('.py', '.yaml', '.yml', '.json')


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'must be from 0 to 1, but got {text}')
    return value


def count(text: str) -> int:
    """A whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number above 0, but got {text}')
    return value


def count_or_none(text: str) -> int:
    """A whole number, 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f'must be a whole number, 0 or more, but got {text}')
    return value


def is_config(word: str) -> bool:
    """Whether a word names a config: by its ending, or one of an installed package ("mmkd::")."""
    return word.lower().endswith(CONFIGS) or ('::' in word and not os.path.exists(word))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The detector, what it looks at, and where results go."""
    parser.add_argument(
        'detector',
        metavar='CONFIG_OR_STUDENT',
        help='student.pth or another checkpoint with its config in it; student.onnx; or the config '
        'of a pair or of any detector of mmdet or MMYOLO, then its checkpoint comes next',
    )
    parser.add_argument(
        'words',
        nargs='+',
        metavar='[CKPT] SOURCES',
        help='images, globs, folders, videos; or the index of a camera',
    )
    parser.add_argument('--out', type=Path, help='draw into this folder')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write COCO results')
    parser.add_argument(
        '--score-thr',
        type=share,
        help='leave out what scores less; default: 0.3 in drawings and counts, and in the results '
        "the model's own",
    )
    parser.add_argument('--device', help='for example cuda:1; default: a GPU, if there is one')
    parser.add_argument('--batch', type=count, default=1, help='images at once; default: 1')
    parser.add_argument('--force', action='store_true', help='overwrite results')
    parser.set_defaults(run=run, error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Check everything, then predict."""
    config, checkpoint, words = split_words(args)
    from mmkd.config.config_errors import message_last

    sys.excepthook = message_last
    from mmkd.predict.run_predict import run_predict

    return run_predict(
        checkpoint,
        config,
        words,
        out=args.out,
        json=args.json,
        score=args.score_thr,
        device=args.device,
        batch=args.batch,
        overwrite=args.force,
    )


def split_words(args: argparse.Namespace) -> tuple[str | None, str, list[str]]:
    """The config, if one is given, the checkpoint, and the sources."""
    first, words = args.detector, args.words
    if not is_config(first):
        return None, first, words
    if len(words) < 2:
        args.error(f'after the config {first} its checkpoint must come, and then the sources')
    return first, words[0], words[1:]
