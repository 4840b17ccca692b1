import mmkd  # noqa: F401  (before any test module imports mmdet or mmrazor)
