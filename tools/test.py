"""Evaluate a detector: the command ``mmkd test``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['test', *sys.argv[1:]]))
