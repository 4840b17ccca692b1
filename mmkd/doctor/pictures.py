"""Pictures of a training batch: truth, imitation mask, and what the teacher sees."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmkd.algorithm import DetectionDistill
from mmkd.connectors.imitation_mask_connector import ground_truth
from mmkd.doctor.models import preprocessing
from mmkd.doctor.report import Section
from mmkd.doctor.step import Step
from mmkd.levels import upcast
from mmkd.priors import level_priors


def check_pictures(
    section: Section, pair: DetectionDistill, step: Step, folder: str | Path, count: int = 4
) -> None:
    """Draw the first images of the step's batch, a PNG each, into ``folder``.

    Args:
        section: gets rows of file, what it shows.
        pair: the built pair.
        step: its first step.
        folder: is made where it lacks.
        count: how many images at most.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib, which is not installed. Install it: pip install 'mmkd[demo]'"
        ) from error

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    size = step.inputs.shape[-2:]
    maps = {
        f'mask of {name}': over_image(arguments['mask'], size, prior_offset(pair.student))
        for name, arguments in step.arguments.items()
        if 'mask' in arguments
    }
    seen = teacher_confidence(pair, step)
    if seen is None:
        section.notes.append("The teacher's confidence is left out: no maps of a dense head.")
    else:
        maps['confidence of the teacher'] = over_image(seen, size, prior_offset(pair.teacher))
    images = pixels(step.inputs, pair)
    boxes, owners = ground_truth(step.data_samples)
    for i in range(min(count, len(images))):
        figure = Figure(figsize=(3.2 * (1 + len(maps)), 3.4), layout='constrained')
        axes = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
        titles = ['image and ground truth', *maps]
        for axis, title, heat in zip(axes, titles, [None, *maps.values()], strict=True):
            axis.imshow(images[i].numpy())
            axis.set(title=title, xticks=[], yticks=[])
            if heat is not None:
                shown = axis.imshow(heat[i].numpy(), cmap='magma', alpha=0.7, vmin=0, vmax=1)
                figure.colorbar(shown, ax=axis, shrink=0.8)
            for x1, y1, x2, y2 in boxes[owners == i].tolist():
                axis.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color='cyan'))
        path = folder / f'train_{i}.png'
        figure.savefig(path, dpi=110, metadata={'Software': None})
        section.rows.append([str(path), ', '.join(titles)])


def pixels(inputs: Tensor, model: nn.Module) -> Tensor:
    """The RGB images (B, H, W, 3), 0 to 1, of a normalised batch (B, 3, H, W)."""
    own: Mapping = preprocessing(model)
    if own['mean'] is not None:
        mean, std = (inputs.new_tensor(own[key]).view(-1, 1, 1) for key in ('mean', 'std'))
        inputs = inputs * std + mean
    if not own['bgr_to_rgb']:
        inputs = inputs.flip(1)  # mmcv reads BGR
    return (inputs / 255).clamp(0, 1).permute(0, 2, 3, 1).cpu()


def over_image(levels: Tensor | list[Tensor], size: torch.Size, offset: float) -> Tensor:
    """The highest value over levels (B, 1, H, W) at each pixel: (B, *size).

    Args:
        levels: maps whose cells cover the image.
        size: of the image.
        offset: where in its cell a prior has its centre: 0.5 in the middle, 0 at the upper left,
            around which the cell is then drawn.
    """
    grown = []
    for level in [levels] if isinstance(levels, Tensor) else levels:
        pixels = F.interpolate(upcast(level.detach()), size=tuple(size))
        shift = (0.5 - offset) * torch.tensor(size) / torch.tensor(level.shape[2:])
        down, right = shift.round().int().tolist()
        padded = F.pad(pixels, (0, right, 0, down), mode='replicate')
        grown.append(padded[:, 0, down:, right:])
    return torch.stack(grown).amax(0).cpu()


def prior_offset(model: Any) -> float:
    """Where in its cell a detector's first prior has its centre; in the middle if it has none."""
    generator = getattr(getattr(model, 'bbox_head', None), 'prior_generator', None)
    if generator is None:
        return 0.5
    first = level_priors(generator)[0]
    return float(first.centers[0, 0] / first.stride[0])


@torch.no_grad()
def teacher_confidence(pair: DetectionDistill, step: Step) -> list[Tensor] | None:
    """Per level (B, 1, H, W) the teacher's objectness, or its highest class probability.

    None where its plain forward gives no maps of classes, boxes (and objectness).
    """
    teacher: Any = pair.teacher
    head: Any = getattr(teacher, 'bbox_head', None)
    if getattr(head, 'prior_generator', None) is None:
        return None
    translation: Any = pair._teacher.translation
    inputs = translation(step.inputs, step.data_samples)
    kinds = head(teacher.extract_feat(inputs))
    if not isinstance(kinds, list | tuple) or len(kinds) not in (2, 3):
        return None
    if len(kinds) == 3 and all(m is not None for m in kinds[2]):
        return [m.sigmoid().amax(1, keepdim=True) for m in kinds[2]]
    channels = getattr(head, 'cls_out_channels', head.num_classes)
    maps = [m.unflatten(1, (-1, channels)) for m in kinds[0]]  # (B, A, C or C + 1, H, W)
    if getattr(head, 'use_sigmoid_cls', True):
        probabilities = [m.sigmoid() for m in maps]
    else:
        probabilities = [m.softmax(2)[:, :, :-1] for m in maps]  # without the background
    return [p.amax((1, 2)).unsqueeze(1) for p in probabilities]
