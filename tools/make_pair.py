"""Write a pair from two configs: the command ``mmkd pair``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['pair', *sys.argv[1:]]))
