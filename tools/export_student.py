"""Write the student of a distillation checkpoint as an mmdet checkpoint with its config."""

import argparse

from mmengine.config import Config, DictAction

from mmkd.export import check_student, export_student


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the distillation run')
    parser.add_argument('checkpoint', help='what that run saved')
    parser.add_argument('out', help='the file to write, NAME.pth; the config becomes NAME.py')
    parser.add_argument('--force', action='store_true', help='overwrite the file')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='key=value, into the config'
    )
    args = parser.parse_args()
    config = Config.fromfile(args.config)
    config.merge_from_dict(args.cfg_options)
    check_student(args.checkpoint, config)
    out = export_student(args.checkpoint, config, args.out, args.force)
    print(f'{out} and {out.with_suffix(".py")}')


if __name__ == '__main__':
    main()
