"""The data that weights were trained on against the data that they are used on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from mmkd.checkpoints.checkpoint_meta import keeps_ratio_in_test, origin, scales_of_test
from mmkd.checkpoints.foreign import shown
from mmkd.checkpoints.loading import Loaded, keep, kept, target_of, warn
from mmkd.checkpoints.weight_meaning import Difference, differences
from mmkd.config.names import first_of


def data_differences(
    loaded: Loaded, config: Mapping[str, Any], classes: Sequence[str] | None
) -> tuple[Difference, ...]:
    """Compare what a file says of its data with the data of a config.

    Args:
        loaded: what a model was loaded with.
        config: of the run.
        classes: names of the data set's classes, in order.

    Returns:
        Another order of the classes, which is clear; other names, and another scale of the test
        pipeline, which may be meant.
    """
    about, found = origin(loaded.meta), []
    names = list(about.classes)
    if classes and names != list(classes) and len(names) == len(classes):
        places = {name: i for i, name in enumerate(classes)}
        moved = any(places.get(name, i) != i for i, name in enumerate(names))
        found.append(
            Difference(
                'metainfo.classes',
                _listed(names),
                _listed(classes),
                'Put metainfo.classes of the data sets into the order of the checkpoint, or take '
                'a checkpoint trained on these classes.',
                moved,
            )
        )
    here, there = scales_of_test(config), about.test_scales
    ordered = not (about.keeps_ratio or keeps_ratio_in_test(config))
    sides = [{size if ordered else tuple(sorted(size)) for size in one} for one in (there, here)]
    if there and here and sides[0] != sides[1]:
        found.append(
            Difference(
                'the scale of the test pipeline',
                _sizes(there),
                _sizes(here),
                'If that is not meant, bring the Resize of the test pipeline to the former.',
                False,
            )
        )
    return tuple(found)


def check_data_origin(
    model: nn.Module,
    config: Mapping[str, Any],
    classes: Sequence[str] | None,
    order_matters: bool = True,
) -> None:
    """Warn where a model's weights come from other data than a run has.

    Args:
        model: a detector that has been loaded.
        config: of the run.
        classes: names of the data set's classes, in order.
        order_matters: whether scores are compared class by class, so that an order of classes
            other than the weights' is an error, unless they were loaded with strict=False.

    Raises:
        ValueError: the order of the classes is another one.
    """
    loaded = kept(model).get('')
    if loaded is None:
        return
    found = data_differences(loaded, config, classes)
    clear = [one for one in found if one.clear]
    if clear and order_matters and loaded.strict:
        key = f'{loaded.what}_strict=False'
        relaxed = f' To teach all the same, set {key}.' if loaded.what.endswith('_ckpt') else ''
        raise ValueError(
            f'{loaded.what} must hold weights whose classes are in the order of the data set, but '
            f'for "{loaded.path}" the data has {clear[0]}. {clear[0].change}{relaxed}'
        )
    warn(found, loaded.what, 'the data')


def check_load_from(runner: Runner, checkpoint: Mapping[str, Any]) -> None:
    """Warn where a checkpoint that ``load_from`` named says other than the run that it begins.

    No error: who goes on from another model's weights may mean it.
    """
    target, of_pair = target_of(runner.model)
    loaded, meta = kept(target).get(''), checkpoint.get('meta')
    if loaded is None or loaded.what != 'load_from' or not isinstance(meta, Mapping):
        return
    found, notes = differences(target, meta)
    loaded = replace(loaded, meta=meta, differences=found)
    keep(target, loaded)
    for note in notes:
        print_log(f'load_from: {note}', 'current')
    warn(found, 'load_from', 'the model')
    if not of_pair:  # a pair is checked when its training begins
        loop = runner._train_loop
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        check_data_origin(target, runner.cfg, classes)


def _listed(names: Sequence[str]) -> str:
    return f'({first_of((shown(name, 60) for name in names), 8)})'


def _sizes(scales: Sequence[tuple[int, int]]) -> str:
    text = ', '.join(f'{width}x{height}' for width, height in scales[:8])
    return f'{text}, ...' if len(scales) > 8 else text
