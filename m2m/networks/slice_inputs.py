"""What a network sees of a slice: its neighbours, where each pixel lies, what is usual there.

References
----------
Tancik et al. (2020), Fourier features, arXiv:2006.10739.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WAVES_MM = (200, 100, 50)


def wave_features(position: Tensor) -> Tensor:
    """Sines and cosines of MNI152 coordinates, waves of 200, 100 and 50 mm.

    Parameters
    ----------
    position : Tensor, shape (N, 3, H, W)
        mm.

    Returns
    -------
    Tensor, shape (N, 18, H, W)
    """
    angles = [2 * math.pi / wave_mm * position for wave_mm in WAVES_MM]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1)


class TemplateMap(nn.Module):
    """A map in template space, read at any place; it does not learn.

    Parameters
    ----------
    values : Tensor, shape (C, X, Y, Z)
    to_voxel : Tensor, shape (4, 4)
        MNI152 mm to the map's voxels.
    """

    def __init__(self, values: Tensor, to_voxel: Tensor):
        super().__init__()
        self.register_buffer("values", values)
        self.register_buffer("to_voxel", to_voxel)

    def forward(self, position: Tensor) -> Tensor:
        """Interpolate linearly at MNI152 mm (N, 3, H, W): (N, C, H, W), 0 beyond the map."""
        # grid_sample: the centre of voxel i lies at (2 i + 1) / length - 1; the last axis first.
        shape = torch.tensor(self.values.shape[1:], device=position.device)
        to_grid = 2 * self.to_voxel[:3] / shape[:, None]  # (3, 4)
        to_grid[:, 3] += 1 / shape - 1
        grid = torch.einsum("ij,njhw->nhwi", to_grid[:, :3].flip(0), position)
        grid = (grid + to_grid[:, 3].flip(0))[None]  # (1, N, H, W, 3)
        return F.grid_sample(self.values[None], grid, align_corners=False)[0].transpose(0, 1)


class SliceInputs(nn.Module):
    """Channels of a network's first layer.

    Parameters
    ----------
    context : int
        Slices of the source given as channels, the slice itself in the middle; odd.
    position : bool
        Whether `wave_features` of each pixel's place are added.
    prior : TemplateMap or None
        Whose values at each pixel's place are added: the training people's mean map.

    Raises
    ------
    ValueError
        Context is even.
    """

    def __init__(self, context: int, position: bool = False, prior: TemplateMap | None = None):
        super().__init__()
        if context % 2 == 0:
            raise ValueError(f"context must be odd, got {context}")
        self.position, self.prior = position, prior
        self.channels = context + (6 * len(WAVES_MM) if position else 0)
        self.channels += 0 if prior is None else len(prior.values)

    def forward(self, source: Tensor, position: Tensor) -> Tensor:
        """Put (N, context, H, W) and what MNI152 mm (N, 3, H, W) say together."""
        parts = [source]
        if self.position:
            parts.append(wave_features(position))  # (N, 18, H, W)
        if self.prior is not None:
            parts.append(self.prior(position))  # (N, C, H, W)
        return torch.cat(parts, dim=1)
