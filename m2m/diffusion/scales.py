"""Scaling of a map's values for the networks, to about 1, and its inverse, by the map's nature.

T1 has no unit; each volume is scaled by its own range (`m2m.structural.slices.normalise`). The other
maps are scaled by a fixed function with an exact inverse, the same for all participants.

Files hold tensors along world axes. Slices are cut along the axes of the common grid, which are
those of the T1: a head scanned on a rotated grid has the same slices, but other tensors. Networks
therefore receive and predict tensors along the axes of the grid. Where the columns of G are the
directions of these axes, a tensor D in world axes becomes G'DG.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion import tensors

# Tract density that is scaled to 1; higher values are rare.
TOP_DENSITY = 100.0
# Logarithm of a typical diffusivity of brain tissue, mm2/s.
MIDDLE_LOG = float(np.log(0.7e-3))
_MIDDLE = np.where(np.equal(tensors.ROWS, tensors.COLUMNS), MIDDLE_LOG, 0.0)


def log_density(density: NDArray, one: float = TOP_DENSITY) -> NDArray[np.float32]:
    """Scale a tract density, 0 and above: log(1 + density) / log(1 + `one`)."""
    return (np.log1p(density) / np.log1p(one)).astype(np.float32)


def density_of_log(scaled: NDArray, one: float = TOP_DENSITY) -> NDArray[np.float32]:
    """Inverse of `log_density`."""
    return np.expm1(np.asarray(scaled, np.float64) * np.log1p(one)).astype(np.float32)


def log_tensor(six: NDArray, one: float = 1.0) -> NDArray[np.float32]:
    """Scale tensors in mm2/s, shape (..., 6): log D - log 0.7e-3 I; 0 stays 0."""
    nonzero = np.any(six != 0, axis=-1)
    scaled = np.zeros(six.shape, np.float32)
    scaled[nonzero] = tensors.logarithm(six[nonzero]) - _MIDDLE
    return scaled


def tensor_of_log(scaled: NDArray, one: float = 1.0) -> NDArray[np.float32]:
    """Inverse of `log_tensor`: positive definite in every voxel."""
    return tensors.exponential(np.asarray(scaled, np.float64) + _MIDDLE).astype(np.float32)


def in_parts(values: NDArray, one: float = 1.0) -> NDArray:
    """Divide a map by `one`; a map whose `one` is 1 is returned unchanged."""
    return values if one == 1 else (np.asarray(values, np.float64) / one).astype(np.float32)


def of_parts(scaled: NDArray, one: float = 1.0) -> NDArray:
    """Inverse of `in_parts`."""
    return scaled if one == 1 else (np.asarray(scaled, np.float64) * one).astype(np.float32)


def to_grid_axes(scaled: NDArray, affine: NDArray) -> NDArray[np.float32]:
    """Scaled tensors, shape (..., 6), along the axes of a grid, from those along world axes."""
    return tensors.rotate(scaled, tensors.voxel_axes(affine).T).astype(np.float32)


def to_world_axes(scaled: NDArray, affine: NDArray) -> NDArray[np.float32]:
    """Inverse of `to_grid_axes`."""
    return tensors.rotate(scaled, tensors.voxel_axes(affine)).astype(np.float32)


def deviations_to_world_axes(sds: NDArray, affine: NDArray) -> NDArray[np.float32]:
    """Standard deviations of scaled elements, shape (..., 6), along world axes, from those along a grid's."""
    return tensors.rotate_deviations(sds, tensors.voxel_axes(affine)).astype(np.float32)


def without_axes(values: NDArray, affine: NDArray) -> NDArray:
    """Values that do not depend on axes, unchanged."""
    return values


class Scale(NamedTuple):
    """Functions that scale a map's values, and their inverse; `one` is the value that becomes 1.

    Three more rotate scaled values to the axes of a grid and back, and their standard deviations
    back; they take the affine of the grid.
    """

    forward: Callable[[NDArray, float], NDArray]
    back: Callable[[NDArray, float], NDArray]
    to_grid: Callable[[NDArray, NDArray], NDArray] = without_axes
    to_world: Callable[[NDArray, NDArray], NDArray] = without_axes
    deviations_to_world: Callable[[NDArray, NDArray], NDArray] = without_axes


SCALES = {
    "weighted": Scale(in_parts, of_parts),
    "scalar": Scale(in_parts, of_parts),
    "density": Scale(log_density, density_of_log),
    "tensor": Scale(log_tensor, tensor_of_log, to_grid_axes, to_world_axes, deviations_to_world_axes),
}
