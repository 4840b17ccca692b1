"""Convert an Ultralytics YOLOv5 checkpoint: the command ``mmkd convert``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['convert', *sys.argv[1:]]))
