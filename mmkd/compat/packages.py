"""Versions of the OpenMMLab packages: which go together, and what stands between them."""

import importlib
import importlib.abc
import importlib.util
import sys
import types
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version

import torch

# The distributions that install each import package; one at a time, or they overwrite each other.
PROVIDERS = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
}


def installed(package: str) -> dict[str, str]:
    """Installed distributions that provide ``package``, with their versions."""
    found = {}
    for name in PROVIDERS[package]:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def reject_mixed_families() -> None:
    """Two distributions of one package share a folder, each having overwritten files of the other.

    What then runs is neither; any error would come later and name something else.
    """
    for package in PROVIDERS:
        found = installed(package)
        if len(found) > 1:
            received = ' and '.join(f'{name} {number}' for name, number in found.items())
            raise ImportError(
                f'Only one installed distribution may provide the package "{package}"; received '
                f'{received}, whose files overwrite each other. Remove them all with '
                f'"pip uninstall -y {" ".join(found)}" and install one again: the onedl-* family '
                'with "pip install -e ." in mmkd\'s folder, or the original OpenMMLab family as '
                'docs/install.md says.'
            )


def require_pkg_resources() -> None:
    """The original mmengine finds the configs of other packages ("mmdet::...") through it."""
    if 'mmengine' in installed('mmengine') and importlib.util.find_spec('pkg_resources') is None:
        raise ImportError(
            'The original mmengine needs the module pkg_resources, which setuptools no longer '
            'contains from version 82 on; received an environment without it. Install it with '
            '"pip install \'setuptools<81\'".'
        )


def build_advice() -> str:
    """How to get mmcv with its ops compiled, for the mmcv that is installed."""
    found = installed('mmcv')
    if 'onedl-mmcv' in found:
        number = found['onedl-mmcv']
        return (
            'with a C++ compiler, "pip install setuptools wheel packaging ninja" and then "pip '
            'install --no-build-isolation --no-deps --no-cache-dir --force-reinstall '
            f'onedl-mmcv=={number}" (about ten minutes)'
        )
    return (
        '"pip uninstall -y mmcv-lite" and then install an mmcv 2.1.0 that was built for your '
        'torch, or build it (docs/install.md)'
    )


class OldMmcvVersion(importlib.abc.MetaPathFinder):
    """Shows ``mmcv.__version__`` as 2.0.1 to packages while their ``__init__`` runs."""

    packages = ('mmrazor', 'mmyolo')

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The module's spec, its loader wrapped; None for other modules."""
        if fullname not in self.packages:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                self.wrap(spec.loader)
                return spec
        return None

    def wrap(self, loader: importlib.abc.Loader) -> None:
        """Let the loader run the module under the old version."""
        exec_module = loader.exec_module

        def exec_with_old_version(module: types.ModuleType) -> None:
            import mmcv

            number, mmcv.__version__ = mmcv.__version__, '2.0.1'
            try:
                exec_module(module)
            finally:
                mmcv.__version__ = number

        loader.exec_module = exec_with_old_version  # type: ignore[method-assign]


def accept_mmcv_version() -> None:
    """mmrazor asserts mmcv <= 2.1.0 and mmyolo < 2.1.0; only the version stands in the way.

    An import hook, since mmyolo, which is optional and GPL-3.0, must not be imported before a
    config asks for it.
    """
    sys.meta_path.insert(0, OldMmcvVersion())


def placeholder_quantization() -> None:
    """mmrazor's quantization imports private functions that torch has removed after 2.0.

    mmrazor.structures imports it along with all that distillation needs, and uses none of it.
    """

    def refuse(self: object, *args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            f'MMRazor\'s quantization ("{type(self).__name__}") works with torch <= 2.0 only; '
            f'received torch {torch.__version__}. Take quantize=dict(...) of a pair, or '
            'mmkd export --int8.'
        )

    module = types.ModuleType('mmrazor.structures.quantization')
    module.__spec__ = ModuleSpec(module.__name__, loader=None)
    module.__dict__['__all__'] = ['BackendConfigs', 'QConfigHandler']
    for name in module.__dict__['__all__']:
        setattr(module, name, type(name, (), {'__init__': refuse}))
    sys.modules[module.__name__] = module


def hide_the_lack_of_an_unused_metric() -> None:
    """mmdet warns at each start that metrics will not be computed, without faster_coco_eval.

    Its FasterCocoMetric alone needs that; a config that names it is told so before the run
    (:func:`mmkd.datasets.evaluator_checks.check_evaluator`).
    """
    warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')
