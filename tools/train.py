"""Train a config: the command ``mmkd train``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
