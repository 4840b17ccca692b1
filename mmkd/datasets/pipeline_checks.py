"""Whether what a pipeline needs is installed."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import TRANSFORMS, DefaultScope


def check_installed(where: str, dataset: Any, scope: str | None) -> None:
    """Check that the packages are installed that the transforms of a data set need.

    They are told by building each transform; other faults of one are left to the run.

    Args:
        where: the loader's key, for messages.
        dataset: config of a data set, which may join or wrap others.
        scope: of the config.

    Raises:
        ValueError: one is missing.
    """
    for transform in _transforms(dataset):
        try:
            with DefaultScope.overwrite_default_scope(scope or 'mmdet'):
                TRANSFORMS.build(transform)
        except Exception as error:
            said = ' '.join(str(error).split()).rstrip('.')
            if isinstance(error, ImportError) or 'installed' in said or 'pip install' in said:
                raise ValueError(
                    f'{where}: what a pipeline needs must be installed, but of {_name(transform)} '
                    f'came {type(error).__name__}: {said}. Install the package, or take the '
                    'transform out.'
                ) from None


def _transforms(dataset: Any) -> Iterator[Any]:
    if isinstance(dataset, list | tuple):
        for item in dataset:
            yield from _transforms(item)
    elif isinstance(dataset, Mapping):
        pipeline = dataset.get('pipeline')
        if isinstance(pipeline, list | tuple):
            yield from (item for item in pipeline if isinstance(item, Mapping))
        for key in ('dataset', 'datasets'):
            yield from _transforms(dataset.get(key))


def _name(transform: Mapping[str, Any]) -> str:
    kind = transform.get('type')
    return str(getattr(kind, '__name__', kind))
