"""The command ``mmkd``, one module per subcommand.

It lies beside the package ``mmkd``, whose import takes seconds, so that ``--help`` answers at once:
a module here imports neither torch nor mmkd before its ``run``.
"""
