"""Images that a pair names as unlabelled, though they have annotations."""

import os
from typing import Any

from mmkd.datasets.mixed_batches import MixedDataset
from mmkd.detections.feed import leaf_datasets


def note_shared_images(dataset: Any) -> list[str]:
    """A line for the log, where images are in both halves of a :class:`MixedDataset`.

    Args:
        dataset: of a run, or what seeds or caches it.
    """
    while dataset is not None and not isinstance(dataset, MixedDataset):
        held = getattr(dataset, '__dict__', {})
        dataset = next((held[key] for key in ('_dataset', 'dataset', 'views') if key in held), None)
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


def _paths(dataset: Any) -> list[str]:
    if not hasattr(dataset, 'get_data_info'):
        return []
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    return [str(info['img_path']) for info in infos if info.get('img_path')]
