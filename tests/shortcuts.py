"""What takes mmengine seconds in each run, and no test is about: left out as this is imported.

``tests/test_wheel.py`` trains without.
"""

import ast
import functools

from mmengine.config import utils
from mmengine.runner import runner
from yapf.yapflib import yapf_api

lay_out = yapf_api.FormatCode


def lay_out_quickly(code: str, **style: object) -> tuple[str, bool]:
    """In place of yapf, which takes longer for a config's text than a small training."""
    return f'{ast.unparse(ast.parse(code))}\n', True


yapf_api.FormatCode = lay_out_quickly
runner.collect_env = functools.cache(runner.collect_env)
# The hundred files of mmdet's index, for each config that is named "mmdet::...".
utils.load = functools.cache(utils.load)
