"""Split a COCO annotation file: the command ``mmkd data split``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['data', 'split', *sys.argv[1:]]))
