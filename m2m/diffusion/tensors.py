"""Diffusion tensors as six numbers: logarithm and exponential, rotation, FA, MD, V1.

Six elements stand for a tensor, in the order of BIDS: Dxx, Dxy, Dxz, Dyy, Dyz, Dzz, in mm2/s and
world axes (RAS+).

References
----------
Basser and Pierpaoli (1996), J Magn Reson B 111:209, https://doi.org/10.1006/jmrb.1996.0086 (FA);
Arsigny et al. (2006), MRM 56:411, https://doi.org/10.1002/mrm.20965 (log-Euclidean metric).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROWS, COLUMNS = (0, 0, 0, 1, 1, 2), (0, 1, 2, 1, 2, 2)
DIAGONAL = (0, 3, 5)
_PLACES = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
# Below any tissue's, and above free water's at any temperature: smaller and larger eigenvalues,
# which noise makes, are taken for these.
LEAST_MM2_PER_S, MOST_MM2_PER_S = 5e-5, 5e-3


class Measures(NamedTuple):
    """Scalar and vector maps of a tensor field.

    Attributes
    ----------
    fa : ndarray, shape (...)
        0 to 1; 0 where the tensor is 0.
    md : ndarray, shape (...)
        Mean diffusivity, mm2/s.
    v1 : ndarray, shape (..., 3)
        Unit eigenvector of the largest eigenvalue, its sign without meaning; 0 where the tensor
        is 0.
    """

    fa: NDArray
    md: NDArray
    v1: NDArray


def to_matrix(six: NDArray) -> NDArray:
    """Symmetric matrices, shape (..., 3, 3), of six elements, shape (..., 6)."""
    return six[..., _PLACES]


def from_matrix(matrix: NDArray) -> NDArray:
    """Six elements, shape (..., 6), of symmetric matrices, shape (..., 3, 3)."""
    return matrix[..., ROWS, COLUMNS]


def logarithm(six: NDArray) -> NDArray:
    """Matrix logarithm of tensors in mm2/s, shape (..., 6).

    Eigenvalues below `LEAST_MM2_PER_S` or above `MOST_MM2_PER_S` are taken for these.
    """
    evals, evecs = np.linalg.eigh(to_matrix(np.asarray(six, np.float64)))
    return _compose(np.log(_in_range(evals)), evecs)


def exponential(six: NDArray) -> NDArray:
    """Inverse of `logarithm`, shape (..., 6): positive definite whatever goes in."""
    evals, evecs = np.linalg.eigh(to_matrix(np.asarray(six, np.float64)))
    return _compose(_in_range(np.exp(evals)), evecs)


def _in_range(evals: NDArray) -> NDArray:
    return evals.clip(LEAST_MM2_PER_S, MOST_MM2_PER_S)


def _compose(evals: NDArray, evecs: NDArray) -> NDArray:
    """Six elements of the symmetric matrices with these eigenvalues and eigenvectors."""
    return from_matrix(np.einsum("...ik,...k,...jk->...ij", evecs, evals, evecs, optimize=True))


def rotate(six: NDArray, rotation: NDArray) -> NDArray:
    """Turn tensors, shape (..., 6), or their logarithms, by a rotation, shape (3, 3): R D R'."""
    return from_matrix(rotation @ to_matrix(six) @ rotation.T)


def nearest_rotation(linear: NDArray) -> NDArray[np.float64]:
    """Rotation nearest to the linear part, shape (3, 3), of a transform without reflection."""
    u, _, v = np.linalg.svd(linear)
    return u @ v


def measures(six: NDArray) -> Measures:
    """FA, MD and V1 of tensors, shape (..., 6)."""
    six = np.asarray(six, np.float64)
    evals, evecs = np.linalg.eigh(to_matrix(six))
    md = evals.mean(axis=-1)
    size = (evals**2).sum(axis=-1)
    spread = ((evals - md[..., None]) ** 2).sum(axis=-1)
    there = size > 0
    fa = np.sqrt(1.5 * np.divide(spread, size, out=np.zeros_like(size), where=there)).clip(0, 1)
    return Measures(fa, md, np.where(there[..., None], evecs[..., 2], 0))
