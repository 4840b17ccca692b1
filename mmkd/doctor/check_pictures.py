"""Pictures of a training batch: ground truth, imitation mask, and what the teacher sees."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.datasets.data_samples import ground_truth
from mmkd.doctor.models import preprocessing
from mmkd.doctor.report import Section
from mmkd.doctor.step import Step
from mmkd.heads import Predictions
from mmkd.visualization.overlays import mask_offset, over_image, teacher_view
from mmkd.visualization.row_heat import row_heat


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
        f'mask of {name}': _mask(pair, name, arguments['mask'], size).cpu()
        for name, arguments in step.arguments.items()
        if 'mask' in arguments
    }
    seen = teacher_view(pair, step.inputs, step.data_samples)
    if seen is None:
        section.notes.append("The teacher's confidence is left out: no head that is read.")
    else:
        maps['confidence of the teacher'] = seen.cpu()
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


def _mask(pair: DetectionDistill, loss: str, mask: Any, size: Any) -> Tensor:
    """The argument ``mask`` of a loss, maps or predictions, over the image (B, H, W)."""
    if isinstance(mask, Predictions):
        return row_heat(mask, size)
    connector = pair.distiller.loss_forward_mappings[loss]['mask'].get('connector')
    connectors = getattr(pair.distiller, 'connectors', {})
    return over_image(mask, size, mask_offset(connectors[connector] if connector else None))


def pixels(inputs: Tensor, model: nn.Module) -> Tensor:
    """The RGB images (B, H, W, 3), 0 to 1, of a normalised batch (B, 3, H, W)."""
    own: Mapping[str, Any] = preprocessing(model)
    if own['mean'] is not None:
        mean, std = (inputs.new_tensor(own[key]).view(-1, 1, 1) for key in ('mean', 'std'))
        inputs = inputs * std + mean
    if not own['bgr_to_rgb']:
        inputs = inputs.flip(1)  # mmcv reads BGR
    if inputs.shape[1] != 3:
        inputs = inputs[:, :1].expand(-1, 3, -1, -1)  # grey
    return (inputs / 255).clamp(0, 1).permute(0, 2, 3, 1).cpu()
