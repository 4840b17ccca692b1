"""Write the student of a checkpoint: the command ``mmkd export``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['export', *sys.argv[1:]]))
