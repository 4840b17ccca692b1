"""Numbers in a config that no detector has: of whom it is read, they would cost time and memory."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmkd_onnx.metadata import MAX_SIDE

#: Of anything that a detector's parts count: classes, channels, layers, scales of anchors.
MOST = 1_000_000

#: Arguments that are no counts: how it is trained, and what is kept of what it finds.
_UNCOUNTED = ('init_cfg', 'train_cfg', 'test_cfg')

#: Arguments of transforms and preprocessors that are sides of an image in pixels, or one of them.
_SIDES = ('scale', 'img_scale', 'size', 'crop_size', 'size_divisor', 'pad_size_divisor')


def absurd_numbers(model: Any, config: Any) -> Iterator[str]:
    """What a config counts or resizes to beyond all bounds, as text.

    Args:
        model: the config of a detector.
        config: all that is taken, its data and pipelines among it.
    """
    yield from _counts(model)
    yield from _sides(config)


def _counts(node: Any, key: str = '') -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name not in _UNCOUNTED:
                yield from _counts(value, str(name))
    elif isinstance(node, list | tuple):
        # A list of lists has bounds of something, whose last may stand for infinity.
        for value in node:
            if not isinstance(value, list | tuple) or any(isinstance(v, Mapping) for v in value):
                yield from _counts(value, key)
    elif isinstance(node, int) and abs(node) > MOST:
        yield f'{key}={_short(node)}, where none counts more than {MOST}'


def _sides(node: Any) -> Iterator[str]:
    if isinstance(node, list | tuple):
        for value in node:
            yield from _sides(value)
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        yield from _sides(value)
        if name not in _SIDES or isinstance(value, Mapping):
            continue
        given = value if isinstance(value, list | tuple) else [value]
        sides = [side for side in given if isinstance(side, int | float)]
        # Where the ratio is kept, the longer one is often no bound at all.
        side = (min if node.get('keep_ratio') else max)(sides, default=0)
        if side > MAX_SIDE:
            yield f'{name}={_short(side)}, where no image has a side of more than {MAX_SIDE} pixels'


def _short(number: float) -> str:
    """As text, whatever its length."""
    return f'{number:.7g}' if abs(number) < 1e300 else 'more than 1e300'
