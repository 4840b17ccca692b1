"""``python -m mmkd``: the command ``mmkd``."""

import sys

from mmkd_cli.main import main

sys.exit(main())
