"""Pictures of what detectors find."""

import numpy as np
import pytest

import tests.tiny  # noqa: F401  (imports mmkd first)
from mmkd.visualization.pictures import Picture, draw_pictures

pytest.importorskip('matplotlib')


@pytest.mark.parametrize('side', [64, 1000])
def test_labels_lie_within_their_picture(side, tmp_path, monkeypatch):
    """Of boxes in its corners, too, however many pixels it has."""
    from matplotlib import pyplot as plt

    kept = []
    monkeypatch.setattr(plt, 'close', kept.append)
    low, high = 0.05 * side, 0.95 * side
    corners = [
        (0, 0, low, low),
        (high, 0, side, low),
        (0, high, low, side),
        (high,) * 2 + (side,) * 2,
    ]
    boxes = [(box, 'platelet 0.87') for box in corners]
    picture = Picture(
        np.full((side, side, 3), 90, np.uint8), dict(Student=boxes, Teacher=boxes), {}
    )
    draw_pictures(tmp_path / 'report.png', [picture])
    monkeypatch.undo()
    [figure] = kept
    for axis in figure.axes:
        room = axis.get_window_extent()
        assert len(axis.texts) == 4
        for label in axis.texts:
            found = label.get_window_extent()
            assert room.x0 - 3 <= found.x0 and found.x1 <= room.x1 + 3
            assert room.y0 - 3 <= found.y0 and found.y1 <= room.y1 + 3
    plt.close(figure)
