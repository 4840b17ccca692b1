"""Make the digits data set: the command ``mmkd data digits``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['data', 'digits', *sys.argv[1:]]))
