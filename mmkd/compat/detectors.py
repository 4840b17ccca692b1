"""Patches of mmdet's and MMYOLO's heads, and of mmdet's API."""

import functools
import os
import warnings
from typing import Any

import torch


def repair_ssd_head() -> None:
    """SSD cannot predict: BaseDenseHead reads ``loss_cls``, which SSDHead does not have."""
    from mmdet.models.dense_heads import SSDHead

    if not hasattr(SSDHead, 'loss_cls'):
        SSDHead.loss_cls = None


def normalise_ssd_over_ranks() -> None:
    """SSD divides by the positives of its own rank, which is not what one process does.

    DDP averages gradients: images on a rank with few objects would count for more. With one
    process nothing changes.
    """
    from mmdet.models.dense_heads import SSDHead
    from mmengine.dist import get_world_size

    from mmkd.distributed.avg_factor import across_ranks

    original = SSDHead.get_targets

    @functools.wraps(original)
    def get_targets(self: SSDHead, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        targets = original(self, *args, **kwargs)
        if get_world_size() == 1:
            return targets
        label_weights, num_pos = targets[1], targets[4]
        return (*targets[:4], across_ranks(num_pos, label_weights[0]), *targets[5:])

    SSDHead.get_targets = get_targets


def call_heads_with_their_hooks() -> None:
    """In mode='tensor' detectors call ``bbox_head.forward``, which passes by hooks on the head.

    A recorder of a teacher's head would record nothing. In training they call the head itself.
    """
    from mmdet.models.detectors import SingleStageDetector
    from mmdet.models.detectors.base_detr import DetectionTransformer

    def one_stage(
        self: SingleStageDetector, batch_inputs: Any, batch_data_samples: Any = None
    ) -> Any:
        return self.bbox_head(self.extract_feat(batch_inputs))

    def detr(self: DetectionTransformer, batch_inputs: Any, batch_data_samples: Any = None) -> Any:
        features = self.extract_feat(batch_inputs)
        return self.bbox_head(**self.forward_transformer(features, batch_data_samples))

    for detector, forward in ((SingleStageDetector, one_stage), (DetectionTransformer, detr)):
        detector._forward = functools.wraps(detector._forward)(forward)


def run_instance_segmentors_without_ground_truth() -> None:
    """In mode='tensor' YOLACT and CondInst choose by a loss which objects get masks.

    A teacher has no loss: in eval, its own detections get them, as in its prediction.
    """
    from mmdet.models.detectors.single_stage_instance_seg import SingleStageInstanceSegmentor

    original = SingleStageInstanceSegmentor._forward

    @functools.wraps(original)
    def forward(
        self: SingleStageInstanceSegmentor,
        batch_inputs: Any,
        batch_data_samples: Any = None,
        **kwargs: Any,
    ) -> Any:
        if self.training or not self.with_bbox:
            return original(self, batch_inputs, batch_data_samples, **kwargs)
        x = self.extract_feat(batch_inputs)
        outputs = self.bbox_head(x)
        metas = [sample.metainfo for sample in batch_data_samples]
        found = self.bbox_head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=False)
        return outputs, self.mask_head(x, found)

    SingleStageInstanceSegmentor._forward = forward


def predict_batches_of_guided_anchors() -> None:
    """In eval heads with guided anchors skip the cells that the first image leaves empty.

    Their masked convolution takes a single image besides. So a batch goes through them image by
    image.
    """
    from mmdet.models.dense_heads import GuidedAnchorHead

    original = GuidedAnchorHead.forward

    @functools.wraps(original)
    def forward(self: GuidedAnchorHead, x: Any) -> Any:
        if self.training or len(x[0]) == 1:
            return original(self, x)
        images = [
            original(self, image) for image in zip(*(level.split(1) for level in x), strict=True)
        ]
        return tuple(
            [torch.cat(level) for level in zip(*kind, strict=True)]
            for kind in zip(*images, strict=True)
        )

    GuidedAnchorHead.forward = forward


def tell_of_the_student() -> None:
    """mmdet's init_detector reads ``model.backbone`` of any config, which that of a pair lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of an optional metric that is not installed
        import mmdet.apis
    from mmdet.apis import inference
    from mmengine.config import Config

    original = inference.init_detector

    @functools.wraps(original)
    def init_detector(config: Any, *args: Any, **kwargs: Any) -> Any:
        from mmkd.config.pair_config import is_distillation

        if isinstance(config, str | os.PathLike):
            config = Config.fromfile(config)
        if isinstance(config, Config) and is_distillation(config):
            raise ValueError(
                "init_detector's config must be that of a detector, but got that of a pair "
                f'({config.model.get("type")}). Give the student.py and student.pth that its '
                'training wrote into the work dir; of another checkpoint, '
                '"mmkd export CONFIG CHECKPOINT NAME.pth" writes them.'
            )
        return original(config, *args, **kwargs)

    inference.init_detector = mmdet.apis.init_detector = init_detector


def normalise_yolov5_over_ranks() -> None:
    """MMYOLO's class and box terms are means over the matches of a rank, which DDP averages alike.

    Here each rank's term of a level counts as much as its share of all ranks' matches, which is
    what one process does. ``prepare_launch`` calls this when MMYOLO's detectors are to train on
    several processes, since mmyolo must not be imported before a config asks for it.
    """
    from mmengine.dist import all_reduce, get_world_size
    from mmyolo.models.dense_heads import YOLOv5Head

    original = YOLOv5Head.loss_by_feat
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def loss_by_feat(self: Any, cls_scores: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        world = get_world_size()
        if world == 1:
            return original(self, cls_scores, *args, **kwargs)
        matches = cls_scores[0].new_zeros(self.num_levels, dtype=torch.float32)
        terms: dict[str, dict[int, torch.Tensor]] = {'loss_bbox': {}, 'loss_cls': {}}
        levels = [0]  # whose objectness is done: the box term comes before it, the class term after

        def next_level(*_: Any) -> None:
            levels[0] += 1

        def remember(name: str, level_of: int, inputs: tuple[Any, ...], term: Any) -> None:
            level = levels[0] + level_of
            terms[name][level] = term[0] if isinstance(term, tuple) else term
            matches[level] = len(inputs[0])

        handles = [
            self.loss_obj.register_forward_hook(next_level),
            self.loss_bbox.register_forward_hook(lambda _, i, o: remember('loss_bbox', 0, i, o)),
            self.loss_cls.register_forward_hook(lambda _, i, o: remember('loss_cls', -1, i, o)),
        ]
        try:
            losses = original(self, cls_scores, *args, **kwargs)
        finally:
            for handle in handles:
                handle.remove()
        total = matches.clone()
        all_reduce(total)
        factors = (world * matches / total.clamp(min=1) - 1) * len(cls_scores[0]) * world
        for name, by_level in terms.items():
            for level, term in by_level.items():
                losses[name] = losses[name] + term * factors[level]
        return losses

    YOLOv5Head.loss_by_feat = loss_by_feat


def predict_branches_by_image() -> None:
    """TridentNet with all branches gives each image once per branch, and mixes those of a batch.

    It suppresses the first ``num_branch`` of all images' branches together, as if those were of
    one image.
    """
    from mmdet.models.detectors import TridentFasterRCNN

    original = TridentFasterRCNN.predict
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def predict(self: Any, batch_inputs: Any, batch_data_samples: Any, rescale: bool = True) -> Any:
        if self.test_branch_idx != -1:
            return original(self, batch_inputs, batch_data_samples, rescale)
        return [
            original(self, batch_inputs[i : i + 1], [sample], rescale)[0]
            for i, sample in enumerate(batch_data_samples)
        ]

    TridentFasterRCNN.predict = predict
