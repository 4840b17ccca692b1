"""The files of a data set's images, without loading any."""

from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS, DefaultScope

#: The data sets that a figure is measured on.
MEASURED = ('val_dataloader', 'test_dataloader')


def image_paths(
    cfg: Mapping[str, Any], key: str, scope: str | None, lost: bool = False
) -> list[str]:
    """The images of a config's data set, in its order; none where the config has none.

    Args:
        cfg: of a run.
        key: of its data loader.
        scope: where types are looked up.
        lost: whether the data set may be missing, and then has no images. Defaults to False.

    Raises:
        FileNotFoundError: it is not here.
    """
    dataset = (cfg.get(key) or {}).get('dataset')
    if not dataset:
        return []
    with DefaultScope.overwrite_default_scope(scope):
        try:
            built = DATASETS.build(_without_pipeline(dataset))
            return [_path(built, i) for i in range(len(built))]
        except FileNotFoundError:
            if lost:
                return []
            raise


def _without_pipeline(dataset: Any) -> Any:
    """A data set, or what wraps data sets, that transforms nothing."""
    if isinstance(dataset, list | tuple):
        return [_without_pipeline(one) for one in dataset]
    if not isinstance(dataset, Mapping):
        return dataset
    inner = ('dataset', 'datasets')
    found = {k: _without_pipeline(v) if k in inner else v for k, v in dataset.items()}
    if 'pipeline' in found:
        found['pipeline'] = []
    return found


def _path(dataset: Any, index: int) -> str:
    while not hasattr(dataset, 'get_data_info'):  # as mmdet's MultiImageMixDataset
        dataset = dataset.dataset
    return str(dataset.get_data_info(index).get('img_path', ''))
