"""Check a pair before it is trained: the command ``mmkd check``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['check', *sys.argv[1:]]))
