"""Fibre directions as values that can be averaged: FA times the products of the elements of V1.

A vector and its opposite are the same direction, but would cancel; the products are equal.
"""

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion import tensors

# Channels of a field with directions, after the density.
DIRECTIONS = tuple(f"direction-{i}" for i in ("xx", "xy", "xz", "yy", "yz", "zz"))
# Mean diffusivity of tensors that encode direction and FA only, mm2/s.
MD_MM2_PER_S = 0.7e-3


def directions(six: NDArray) -> NDArray[np.float32]:
    """Compute FA times the dyadic product of the first eigenvector.

    Parameters
    ----------
    six : ndarray, shape (..., 6)
        Tensors.

    Returns
    -------
    ndarray, shape (..., 6)
        Elements in the order of a tensor's, -1 to 1.
    """
    measures = tensors.measures(six)
    return measures.fa[..., None] * measures.v1[..., tensors.ROWS] * measures.v1[..., tensors.COLUMNS]


def as_tensors(six: NDArray) -> NDArray[np.float64]:
    """Build axially symmetric tensors from directions: the inverse of `directions`.

    V1 is the first eigenvector and FA the first eigenvalue. For the mean of crossing directions,
    FA is smaller than that of each.

    Parameters
    ----------
    six : ndarray, shape (..., 6)
        Of `directions`.

    Returns
    -------
    ndarray, shape (..., 6)
        mm2/s, all of the same mean diffusivity; 0 where the directions are 0.
    """
    evals, evecs = np.linalg.eigh(tensors.to_matrix(np.asarray(six, np.float64)))
    fa, v1 = evals[..., 2].clip(0, 1), evecs[..., 2]
    # Eigenvalues 1 + 2x, 1 - x, 1 - x times the mean have FA^2 = 3 x^2 / (1 + 2 x^2).
    x = (fa / np.sqrt(3 - 2 * fa**2))[..., None]
    outer = v1[..., tensors.ROWS] * v1[..., tensors.COLUMNS]
    scaled = (1 - x) * np.equal(tensors.ROWS, tensors.COLUMNS) + 3 * x * outer
    return np.where(np.any(six != 0, axis=-1, keepdims=True), MD_MM2_PER_S * scaled, 0)
