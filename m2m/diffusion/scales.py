"""How values of a file become a network's, of about the size of 1, and come back: by nature.

T1 has no unit, so its scale is each volume's own (`m2m.structural.slices.normalise`); every other
is a fixed function and its exact inverse, the same for everybody.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion import tensors

# Streamlines per voxel, for each one seeded per such volume: above is rare, and scaled above 1.
TOP_DENSITY = 100.0
# Middle of the logarithm of brain tissue's diffusivities.
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
    there = np.any(six != 0, axis=-1)
    scaled = np.zeros(six.shape, np.float32)
    scaled[there] = tensors.logarithm(six[there]) - _MIDDLE
    return scaled


def tensor_of_log(scaled: NDArray, one: float = 1.0) -> NDArray[np.float32]:
    """Inverse of `log_tensor`: positive definite in every voxel."""
    return tensors.exponential(np.asarray(scaled, np.float64) + _MIDDLE).astype(np.float32)


def in_parts(values: NDArray, one: float = 1.0) -> NDArray:
    """Scale a map with a unit: in parts of `one`; a map that has none stays what it is."""
    return values if one == 1 else (np.asarray(values, np.float64) / one).astype(np.float32)


def of_parts(scaled: NDArray, one: float = 1.0) -> NDArray:
    """Inverse of `in_parts`."""
    return scaled if one == 1 else (np.asarray(scaled, np.float64) * one).astype(np.float32)


class Scale(NamedTuple):
    """Values of a file to scaled ones, and back; `one` is the value that becomes 1."""

    forward: Callable[[NDArray, float], NDArray]
    back: Callable[[NDArray, float], NDArray]


SCALES = {
    "weighted": Scale(in_parts, of_parts),
    "scalar": Scale(in_parts, of_parts),
    "density": Scale(log_density, density_of_log),
    "tensor": Scale(log_tensor, tensor_of_log),
}
