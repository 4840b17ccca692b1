"""What a checkpoint says of its weights' origin: the training's config, classes and anchors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmkd.checkpoints.preprocessing import Normalisation
from mmkd.config.config_literals import ConfigLiterals, ConfigTextError, read_literals

#: More levels, and more numbers in a list, has no detector.
_MAX_LEVELS, _MAX_SIZES = 64, 1000


@dataclass(frozen=True)
class Origin:
    """What a checkpoint's ``meta`` says.

    Args:
        model: the detector's model config; of a distillation, the student's. None if not told.
        scope: where its types are registered.
        normalisation: of its images, if told.
        test_scales: (width, height) of its test pipeline; nothing if not told.
        classes: their names, in order; nothing if not told.
        anchors: (width, height) in pixels, by level, of an Ultralytics file.
        strides: in pixels, by level, of an Ultralytics file.
        notes: what could not be read, and why.
        keeps_ratio: whether its test pipeline keeps the aspect of an image.
    """

    model: Mapping[str, Any] | None = None
    scope: str = 'mmdet'
    normalisation: Normalisation | None = None
    test_scales: tuple[tuple[int, int], ...] = ()
    classes: tuple[str, ...] = ()
    anchors: Sequence[Sequence[Sequence[float]]] = ()
    strides: Sequence[float] = ()
    notes: tuple[str, ...] = field(default=())
    keeps_ratio: bool = False


def origin(meta: Mapping[str, Any]) -> Origin:
    """Read a checkpoint's ``meta``: its config as literals, which are never executed.

    Args:
        meta: of mmengine (``cfg``, ``dataset_meta``), mmdet 2.x (``config``, ``CLASSES``) or
            ``mmkd convert`` (``anchors``, ``strides``).
    """
    notes: list[str] = []
    config = _config(meta, notes)
    values = config.values
    model, path = _detector(values, notes)
    if model is not None:
        lost = [name for name in config.unread if name.startswith(f'{path}.')]
        if lost:
            parts = {name[len(path) + 1 :].split('.')[0] for name in lost}
            model = {key: value for key, value in model.items() if key not in parts}
            notes.append(f'its {", ".join(sorted(parts))} would have to be executed')
    scope = values.get('default_scope')
    if model is not None and isinstance(model.get('_scope_'), str):
        scope = model['_scope_']
    anchors, strides = _anchors(meta.get('anchors')), _numbers(meta.get('strides'))
    return Origin(
        model,
        scope if isinstance(scope, str) else 'mmdet',
        _normalisation(model, values),
        scales_of_test(values),
        _classes(meta),
        anchors,
        strides,
        tuple(notes),
        keeps_ratio_in_test(values),
    )


def _anchors(levels: Any) -> tuple[tuple[tuple[float, ...], ...], ...]:
    """(width, height) by level: what a file claims to be more may lie in itself without end."""
    if not isinstance(levels, list | tuple) or not 0 < len(levels) <= _MAX_LEVELS:
        return ()
    if not all(isinstance(level, list | tuple) and len(level) <= _MAX_SIZES for level in levels):
        return ()
    sizes = tuple(tuple(_numbers(size) for size in level) for level in levels)
    return sizes if all(len(size) == 2 for level in sizes for size in level) else ()


def _config(meta: Mapping[str, Any], notes: list[str]) -> ConfigLiterals:
    config = meta.get('cfg') or meta.get('config')
    if not isinstance(config, str):
        return ConfigLiterals()
    try:
        return read_literals(config)
    except ConfigTextError as error:
        notes.append(str(error))
        return ConfigLiterals()


def _detector(values: Mapping[str, Any], notes: list[str]) -> tuple[Mapping[str, Any] | None, str]:
    """The detector's own config, and its place in ``values``."""
    model, path = values.get('model'), 'model'
    while isinstance(model, Mapping):
        inner = next((key for key in ('architecture', 'detector') if key in model), None)
        if inner is None:
            return model, path
        own = model.get('data_preprocessor')
        model, path = model[inner], f'{path}.{inner}'
        if isinstance(model, Mapping) and isinstance(own, Mapping) and inner == 'architecture':
            model = {**model, 'data_preprocessor': own}
    if isinstance(model, str):
        notes.append(f'its model is only named ("{model[:80]}")')
    return None, path


def _normalisation(
    model: Mapping[str, Any] | None, values: Mapping[str, Any]
) -> Normalisation | None:
    """Of the data_preprocessor, or, in mmdet 2.x, of the test pipeline."""
    own = model.get('data_preprocessor') if model is not None else None
    if not isinstance(own, Mapping):
        found = [node for node in _dicts(_pipeline(values)) if node.get('type') == 'Normalize']
        own = {**found[0], 'bgr_to_rgb': found[0].get('to_rgb', True)} if found else None
    if own is None:
        return None
    inner = own.get('data_preprocessor')  # of mmdet's MultiBranchDataPreprocessor
    own = inner if isinstance(inner, Mapping) else own
    mean, std = (_numbers(own.get(key)) for key in ('mean', 'std'))
    swap = bool(own.get('bgr_to_rgb') or own.get('rgb_to_bgr'))
    if not mean or not std or 0.0 in std:
        return Normalisation(bgr_to_rgb=swap)
    return Normalisation(mean, std, swap)


def _numbers(values: Any) -> tuple[float, ...]:
    if not isinstance(values, list | tuple) or len(values) > _MAX_SIZES:
        return ()
    if not all(isinstance(value, int | float) and abs(value) < 1e30 for value in values):
        return ()
    return tuple(map(float, values))


def scales_of_test(config: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    """To which (width, height) the test pipeline of a config brings an image.

    Without a ``test_dataloader``, that of ``val_dataloader``, or of ``test_pipeline``. Where the
    aspect ratio is kept, the order says nothing, and the smaller number stands first.

    Example:
        >>> resize = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
        >>> scales_of_test(dict(test_pipeline=[resize]))
        ((800, 1333),)
    """
    nodes, kept = list(_dicts(_pipeline(config))), keeps_ratio_in_test(config)
    found: set[tuple[int, int]] = set()
    for node in nodes:
        if 'Resize' in str(node.get('type')) or 'img_scale' in node:
            for key in ('scale', 'scales', 'img_scale', 'img_scales'):
                found.update(_sizes(node.get(key)))
    return tuple(sorted({(min(s), max(s)) if kept else s for s in found}))


def keeps_ratio_in_test(config: Mapping[str, Any]) -> bool:
    """Whether the pipeline of :func:`scales_of_test` keeps the aspect ratio of an image."""
    return any(node.get('keep_ratio') for node in _dicts(_pipeline(config)))


def _sizes(scale: Any) -> Iterator[tuple[int, int]]:
    if isinstance(scale, int) and not isinstance(scale, bool):
        yield scale, scale
    elif isinstance(scale, list | tuple):
        if len(scale) == 2 and all(isinstance(value, int) for value in scale):
            yield scale[0], scale[1]
        else:
            for item in scale:
                yield from _sizes(item) if isinstance(item, list | tuple) else ()


def _pipeline(config: Mapping[str, Any]) -> Any:
    data = config.get('data')
    old = data.get('test') if isinstance(data, Mapping) else None
    for dataset in (config.get('test_dataloader'), config.get('val_dataloader'), old):
        while isinstance(dataset, Mapping):
            if isinstance(dataset.get('pipeline'), list | tuple):
                return dataset['pipeline']
            dataset = dataset.get('dataset')
    return config.get('test_pipeline')


def _dicts(node: Any) -> Iterator[Mapping[str, Any]]:
    """A pipeline's transforms and those within them."""
    if isinstance(node, Mapping):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for item in node:
            yield from _dicts(item)


def _classes(meta: Mapping[str, Any]) -> tuple[str, ...]:
    for about in (meta.get('dataset_meta'), meta):
        for key in ('classes', 'CLASSES'):
            names = about.get(key) if isinstance(about, Mapping) else None
            if isinstance(names, Mapping) and all(isinstance(key, int) for key in names):
                names = [names[key] for key in sorted(names)]  # as Ultralytics writes them
            if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
                return tuple(names)
    return ()
