"""A fixed number of views of each image, and a data set that draws among them.

A view is an image under one augmentation.
"""

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, FUNCTIONS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmkd.cache.key import check_key, data_key
from mmkd.cache.record import RecordLayout
from mmkd.cache.store import Store, read_index
from mmkd.config.key_finder import dicts
from mmkd.datasets.data_samples import boxes_of
from mmkd.datasets.seeding import seeded
from mmkd.distributed.unwrapped import unwrapped

#: How a record travels: a key of the data set's items and of the batch.
RECORD = 'teacher_record'


class FixedViews(Dataset[Any]):
    """``views`` views of each image: item ``image * views + view``.

    What the pipeline draws follows from image id, view and seed alone.

    Args:
        dataset (dict | Dataset): the data set or its config.
        views (int): V.
        seed (int): of the views.
    """

    def __init__(self, dataset: Any, views: int, seed: int) -> None:
        is_config = isinstance(dataset, Mapping)
        self.dataset = DATASETS.build(copy.deepcopy(dataset)) if is_config else dataset
        self.dataset.full_init()
        self.views, self.seed = views, seed

    def __len__(self) -> int:
        return len(self.dataset) * self.views

    def __getitem__(self, item: int) -> dict[str, Any]:
        image, view = divmod(item, self.views)
        image_id = self.dataset.get_data_info(image).get('img_id', image)
        with seeded(self.seed, str(image_id), view):
            return self.dataset[image]


class CachedViews(Dataset[Any]):
    """Draws a cached view of the image, with the teacher's record of it.

    The view is drawn from NumPy's generator, as the pipeline would.

    Args:
        dataset (dict): config of the data set that the cache was filled from.
        folder (str): of the cache.

    Raises:
        FileNotFoundError, ValueError: there is no cache in the folder, it is not complete, or it
            was filled with another pipeline or other images.
    """

    def __init__(self, dataset: dict[str, Any], folder: str) -> None:
        index = read_index(folder)
        self.folder, self.number = folder, index['views']
        self.views = FixedViews(dataset, index['views'], index['seed'])
        own = data_key(dataset, self.views.dataset, index['views'], index['seed'])
        check_key(folder, index['key'], own)
        if not index['complete']:
            raise ValueError(_unfilled(f'the cache in {folder} is not complete'))
        nbytes = RecordLayout(index['fields']).nbytes
        self.store = Store(folder, nbytes, len(self.views), index['key'])

    @property
    def metainfo(self) -> dict[str, Any]:
        """That of the data set."""
        return self.views.dataset.metainfo

    def full_init(self) -> None:
        """Nothing is left to be done."""

    def get_data_info(self, image: int) -> dict[str, Any]:
        """What the data set knows of an image."""
        return self.views.dataset.get_data_info(image)

    def __len__(self) -> int:
        return len(self.views.dataset)

    def __getitem__(self, image: int) -> dict[str, Any]:
        item = int(image) * self.number + int(np.random.randint(self.number))
        found = self.store.read(item)
        if found is None:
            raise ValueError(
                _unfilled(
                    f'view {item % self.number} of image {image} is missing or torn in '
                    f'{self.folder}'
                )
            )
        data = self.views[item]
        if fingerprint(data) != found[0]:
            raise ValueError(
                f'a view must come out as it was cached, but view {item % self.number} of image '
                f'{image} has other pixels or boxes than in {self.folder}. Have images changed, '
                'or the versions of the packages that load and augment them? Fill a new cache.'
            )
        return {**data, RECORD: torch.from_numpy(found[1].copy())}


def _unfilled(fault: str) -> str:
    return (
        f'{fault}. Go on filling: mmkd cache CONFIG --views V, with the same '
        'arguments as before; whole records are kept.'
    )


def fingerprint(data: dict[str, Any]) -> int:
    """Checksum of a view's pixels and boxes."""
    tensors = data['inputs'], boxes_of(data['data_samples'])
    pixels, boxes = (tensor.contiguous().numpy().data for tensor in tensors)
    return zlib.crc32(boxes, zlib.crc32(pixels))


def collate_with_records(
    items: Sequence[dict[str, Any]], collate: Callable[..., Any]
) -> dict[str, Any]:
    """Collate by another function, which need not know of the teacher's records.

    Args:
        items: with the record under ``teacher_record``.
        collate: that function.
    """
    records = torch.stack([item[RECORD] for item in items])
    rest = [{k: v for k, v in item.items() if k != RECORD} for item in items]
    return {**collate(rest), RECORD: records}


def build_collate(loader: Mapping[str, Any]) -> Callable[..., Any]:
    """The collate function of a data loader's config, as the runner takes it."""
    config = loader.get('collate_fn', dict(type='pseudo_collate'))
    if not isinstance(config, Mapping):
        return config
    function = FUNCTIONS.get(config['type']) if isinstance(config['type'], str) else config['type']
    options = {k: v for k, v in config.items() if k not in ('type', '_scope_')}
    return partial(function, **options)


def image_dataset(config: Mapping[str, Any]) -> Any:
    """The data set whose items are images, of which ``RepeatDataset`` draws several times."""
    while str(config['type']).endswith('RepeatDataset'):
        config = config['dataset']
    return config


def draw_cached_views(runner: Runner) -> None:
    """Let a runner whose model has a ``teacher_cache`` train on the cached views."""
    cache = runner.cfg.model.get('teacher_cache')
    if not cache:
        return
    check_repeatable(runner.cfg, unwrapped(runner.model))
    folder = cache['folder'] if isinstance(cache, Mapping) else cache
    loader: Any = runner._train_dataloader
    runner._train_dataloader = {
        **loader,
        'dataset': _wrapped(loader['dataset'], folder),
        'collate_fn': partial(collate_with_records, collate=build_collate(loader)),
    }


def _wrapped(config: Mapping[str, Any], folder: str) -> dict[str, Any]:
    if config is image_dataset(config):
        return dict(type=CachedViews, dataset=config, folder=folder)
    return {**config, 'dataset': _wrapped(config['dataset'], folder)}


def check_repeatable(cfg: Config, model: Any) -> None:
    """Check that a view can follow from image id, view and seed alone.

    Args:
        cfg: of the pair.
        model: the algorithm that it built.

    Raises:
        ValueError: the pipeline remembers images, changes during the run, or images change after
            they are batched.
    """
    faults = []
    for node in dicts(cfg.train_dataloader):
        kind = str(node.get('type', '')).split('.')[-1]
        if node.get('use_cached') or kind.startswith('Cached'):
            faults.append(
                f'{kind} mixes images that it remembers from earlier draws; '
                'take use_cached=False, or Mosaic and MixUp in place of CachedMosaic, CachedMixUp'
            )
        if node.get('use_ms_training'):
            faults.append('use_ms_training resizes each batch at random')
    if getattr(model.data_preprocessor, 'batch_augments', None):
        faults.append('batch_augments of the data_preprocessor change images in the batch')
    for node in dicts(cfg.get('custom_hooks')):
        kind = str(node.get('type', '')).split('.')[-1]
        if kind.endswith('SwitchHook'):
            faults.append(f'{kind} changes the pipeline during the run')
    if faults:
        raise ValueError(
            'a teacher cache needs views that follow from image id, view and seed alone, but '
            f'{"; ".join(dict.fromkeys(faults))}. Otherwise train without teacher_cache.'
        )
