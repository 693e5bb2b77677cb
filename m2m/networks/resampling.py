"""Feature maps at half and at twice their resolution, without interpolation."""

import torch.nn.functional as F
from torch import Tensor


def halve(x: Tensor) -> Tensor:
    """Average over 2 x 2 pixels: (N, C, H, W) to (N, C, H / 2, W / 2)."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Repeat each pixel 2 x 2 times: (N, C, H, W) to (N, C, 2 H, 2 W)."""
    return F.interpolate(x, scale_factor=2, mode="nearest")
