"""Fill a cache of the teacher's records: the command ``mmkd cache``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['cache', *sys.argv[1:]]))
