"""Label correction: estimate the misalignment of a target with its source, and warp the target.

A misalignment has two channels, along rows and along columns, in pixels: the anatomy at pixel x of
the target lies at x + misalignment(x) in the source. A displacement inverts it: the corrected
target at x is the target at x + displacement(x).

References
----------
Feng et al. (2024), fine-grained difference learning, IEEE TMI,
https://doi.org/10.1109/TMI.2024.3445969.
Jaderberg et al. (2015), spatial transformer, arXiv:1506.02025.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2m.structural.slices import PLANES, in_plane

AXES = ("x", "y", "z")
LEAK = 0.2
START_SD = 1e-5
INVERSE_STEPS = 5


class ResidualBlock(nn.Module):
    """Residual block: normalisation over slice and channels, then two convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(1, channels)
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Transform (N, C, H, W)."""
        return x + self.second(F.leaky_relu(self.first(self.norm(x)), LEAK))  # (N, C, H, W)


class LabelCorrection(nn.Module):
    """Residual U-Net that estimates the misalignment of a target; near zero at the start.

    Parameters
    ----------
    channels : int
        Of the target.
    widths : sequence of int
        Channels of each level, fine to coarse; three blocks with twice the channels follow the
        coarsest level.
    along : sequence of {"x", "y", "z"}
        Axes of the volume, RAS+, along which targets may be misaligned.
    context : int
        Number of neighbouring slices of target and source, odd.
    """

    free: Tensor  # (planes, 2): whether rows and columns may be misaligned

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        along: Sequence[str] = AXES,
        context: int = 1,
    ):
        super().__init__()
        self.context = context
        vector = np.array([axis in along for axis in AXES], dtype=np.float32)
        free = torch.tensor(np.array([in_plane(vector, plane) for plane in PLANES])).abs()
        self.register_buffer("free", free, persistent=False)  # (planes, 2): rows, columns
        self.multiple = 2 ** len(widths)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.LeakyReLU(LEAK), ResidualBlock(b))
            for a, b in pairwise((context * (channels + 1), *widths))
        )
        deepest = 2 * widths[-1]
        self.bottom = nn.Sequential(
            nn.Conv2d(widths[-1], deepest, 1),
            *(ResidualBlock(deepest) for _ in range(3)),
            nn.Conv2d(deepest, widths[-1], 1),
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(coarse + skip, skip, 3, padding=1), nn.LeakyReLU(LEAK))
            for coarse, skip in zip((widths[-1], *widths[:0:-1]), widths[::-1], strict=True)
        )
        self.refine = ResidualBlock(widths[0])
        self.head = nn.Conv2d(widths[0], 2, 3, padding=1)
        nn.init.normal_(self.head.weight, std=START_SD)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, target_and_source: Tensor, plane: Tensor) -> Tensor:
        """Estimate the misalignment of targets with their sources.

        Parameters
        ----------
        target_and_source : Tensor, shape (N, context, channels + 1, H, W)
            Target inside its mask, then source; the slice itself in the middle of the context.
        plane : Tensor of int, shape (N,)
            Orientations: indices of `m2m.structural.slices.PLANES`.

        Returns
        -------
        Tensor, shape (N, 2, H, W)
            Misalignment in pixels.
        """
        height, width = target_and_source.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        x, skips = F.pad(target_and_source.flatten(1, 2), pad), []
        for down in self.down:
            x = down(x)  # (N, widths[i], H / 2^i, W / 2^i)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear")
            x = up(torch.cat([x, skips.pop()], 1))
        misalignment = self.head(self.refine(x))[..., :height, :width].float()  # (N, 2, H, W)
        return misalignment * self.free[plane][:, :, None, None]


def warp(image: Tensor, displacement: Tensor) -> Tensor:
    """Sample an image (N, C, H, W) bilinearly at each pixel plus its displacement (N, 2, H, W).

    Beyond the border, the value at the border is used.
    """
    sides = image.shape[-2:]
    axes = (torch.arange(n, device=image.device, dtype=torch.float32) for n in sides)
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij")) + displacement.float()
    # grid_sample: the centre of pixel i lies at (2 i + 1) / length - 1; columns come first.
    length = torch.tensor(sides, device=image.device).view(2, 1, 1)
    grid = ((2 * coordinates + 1) / length - 1).flip(1).movedim(1, -1)  # (N, H, W, 2)
    warped = F.grid_sample(image.float(), grid, padding_mode="border", align_corners=False)
    return warped.to(image.dtype)  # (N, C, H, W)


def inverse(misalignment: Tensor) -> Tensor:
    """Displacement (N, 2, H, W) that inverts a smooth misalignment of the same shape.

    u(x) = -m(x + u(x)), by fixed-point iteration, which converges where slopes are below 1.
    """
    displacement = -misalignment
    for _ in range(INVERSE_STEPS):
        displacement = -warp(misalignment, displacement)
    return displacement


def area_change(displacement: Tensor) -> Tensor:
    """Area (N, H - 1, W - 1) of a pixel after a displacement (N, 2, H, W); negative: folding."""
    down, right = displacement.diff(dim=2)[..., :-1], displacement.diff(dim=3)[:, :, :-1]
    return (1 + down[:, 0]) * (1 + right[:, 1]) - right[:, 0] * down[:, 1]
