"""``python -m mmkd_cli``, for torchrun's ``-m``; else the command ``mmkd`` is the same."""

import sys

from mmkd_cli.main import main

sys.exit(main())
