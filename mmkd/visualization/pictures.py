"""The images of the report: ground truth, what the students find, what the teacher shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Boxes = list[tuple[tuple[float, ...], str]]


@dataclass(frozen=True)
class Picture:
    """One image and what is drawn over it.

    Args:
        pixels (np.ndarray): (H, W, 3), RGB, uint8.
        boxes (dict): By title of the column ((x1, y1, x2, y2) in pixels, text).
        heat (dict): By title of the column a map (h, w) of values from 0 to 1, which is
            stretched over the image; the colours are explained by a bar below.
    """

    pixels: NDArray[Any]
    boxes: Mapping[str, Boxes]
    heat: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def ground_truth_boxes(instances: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> Boxes:
    """Of the ``instances`` that a data set of mmdet gives for an image; ignored ones left out."""
    return [
        (tuple(map(float, item['bbox'])), classes[item['bbox_label']])
        for item in instances
        if not item.get('ignore_flag')
    ]


def detected_boxes(
    instances: Mapping[str, Any], classes: Sequence[str], threshold: float = 0.3
) -> Boxes:
    """Of the ``pred_instances`` that ``mmkd test --out`` wrote: those that score enough.

    The surest come last, which are drawn over the others.
    """
    boxes, scores, labels = (np.asarray(instances[key]) for key in ('bboxes', 'scores', 'labels'))
    return [
        (tuple(map(float, boxes[i])), f'{classes[labels[i]]} {scores[i]:.2f}')
        for i in np.argsort(scores, kind='stable')
        if scores[i] >= threshold
    ]


def draw_pictures(path: Path, pictures: Sequence[Picture]) -> None:
    """Draw a row per image into a PNG: first the columns with boxes, then those with heat."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    titles = list(dict.fromkeys(title for p in pictures for title in (*p.boxes, *p.heat)))
    ratios = [picture.pixels.shape[0] / picture.pixels.shape[1] for picture in pictures]
    figure, axes = plt.subplots(
        len(pictures),
        len(titles),
        figsize=(2.6 * len(titles), 2.6 * sum(ratios) + 0.3),
        height_ratios=ratios,
        squeeze=False,
        layout='constrained',
    )
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    for row, picture in zip(axes, pictures, strict=True):
        for axis, title in zip(row, titles, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            if title in picture.heat:
                _draw_heat(axis, picture.pixels, picture.heat[title])
            else:
                axis.imshow(picture.pixels)
            _draw_boxes(axis, picture.boxes.get(title, []))
    for column, title in enumerate(titles):
        if any(title in picture.heat for picture in pictures):
            scale = ScalarMappable(Normalize(0, 1), 'autumn')
            bar = figure.colorbar(
                scale, ax=axes[:, column], location='bottom', aspect=30, pad=0.01, ticks=(0, 0.5, 1)
            )
            bar.ax.tick_params(labelsize=7)
    figure.savefig(path, dpi=110, metadata={'Software': None})
    plt.close(figure)


def _draw_heat(axis: Any, pixels: NDArray[Any], heat: NDArray[Any]) -> None:
    height, width = pixels.shape[:2]
    axis.imshow(pixels.mean(-1), cmap='gray', vmin=0, vmax=255)
    alpha = 0.65 * np.clip(heat, 0, 1)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(heat, cmap='autumn', vmin=0, vmax=1, alpha=alpha, extent=extent)


#: Of a label, as shares of the width of a picture: how wide a letter is, and how high a line.
_LETTER, _LINE = 0.025, 0.05


def _draw_boxes(axis: Any, boxes: Boxes) -> None:
    from matplotlib.patches import Rectangle

    for (x1, y1, x2, y2), text in boxes:
        for color, width in (('white', 2.5), ('crimson', 1.2)):
            outline = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, color=color, lw=width)
            axis.add_patch(outline)
        label = dict(facecolor='white', alpha=0.8, pad=0.8, linewidth=0)
        # Within the picture, whatever its size; names are no formulas, whatever stands in them.
        room = axis.get_xlim()[1]
        place = max(min(x1, room * (1 - _LETTER * len(text))), 0), max(y1 - 2, _LINE * room)
        axis.text(*place, text, fontsize=7, bbox=label, clip_on=True, parse_math=False)
