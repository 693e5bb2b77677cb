"""Where fibres run, in numbers that can be averaged: FA times the products of V1's elements.

A vector and its opposite mean the same fibre and would cancel; their products are equal.
"""

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion import tensors

# Channels of a field that knows directions, after its density.
DIRECTIONS = tuple(f"direction-{i}" for i in ("xx", "xy", "xz", "yy", "yz", "zz"))
# Mean diffusivity of tensors that stand for a direction and an FA alone, mm2/s.
MD_MM2_PER_S = 0.7e-3


def directions(six: NDArray) -> NDArray[np.float32]:
    """Directions of tensors.

    Parameters
    ----------
    six : ndarray, shape (..., 6)
        Tensors.

    Returns
    -------
    ndarray, shape (..., 6)
        Elements as of a tensor, -1 to 1.
    """
    found = tensors.measures(six)
    return found.fa[..., None] * found.v1[..., tensors.ROWS] * found.v1[..., tensors.COLUMNS]


def as_tensors(found: NDArray) -> NDArray[np.float64]:
    """Tensors with these directions: the inverse of `directions`, of axially symmetric tensors.

    V1 is the first eigenvector, FA the first eigenvalue: that of one tensor's directions is its
    FA, and the mean of directions that cross has a smaller one.

    Parameters
    ----------
    found : ndarray, shape (..., 6)

    Returns
    -------
    ndarray, shape (..., 6)
        mm2/s, of one mean diffusivity; 0 where the directions are 0.
    """
    evals, evecs = np.linalg.eigh(tensors.to_matrix(np.asarray(found, np.float64)))
    fa, v1 = evals[..., 2].clip(0, 1), evecs[..., 2]
    # Eigenvalues 1 + 2x, 1 - x, 1 - x times the mean have FA^2 = 3 x^2 / (1 + 2 x^2).
    x = (fa / np.sqrt(3 - 2 * fa**2))[..., None]
    outer = v1[..., tensors.ROWS] * v1[..., tensors.COLUMNS]
    six = (1 - x) * np.equal(tensors.ROWS, tensors.COLUMNS) + 3 * x * outer
    return np.where(np.any(found != 0, axis=-1, keepdims=True), MD_MM2_PER_S * six, 0)
