"""Pure geometry of grids and boxes (torch only)."""

from mmkd.geometry.anchor_grid import AnchorGrid, grid_masks, imitation_masks

__all__ = ['AnchorGrid', 'grid_masks', 'imitation_masks']
