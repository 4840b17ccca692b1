"""What makes torch, mmcv, mmdet, mmrazor and mmyolo work together.

The only room that knows about other packages' versions and the only one that patches them. Each
patch is one function with its reason, and ``tests/compat`` fails when one is no longer needed.
``import mmkd`` applies them all, before it imports anything else.
"""

from mmkd.compat.apply import PATCHES, apply

__all__ = ['PATCHES', 'apply']
