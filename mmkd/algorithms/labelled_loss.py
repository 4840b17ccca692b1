"""The student's own loss of those images of a batch that have annotations."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmkd.algorithms.missed_objects import MissedObjects
from mmkd.connectors import SharedClasses
from mmkd.datasets.data_samples import maps_of, samples_of
from mmkd.datasets.mixed_batches import UNLABELLED
from mmkd.recorders.classes_left_out import has_class_columns
from mmkd.recorders.head_watch import tapped
from mmkd.recorders.loss_pass import untouched
from mmkd.recorders.loss_pass_recorder import LossPassRecorder
from mmkd.recorders.replaced import replaced


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
        #: (B,), which images of the batch have no annotations; None where it does not say.
        self.bare: Tensor | None = None
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
        self.bare = data.get(UNLABELLED)
        return {k: v for k, v in data.items() if k != UNLABELLED}, *args[1:]

    def labelled(self, images: int) -> Tensor:
        """The places of the images with annotations, in a batch of so many.

        Raises:
            ValueError: the batch does not say which they are.
        """
        if not self.mixed:
            return torch.arange(images)
        if self.bare is None or len(self.bare) != images:
            raise ValueError(
                'with unlabelled=dict(...) a batch must say which of its images have no '
                'annotations, but this one does not. Train with "mmkd train", or with the loader '
                'that mmkd.datasets.mixed_batches.mixed_loader(cfg) gives.'
            )
        return (~self.bare.cpu()).nonzero().flatten()

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
        parts = [maps_of(maps, kept, len(inputs)) for maps in features]
        images = inputs[kept.to(inputs.device)]

        def loss(parts: Sequence[Any] = parts, samples: Any = own) -> dict[str, Any]:
            left = iter(parts)
            with replaced(student, 'extract_feat', lambda *_, **__: next(left)):
                return dict(student(images, samples, mode='loss'))

        with ExitStack() as stack:
            if self.missed is not None:
                regions = self.missed.regions(samples, len(inputs))
                regions = [regions[i] for i in kept.tolist()]

                def trial() -> dict[str, Any]:
                    with untouched(student):
                        return loss(samples=copied(own))

                size = inputs.shape[-2:]
                stack.enter_context(self.missed.left_out(regions, own, size, trial))
            stack.enter_context(untouched(student))
            return loss()


def copied(samples: Any) -> Any:
    """The samples for a pass that is not the last: MMYOLO's losses write into them."""
    if isinstance(samples, Mapping):
        return {k: v.clone() if isinstance(v, Tensor) else v for k, v in samples.items()}
    return samples


def tell_bare(distiller: Any, own: LabelledLoss | None) -> None:
    """Let a student's recorded pass know which of its images have no annotations."""
    for recorder in distiller.student_recorders.recorders.values():
        if own is not None and isinstance(recorder, LossPassRecorder):
            recorder.tell(own.bare if own.mixed else None)


def warn_of_left_out(unlabelled: Any, distiller: Any, student: Any) -> None:
    """Say it where images without annotations cannot be shown to a student's own loss."""
    recorders = distiller.student_recorders.recorders.values()
    passes = any(isinstance(one, LossPassRecorder) for one in recorders)
    feeds = distiller.connectors.values()
    untaught = any(isinstance(one, SharedClasses) and not all(one.taught) for one in feeds)
    if unlabelled and passes and untaught and not has_class_columns(student):
        print_log(
            'model.unlabelled: the teacher does not know all classes of the student, and '
            f'{type(student).__name__} finds objects of any class by the same objectness, '
            'proposals or queries: by its own loss (soft_ground_truth) it learns nothing of the '
            'images without annotations, in which the other classes would be background. Take '
            'prediction_rows, or a teacher of all classes.',
            logger='current',
            level=logging.WARNING,
        )
