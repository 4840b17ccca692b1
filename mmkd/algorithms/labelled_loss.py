"""The student's own loss of those images of a batch that have annotations."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmkd.algorithms.missed_objects import MissedObjects
from mmkd.datasets.mixed_batches import UNLABELLED
from mmkd.recorders.head_watch import tapped
from mmkd.recorders.loss_pass import replaced, untouched


class LabelledLoss:
    """Keeps images without annotations out of a student's own loss.

    Backbone and neck see the whole batch once, and so do the heads, for what is recorded of them.
    The student's own loss is then computed of the annotated images' features alone: an image
    without annotations is no background, and counts in no average factor. Statistics of BatchNorm
    are those of the whole batch.

    Args:
        preprocessor: the first to get a batch. It does not see which images have no annotations.
        mixed: whether there are such images. Defaults to True.
        missed: what of the annotated images is no background. Defaults to None.
    """

    def __init__(
        self, preprocessor: nn.Module, mixed: bool = True, missed: MissedObjects | None = None
    ) -> None:
        self.mixed, self.missed = mixed, missed
        self._bare: Tensor | None = None
        self._features: list[Any] = []
        preprocessor.register_forward_pre_hook(self._take)

    @classmethod
    def of(
        cls, preprocessor: nn.Module, unlabelled: Any, missed: MissedObjects | None
    ) -> 'LabelledLoss | None':
        """By what a pair says: none where it has neither such images nor missed objects."""
        return cls(preprocessor, bool(unlabelled), missed) if unlabelled or missed else None

    def _take(self, preprocessor: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        data = args[0]
        if not isinstance(data, Mapping):
            return None
        self._bare = data.get(UNLABELLED)
        return {k: v for k, v in data.items() if k != UNLABELLED}, *args[1:]

    def labelled(self, images: int) -> Tensor:
        """The places of the images with annotations, in a batch of so many.

        Raises:
            ValueError: the batch does not say which they are.
        """
        if not self.mixed:
            return torch.arange(images)
        if self._bare is None or len(self._bare) != images:
            raise ValueError(
                'with unlabelled=dict(...) a batch must say which of its images have no '
                'annotations, but this one does not. Train with "mmkd train", or with the loader '
                'that mmkd.datasets.mixed_batches.mixed_loader(cfg) gives.'
            )
        return (~self._bare.cpu()).nonzero().flatten()

    @contextmanager
    def watch(self, student: nn.Module) -> Iterator[None]:
        """Keep the features of a pass of the whole batch."""
        self._features.clear()
        with tapped(student, 'extract_feat', after=lambda _, maps: self._features.append(maps)):
            yield

    def __call__(self, student: Any, inputs: Tensor, samples: Any) -> dict[str, Any]:
        """The student's own terms of a batch (B, C, H, W), after a pass that was watched or none.

        Args:
            student: the detector.
            inputs: all images.
            samples: of all images.
        """
        kept = self.labelled(len(inputs))
        own = samples_of(samples, kept)
        features, self._features = self._features, []
        if not features:  # no loss asks for the other images
            return student(inputs[kept.to(inputs.device)], own, mode='loss')
        parts = iter([_of(maps, kept, len(inputs)) for maps in features])
        with ExitStack() as stack:
            stack.enter_context(untouched(student))
            stack.enter_context(replaced(student, 'extract_feat', lambda *_, **__: next(parts)))
            if self.missed is not None:
                regions = self.missed.regions(samples, len(inputs))
                regions = [regions[i] for i in kept.tolist()]
                stack.enter_context(self.missed.left_out(regions, own, inputs.shape[-2:]))
            return student(inputs[kept.to(inputs.device)], own, mode='loss')


def _of(maps: Any, kept: Tensor, images: int) -> Any:
    """Of maps, in whatever holds them, those of some images."""
    if isinstance(maps, Tensor):
        return maps[kept.to(maps.device)] if maps.dim() and len(maps) == images else maps
    if isinstance(maps, Mapping):
        return {key: _of(value, kept, images) for key, value in maps.items()}
    if isinstance(maps, list | tuple):
        found = [_of(value, kept, images) for value in maps]
        return found if isinstance(maps, list) else tuple(found)
    return maps


def copied(samples: Any) -> Any:
    """The samples for a pass that is not the last: MMYOLO's losses write into them."""
    if isinstance(samples, Mapping):
        return {k: v.clone() if isinstance(v, Tensor) else v for k, v in samples.items()}
    return samples


def samples_of(samples: Any, kept: Tensor) -> Any:
    """The samples of some images: of mmdet's list, or of MMYOLO's dict.

    Args:
        samples: of a batch.
        kept: (n,), places of the images, in order.
    """
    if not isinstance(samples, Mapping):
        return [samples[i] for i in kept.tolist()]
    rows = samples['bboxes_labels']
    places = kept.to(rows.device)
    own = torch.isin(rows[:, 0].long(), places)
    made = {**samples, 'bboxes_labels': rows[own].clone()}
    made['bboxes_labels'][:, 0] = torch.searchsorted(places, rows[own, 0].long()).to(rows)
    metas = samples.get('img_metas')
    if metas is not None:
        made['img_metas'] = [metas[i] for i in kept.tolist()]
    for name in ('masks', 'keypoints', 'keypoints_visible'):
        value = samples.get(name)
        if isinstance(value, Tensor):
            made[name] = value[own.to(value.device)] if len(value) == len(rows) else value[places]
    return made
