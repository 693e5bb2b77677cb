"""Inputs of a network: neighbouring slices, the position of each pixel, and a prior map.

A prior of tensors is rotated from the axes of the template to those of the participant's grid, along
which the network predicts.

References
----------
Tancik et al. (2020), Fourier features, arXiv:2006.10739.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2m.diffusion.tensors import COLUMNS, PLACES, ROWS

WAVES_MM = (200, 100, 50)
# Steps of Newton's iteration for the nearest rotation: columns whose cosine is .1 become perpendicular
# in single precision.
NEWTON_STEPS = 4


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
    """A map in template space that can be sampled at any position; it is not trained.

    Parameters
    ----------
    values : Tensor, shape (C, X, Y, Z)
    to_voxel : Tensor, shape (4, 4)
        From MNI152 mm to voxels of the map.
    directed : bool
        Whether the channels are the elements of tensors along the axes of the template.
    """

    values: Tensor
    to_voxel: Tensor

    def __init__(self, values: Tensor, to_voxel: Tensor, directed: bool = False):
        super().__init__()
        self.directed = directed
        self.register_buffer("values", values)
        self.register_buffer("to_voxel", to_voxel)

    def forward(self, position: Tensor) -> Tensor:
        """Interpolate linearly at MNI152 mm (N, 3, H, W); gives (N, C, H, W), 0 outside the map."""
        # grid_sample: the centre of voxel i lies at (2 i + 1) / length - 1; the last axis first.
        shape = torch.tensor(self.values.shape[1:], device=position.device)
        to_grid = 2 * self.to_voxel[:3] / shape[:, None]  # (3, 4)
        to_grid[:, 3] += 1 / shape - 1
        grid = torch.einsum("ij,njhw->nhwi", to_grid[:, :3].flip(0), position)
        grid = (grid + to_grid[:, 3].flip(0))[None]  # (1, N, H, W, 3)
        return F.grid_sample(self.values[None], grid, align_corners=False)[0].transpose(0, 1)


def grid_axes(position: Tensor, plane: Tensor) -> Tensor:
    """Directions of the axes of the grid that slices are cut from, along the axes of the template.

    They follow from the coordinates of the pixels, so a network needs no further input. A slice does
    not show the step to the next one: the third axis is perpendicular to its two.

    Parameters
    ----------
    position : Tensor, shape (N, 3, H, W)
        MNI152 mm, an affine function of row and column; H and W of 2 at least.
    plane : Tensor of int, shape (N,)
        Index of the orientation, in the order axial, coronal, sagittal.

    Returns
    -------
    Tensor, shape (N, 3, 3)
        Rotations; each column is an axis of the grid.
    """
    right, up = (position[..., 0, -1] - position[..., 0, 0], position[..., 0, 0] - position[..., -1, 0])
    right, up = F.normalize(right, dim=1), F.normalize(up, dim=1)  # (N, 3)
    normal = F.normalize(torch.linalg.cross(right, up), dim=1)
    # Right and up are the grid's axes x and y in axial slices, x and z in coronal, y and z in sagittal ones.
    planes = ((right, up, normal), (right, -normal, up), (normal, right, up))
    columns = torch.stack([torch.stack(axes, dim=-1) for axes in planes])  # (planes, N, 3, 3)
    chosen = plane == torch.arange(len(planes), device=plane.device)[:, None]  # (planes, N)
    axes = (columns * chosen[..., None, None]).sum(0)
    with torch.autocast(position.device.type, enabled=False):  # half precision would be off by a degree
        for _ in range(NEWTON_STEPS):
            axes = 1.5 * axes - 0.5 * axes @ axes.transpose(1, 2) @ axes
    return axes


def along_grid(elements: Tensor, axes: Tensor) -> Tensor:
    """Rotate tensors from the axes of the template to those of a grid, G'DG.

    Parameters
    ----------
    elements : Tensor, shape (N, 6, H, W)
        In the order of `m2m.diffusion.tensors`.
    axes : Tensor, shape (N, 3, 3, H, W) or (N, 3, 3, 1, 1)
        Rotations, of each pixel or of a slice; each column is an axis of the grid.

    Returns
    -------
    Tensor, shape (N, 6, H, W)
    """
    full = elements[:, PLACES]  # (N, 3, 3, H, W)
    half = (full[:, :, :, None] * axes[:, None]).sum(2)  # (N, 3, 3, H, W)
    rotated = (axes[:, :, :, None] * half[:, :, None]).sum(1)  # (N, 3, 3, H, W)
    return rotated[:, ROWS, COLUMNS]


class SliceInputs(nn.Module):
    """Input channels of a network.

    Parameters
    ----------
    context : int
        Number of source slices, odd; the slice itself is in the middle.
    position : bool
        Whether `wave_features` of the position of each pixel are added.
    prior : TemplateMap or None
        Mean map of the training participants; its values at each pixel are added, tensors along
        the axes of the grid.

    Raises
    ------
    ValueError
        `context` is even.
    """

    def __init__(self, context: int, position: bool = False, prior: TemplateMap | None = None):
        super().__init__()
        if context % 2 == 0:
            raise ValueError(f"context must be odd, got {context}")
        self.position, self.prior = position, prior
        self.channels = context + (6 * len(WAVES_MM) if position else 0)
        self.channels += 0 if prior is None else len(prior.values)

    def forward(self, source: Tensor, plane: Tensor, position: Tensor) -> Tensor:
        """Concatenate slices and the features of their positions.

        Parameters
        ----------
        source : Tensor, shape (N, context, H, W)
        plane : Tensor of int64, shape (N,)
            Orientations.
        position : Tensor, shape (N, 3, H, W) or (N, 12, H, W)
            MNI152 mm; of a deformation and for tensors with the axes of the grid, as
            `m2m.structural.displacement.template_places` gives them.

        Returns
        -------
        Tensor, shape (N, channels, H, W)
        """
        parts, place, axes = [source], position[:, :3], position[:, 3:]
        if self.position:
            parts.append(wave_features(place))  # (N, 18, H, W)
        if self.prior is not None:
            prior = self.prior(place)  # (N, C, H, W)
            if self.prior.directed and axes.shape[1]:
                prior = along_grid(prior, axes.unflatten(1, (3, 3)))
            elif self.prior.directed:
                prior = along_grid(prior, grid_axes(place, plane)[..., None, None])
            parts.append(prior)
        return torch.cat(parts, dim=1)
