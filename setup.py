"""Builds the package as pyproject.toml describes it, and adds the configs and tools to a wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = ('configs', 'tools', 'model-index.yml')


class BuildPy(build_py):
    """Copies what is shipped to ``mmkd/.mim``, where OpenMMLab's packages have theirs."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # the clone's own files are used
        target = Path(self.build_lib) / 'mmkd/.mim'
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        ignore = shutil.ignore_patterns('__pycache__', '*.py[cod]')
        for name in SHIPPED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=ignore)
            else:
                shutil.copy2(ROOT / name, target / name)


setup(cmdclass={'build_py': BuildPy})
