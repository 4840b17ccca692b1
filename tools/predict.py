"""Find objects in images and videos: the command ``mmkd predict``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['predict', *sys.argv[1:]]))
