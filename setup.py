"""Builds the package as pyproject.toml describes it, and adds the configs and tools to a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = ('configs', 'tools', 'model-index.yml')


class BuildPy(build_py):
    """Copies what is shipped to ``mmkd/.mim``, where OpenMMLab's packages have theirs.

    An editable installation has links there.
    """

    def run(self) -> None:
        """Build, then add what is shipped."""
        super().run()
        package = ROOT if self.editable_mode else Path(self.build_lib)
        target = package / 'mmkd/.mim'
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        if self.editable_mode:
            target.mkdir()
            for name in SHIPPED:
                (target / name).symlink_to(Path('../..') / name)
            return
        ignore = shutil.ignore_patterns('__pycache__', '*.py[cod]')
        for name in SHIPPED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=ignore)
            else:
                shutil.copy2(ROOT / name, target / name)


setup(cmdclass={'build_py': BuildPy})
