"""What mmkd needs, pinned to what it has been tested with."""

import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
version = re.search(r"^__version__ = '(.+)'$", (root / 'mmkd/__init__.py').read_text(), re.M)

requires = [
    # OpenMMLab's packages in their maintained form: the same import names, with NumPy 2 and
    # current torch. Each needs the others in these versions, and mmkd.compat knows these.
    'onedl-mmengine==0.10.12',
    'onedl-mmcv==2.3.6',
    'onedl-mmdetection==3.5.1',
    'mmrazor==1.0.0',
    'filelock',
    'joblib',  # mmrazor imports it without saying so
    'numpy',
    'pycocotools',
    'torch>=2.4,<2.14',
]
extras = {
    'demo': ['matplotlib', 'rich', 'scikit-learn'],
    'yolo': ['mmyolo==0.6.0'],  # GPL-3.0, unlike mmkd: nothing of mmkd imports it by itself
    'test': ['hypothesis', 'pytest', 'pytest-xdist'],
    'dev': ['mypy', 'ruff'],
}
extras['all'] = sorted({requirement for extra in extras.values() for requirement in extra})

setup(
    name='mmkd',
    version=version[1],
    description='Knowledge distillation for MMDetection detectors',
    license='Apache-2.0',
    packages=find_packages(include=['mmkd', 'mmkd.*']),
    python_requires='>=3.10',
    install_requires=requires,
    extras_require=extras,
)
