"""Loaded before any test module."""

from hypothesis import settings

import mmkd  # noqa: F401  (before a test imports mmcv.ops, which needs the patches)

# The first call of an op may be slow on a busy machine; the gate must give one answer per commit.
settings.register_profile('gate', deadline=None, derandomize=True)
settings.load_profile('gate')
