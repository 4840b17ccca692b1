"""Batches of annotated images and of others without annotations, a set share of each."""

from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from typing import Any

import torch
from mmcv.transforms import BaseTransform
from mmengine.config import ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, FUNCTIONS
from torch.utils.data import Dataset

from mmkd.datasets.listed_images import find_images
from mmkd.datasets.metainfo import dataset_type
from mmkd.datasets.mixed_sampler import MixedSampler

#: By which a batch tells which of its images have no annotations: (B,), bool.
UNLABELLED = 'unlabelled'

#: Transforms that would leave out an image without boxes, and what lets them keep it.
_KEEP_BARE: dict[str, dict[str, bool]] = {
    'RandomCrop': {'allow_negative_crop': True},
    'Albu': {'skip_img_without_anno': False},
}

#: What ``unlabelled=dict(...)`` of a pair may have.
_KNOWN = ('images', 'share', 'root')


class MixedDataset(Dataset[Any]):
    """A data set, and after its images those without annotations.

    Other than that it passes for the data set itself. A pipeline that a hook sets is that of both.

    Args:
        datasets (list): the configs of both: the data set's, and that of the others.
    """

    def __init__(self, datasets: Sequence[Any]) -> None:
        built = [DATASETS.build(d) if isinstance(d, Mapping) else d for d in datasets]
        self.datasets = built

    @property
    def labelled(self) -> int:
        """How many images have annotations."""
        return len(self.datasets[0])

    def __len__(self) -> int:
        return sum(map(len, self.datasets))

    def __getitem__(self, index: int) -> Any:
        bare, place = self._place(index)
        return {**self.datasets[bare][place], UNLABELLED: bool(bare)}

    def get_data_info(self, index: int) -> Any:
        """What is known of an image."""
        bare, place = self._place(index)
        return self.datasets[bare].get_data_info(place)

    def full_init(self) -> None:
        """Load both."""
        for dataset in self.datasets:
            dataset.full_init()

    def _place(self, index: int) -> tuple[int, int]:
        return (0, index) if index < self.labelled else (1, index - self.labelled)

    def __copy__(self) -> 'MixedDataset':
        """With copies of both, so that a change of it leaves these as they are."""
        return MixedDataset([copy(dataset) for dataset in self.datasets])

    def __getattr__(self, name: str) -> Any:
        # While a worker unpickles it; and what is another of each part is none of the whole.
        if name.startswith('__') or name in ('datasets', 'dataset', 'pipeline'):
            raise AttributeError(name)
        found = getattr(self.datasets[0], name)
        if not name.startswith('update_'):
            return found

        def both(*args: Any, **kwargs: Any) -> None:
            for dataset in self.datasets:
                getattr(dataset, name)(*args, **kwargs)

        return both

    def __setattr__(self, name: str, value: Any) -> None:
        if name == 'datasets':
            object.__setattr__(self, name, value)
            return
        for bare, part in enumerate(self.datasets):
            own = without_boxes(value) if bare and name == 'pipeline' else value
            setattr(part, name, own)


def collate_mixed(items: Sequence[Any], collate: Mapping[str, Any]) -> dict[str, Any]:
    """A batch, and which of its images have no annotations.

    Args:
        items: of a :class:`MixedDataset`.
        collate: config of the run's own collate function.
    """
    function = FUNCTIONS.get(collate['type']) if isinstance(collate['type'], str) else None
    options = {k: v for k, v in collate.items() if k not in ('type', '_scope_')}
    rest = [{k: v for k, v in item.items() if k != UNLABELLED} for item in items]
    made = (function or collate['type'])(rest, **options)
    return {**made, UNLABELLED: torch.tensor([item[UNLABELLED] for item in items])}


def mixed_loader(cfg: Mapping[str, Any]) -> Any:
    """The train_dataloader of a config, with the images that its model's ``unlabelled`` names.

    Args:
        cfg: of a run; of one whose model names none its own loader is returned.

    Raises:
        FileNotFoundError, ValueError: there are no such images, or not one of each kind in a batch.
    """
    model, loader = cfg.get('model') or {}, cfg.get('train_dataloader')
    settings = model.get('unlabelled') if isinstance(model, Mapping) else None
    if settings in (None, False) or loader is None:
        return loader
    if isinstance(settings, str):
        settings = dict(images=settings)
    form = isinstance(settings, Mapping)
    if not form or set(settings) - set(_KNOWN) or not settings.get('images'):
        has = ', '.join(map(str, settings)) or 'nothing' if form else repr(settings)
        raise ValueError(
            f'model.unlabelled must have images, and may have share and root, but has {has}. '
            "Write unlabelled=dict(images='photos')."
        )
    size, share = int(loader['batch_size']), settings.get('share', 0.5)
    if not isinstance(share, int | float) or not 0 < share < 1:
        raise ValueError(
            f'model.unlabelled.share must be above 0 and below 1, but got {share!r}: of each batch '
            'that part has no annotations.'
        )
    bare = min(max(round(size * share), 1), size - 1)
    if size < 2:
        raise ValueError(
            'with model.unlabelled each batch has images with annotations and images without, but '
            f'train_dataloader.batch_size is {size}. Raise it to 2 or more.'
        )
    images = settings['images']
    words = [images] if isinstance(images, str) else list(images)
    listed = [one.told() for one in find_images(words, settings.get('root'))]
    others = _without_annotations(loader['dataset'], listed, cfg.get('default_scope'))
    sampler = loader.get('sampler') or dict(type='DefaultSampler', shuffle=True)
    mixed = {
        **loader,
        'dataset': dict(type=MixedDataset, datasets=[loader['dataset'], others]),
        'sampler': dict(type=MixedSampler, sampler=sampler, labelled=size - bare, unlabelled=bare),
        'collate_fn': dict(
            type=collate_mixed, collate=loader.get('collate_fn', dict(type='pseudo_collate'))
        ),
    }
    mixed.pop('batch_sampler', None)  # one that sorts images would sort those of a batch apart
    return ConfigDict(mixed)


def mixed_anew(cfg: Mapping[str, Any], dataset: Any) -> tuple[Any, Any]:
    """What :func:`mixed_loader` gives, for a data set that a hook has built in a run.

    Args:
        cfg: of the run.
        dataset: built; the images without annotations go through its pipeline, too.

    Returns:
        tuple: the train_dataloader, and its data set, built.
    """
    mixed = mixed_loader(cfg)
    if mixed is cfg.get('train_dataloader'):
        return mixed, dataset
    others = DATASETS.build(mixed['dataset']['datasets'][1])
    inner = dataset
    while 'pipeline' not in vars(inner):  # of one that repeats or joins others
        held = vars(inner)
        inner = held['datasets'][0] if held.get('datasets') else held['dataset']
    for name in ('pipeline', 'pipeline_types'):
        if name in vars(inner):
            setattr(others, name, without_boxes(vars(inner)[name]))
    return mixed, MixedDataset([dataset, others])


def _without_annotations(dataset: Any, listed: list[dict[str, Any]], scope: str | None) -> Any:
    """The config of a data set with other images, which have none; mixing transforms mix these."""
    if str(dataset.get('type')).split('.')[-1] == 'MultiImageMixDataset':
        inner = _without_annotations(dataset['dataset'], listed, scope)
        return {**dataset, 'dataset': inner, 'pipeline': _without_boxes(dataset['pipeline'])}
    inner = dataset.get('datasets', dataset.get('dataset'))
    if inner is not None:
        one = inner[0] if isinstance(inner, list | tuple) else inner
        return _without_annotations(one, listed, scope)
    from mmkd.datasets.unlabelled_dataset import UnlabelledDataset

    kind = dataset_type(dataset, scope)
    metainfo = {**getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {})}
    return dict(
        type=UnlabelledDataset,
        listed=listed,
        metainfo=metainfo,
        pipeline=_without_boxes(dataset['pipeline']),
        mixes='mmyolo' in str(getattr(kind, '__module__', '')),
    )


def without_boxes(pipeline: Any) -> Any:
    """As :func:`_without_boxes`, of a built pipeline."""
    made = deepcopy(pipeline)
    left = [made]
    while left:
        one = left.pop()
        if isinstance(one, list | tuple):
            left += one
        elif isinstance(one, BaseTransform | Compose):
            left += vars(one).values()
            for cls in type(one).__mro__:
                vars(one).update(_KEEP_BARE.get(cls.__name__, {}))
    return made


def _without_boxes(node: Any) -> Any:
    """A pipeline that does not ask for boxes: an image without any is as good as another."""
    if isinstance(node, list | tuple):
        return type(node)([_without_boxes(item) for item in node])
    if not isinstance(node, Mapping):
        return node
    made = {key: _without_boxes(value) for key, value in node.items()}
    return {**made, **_KEEP_BARE.get(str(made.get('type')).split('.')[-1], {})}
