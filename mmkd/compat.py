"""What makes torch, mmcv, mmdet and mmrazor work together; imported first.

Every runtime patch of another package lives here, with its reason.
"""

import importlib.machinery
import importlib.util
import sys
import types


def _supply_mmcv_ops() -> None:
    """mmcv without its compiled extension: stand in for ``mmcv._ext``."""
    if importlib.util.find_spec('mmcv._ext') is not None:
        return
    from mmkd import ops

    class _Ext(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith('__'):
                raise AttributeError(name)
            return ops.missing(name)

    ext = _Ext('mmcv._ext')
    ext.__spec__ = importlib.machinery.ModuleSpec('mmcv._ext', loader=None)
    for name in ops.SUPPLIED:
        setattr(ext, name, getattr(ops, name))
    sys.modules['mmcv._ext'] = ext


def _accept_mmcv_version() -> None:
    """mmrazor 1.0.0 asserts mmcv <= 2.1.0; only the string stands in the way."""
    import mmcv

    version = mmcv.__version__
    mmcv.__version__ = '2.0.1'
    try:
        import mmrazor  # noqa: F401
    finally:
        mmcv.__version__ = version


def _placeholder_quantization() -> None:
    """mmrazor's quantization needs private functions that torch removed."""

    def refuse(self, *args, **kwargs):
        raise RuntimeError('mmrazor quantization is not available')

    module = types.ModuleType('mmrazor.structures.quantization')
    for name in ('BackendConfigs', 'QConfigHandler'):
        setattr(module, name, type(name, (), {'__init__': refuse}))
    module.__all__ = ['BackendConfigs', 'QConfigHandler']
    module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, loader=None)
    sys.modules[module.__name__] = module


_supply_mmcv_ops()
_accept_mmcv_version()
_placeholder_quantization()

from mmdet.models.dense_heads import SSDHead  # noqa: E402

# BaseDenseHead._predict_by_feat_single reads loss_cls, which SSDHead lacks.
if not hasattr(SSDHead, 'loss_cls'):
    SSDHead.loss_cls = None
