"""Images that a pair names as unlabelled, though they have annotations."""

import os
from collections.abc import Mapping
from typing import Any

from mmkd.datasets.image_paths import MEASURED, image_paths
from mmkd.datasets.mixed_batches import MixedDataset
from mmkd.detections.feed import leaf_datasets


def note_shared_images(dataset: Any) -> list[str]:
    """A line for the log, where images are in both halves of a :class:`MixedDataset`.

    Args:
        dataset: of a run, or what seeds or caches it.
    """
    dataset = _mixed(dataset)
    if dataset is None:
        return []
    own, others = (
        {os.path.realpath(path) for leaf in leaf_datasets(half) for path in _paths(leaf)}
        for half in dataset.datasets
    )
    both = own & others
    if not both:
        return []
    return [
        f'model.unlabelled: {len(both)} of {len(others)} images are among the annotated ones, too, '
        f'such as "{min(both)}": they come with their annotations and without. Leave them out to '
        'see others instead'
    ]


def note_measured_images(dataset: Any, cfg: Mapping[str, Any]) -> str:
    """What to say where images without annotations are those that figures are measured on.

    Args:
        dataset: as of :func:`note_shared_images`.
        cfg: of the run.
    """
    dataset = _mixed(dataset)
    if dataset is None:
        return ''
    others = {
        os.path.realpath(p) for leaf in leaf_datasets(dataset.datasets[1]) for p in _paths(leaf)
    }
    scope = cfg.get('default_scope')
    measured = {
        os.path.realpath(path)
        for key in MEASURED
        for path in image_paths(cfg, key, scope, lost=True)
    }
    both = others & measured
    if not both:
        return ''
    return (
        f'model.unlabelled: {len(both)} of {len(others)} images are those of val_dataloader or '
        f'test_dataloader, such as "{min(both)}": what is measured on them tells nothing of images '
        'that the student has not seen. Name a folder or a list without them.'
    )


def _mixed(dataset: Any) -> Any:
    """The :class:`MixedDataset` in what seeds or caches it; None where there is none."""
    while dataset is not None and not isinstance(dataset, MixedDataset):
        held = getattr(dataset, '__dict__', {})
        dataset = next((held[key] for key in ('_dataset', 'dataset', 'views') if key in held), None)
    return dataset


def _paths(dataset: Any) -> list[str]:
    if not hasattr(dataset, 'get_data_info'):
        return []
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    return [str(info['img_path']) for info in infos if info.get('img_path')]
