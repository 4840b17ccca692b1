"""Features without their scale."""

from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor

from mmkd.geometry.multi_level_maps import Levels, as_levels, upcast


@MODELS.register_module()
class StandardLevels(BaseConnector):
    """Each channel with mean 0 and variance 1 over the images and cells of a level.

    It is what a BatchNorm without weights does in training, of student and teacher alike, without
    channels to be told and without a state: RTMDet's and DAMO-YOLO's recipe for CWD.

    Args:
        eps (float): added to the variance. Defaults to 1e-5.

    Example:
        >>> import torch
        >>> StandardLevels()(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)).flatten()
        tensor([-1.0000,  1.0000])
    """

    def __init__(self, eps: float = 1e-5, init_cfg: dict[str, str] | None = None) -> None:
        super().__init__(init_cfg)
        self.eps = eps

    def forward_train(self, feature: Levels) -> Tensor | list[Tensor]:
        """A map or levels (B, C, H, W) -> the same structure, float32."""
        levels = [self._standard(upcast(level)) for level in as_levels(feature, 'features')]
        return levels[0] if isinstance(feature, Tensor) else levels

    def _standard(self, level: Tensor) -> Tensor:
        axes = (0, 2, 3)
        centred = level - level.mean(axes, keepdim=True)
        variance = centred.square().mean(axes, keepdim=True)
        return centred * (variance + self.eps).rsqrt()
