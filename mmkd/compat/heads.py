"""A patch of mmdet's dense heads: a head may have methods of its own."""

import functools
from collections.abc import Callable
from typing import Any

#: An attribute of a head: functions by the name of the method that each takes the place of.
OWN_METHODS = 'own_methods'


def let_heads_have_own_methods() -> None:
    """mmdet's heads find targets image by image, in methods that no config can exchange.

    A method that is set on a head hides what others have wrapped around that of its class:
    MMRazor's recorders, and :func:`mmkd.compat.detectors.normalise_ssd_over_ranks`. So the class's
    innermost method asks the head for its own, see :mod:`mmkd.targets`. A head that has none does
    what it did, and so does one whose own method returns ``NotImplemented``.
    """
    from mmdet.models.dense_heads import AnchorHead, FCOSHead, RTMDetHead, SSDHead

    for head, names in (
        (AnchorHead, ('get_anchors', 'get_targets', 'loss_by_feat')),
        (SSDHead, ('loss_by_feat',)),
        (FCOSHead, ('get_targets',)),
        (RTMDetHead, ('get_anchors', 'get_targets')),
    ):
        for name in names:
            setattr(head, name, _that_asks(getattr(head, name)))


def _that_asks(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        own = vars(self).get(OWN_METHODS, {}).get(original.__name__)
        if own is not None:
            result = own(self, *args, **kwargs)
            if result is not NotImplemented:
                return result
        return original(self, *args, **kwargs)

    return method
