"""Write COCO JSON for data in VOC form: the command ``mmkd data voc2coco``."""

import sys

from mmkd_cli.main import main

if __name__ == '__main__':
    sys.exit(main(['data', 'voc2coco', *sys.argv[1:]]))
