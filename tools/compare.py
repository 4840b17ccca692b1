"""Compare a pair's arms over seeds: the command ``mmkd compare``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['compare', *sys.argv[1:]]))
