"""A data set of images without annotations."""

from collections.abc import Sequence
from typing import Any

from mmdet.datasets import BaseDetDataset

from mmkd.datasets.mixed_batches import UNLABELLED


class UnlabelledDataset(BaseDetDataset):
    """Images of which nothing is known.

    Args:
        listed (list[dict]): of each image its ``path``, its ``name`` in a file of detections, and,
            if a COCO file lists it, its ``id``, ``width`` and ``height`` there.
        mixes (bool): whether each image brings its data set along, as MMYOLO's transforms that
            mix images ask for it. Defaults to False.
        kwargs: as for mmdet's ``BaseDetDataset``.
    """

    def __init__(
        self, listed: Sequence[dict[str, Any]], mixes: bool = False, **kwargs: Any
    ) -> None:
        self.listed, self.mixes = listed, mixes
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Each image with an id that no annotation file has."""
        return [
            dict(
                img_id=f'unlabelled/{one["name"]}',
                img_path=one['path'],
                instances=[],
                listed_id=one.get('id'),
                **{UNLABELLED: True},
                **{key: one[key] for key in ('width', 'height') if one.get(key)},
            )
            for one in self.listed
        ]

    def prepare_data(self, idx: int) -> Any:
        """An image through the pipeline."""
        info = self.get_data_info(idx)
        if self.mixes:
            info['dataset'] = self
        return self.pipeline(info)
