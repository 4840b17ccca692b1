"""Make the digits data set: python tools/make_digits.py [--out data/digits] [--seed 0]."""

import argparse
import sys
from dataclasses import fields

from rich.progress import track

from mmkd.digits import DigitsSettings, make_digits


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default='data/digits', help='folder to write')
    parser.add_argument('--force', action='store_true', help='replace a set of other settings')
    for field in fields(DigitsSettings):
        parser.add_argument(f'--{field.name.replace("_", "-")}', type=int, default=field.default)
    args = vars(parser.parse_args())
    out, force = args.pop('out'), args.pop('force')
    try:
        made = make_digits(
            out,
            DigitsSettings(**args),
            force,
            track=lambda images, total: track(images, 'Drawing digits', total=total),
        )
    except (ValueError, OSError) as error:
        print(f'make_digits: {error}', file=sys.stderr)
        return 1
    print(f'{out}: {"made" if made else "already there, unchanged"}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
