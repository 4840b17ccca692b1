"""The digits demo: the command ``mmkd demo``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['demo', *sys.argv[1:]]))
