"""Diffusion tensors as six numbers: logarithm and exponential, rotation, FA, MD, V1.

A tensor is stored as six elements in the order of BIDS: Dxx, Dxy, Dxz, Dyy, Dyz, Dzz, in mm2/s. Those
of files are along world axes (RAS+), those of networks along the axes of the common grid
(`m2m.diffusion.scales`).

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
PLACES = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
# Limits of eigenvalues: below those of any tissue, and above those of free water at any temperature.
# Values beyond them come from noise and are set to the limits.
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
        Unit eigenvector of the largest eigenvalue, of arbitrary sign; 0 where the tensor is 0.
    """

    fa: NDArray
    md: NDArray
    v1: NDArray


def to_matrix(six: NDArray) -> NDArray:
    """Symmetric matrices, shape (..., 3, 3), of six elements, shape (..., 6)."""
    return six[..., PLACES]


def from_matrix(matrix: NDArray) -> NDArray:
    """Six elements, shape (..., 6), of symmetric matrices, shape (..., 3, 3)."""
    return matrix[..., ROWS, COLUMNS]


def logarithm(six: NDArray) -> NDArray:
    """Matrix logarithm of tensors in mm2/s, shape (..., 6).

    Eigenvalues are limited to `LEAST_MM2_PER_S` and `MOST_MM2_PER_S`.
    """
    evals, evecs = np.linalg.eigh(to_matrix(np.asarray(six, np.float64)))
    return _compose(np.log(_in_range(evals)), evecs)


def exponential(six: NDArray) -> NDArray:
    """Inverse of `logarithm`, shape (..., 6): positive definite for any input."""
    evals, evecs = np.linalg.eigh(to_matrix(np.asarray(six, np.float64)))
    return _compose(_in_range(np.exp(evals)), evecs)


def _in_range(evals: NDArray) -> NDArray:
    """Limit eigenvalues in mm2/s to those of tissue and water."""
    return evals.clip(LEAST_MM2_PER_S, MOST_MM2_PER_S)


def _compose(evals: NDArray, evecs: NDArray) -> NDArray:
    """Six elements of the symmetric matrices with these eigenvalues and eigenvectors."""
    return from_matrix(np.einsum("...ik,...k,...jk->...ij", evecs, evals, evecs, optimize=True))


def isotropic_and_rest(six: NDArray) -> tuple[NDArray, NDArray]:
    """Split tensors, shape (..., 6): a third of their trace, shape (...), and the rest, without a trace."""
    mean = six[..., DIAGONAL].mean(axis=-1)
    return mean, of_parts(-mean, six)


def of_parts(mean: NDArray, rest: NDArray) -> NDArray:
    """Inverse of `isotropic_and_rest`."""
    six = np.array(rest)
    six[..., DIAGONAL] += mean[..., None]
    return six


def rotate(six: NDArray, rotation: NDArray) -> NDArray:
    """Rotate tensors, shape (..., 6), or their logarithms, by matrices, shape (3, 3) or (..., 3, 3): R D R'."""
    return _combined(six, _rotated_elements(rotation))


def rotate_deviations(sds: NDArray, rotation: NDArray) -> NDArray:
    """Standard deviations of the elements of rotated tensors, from those of the tensors.

    Parameters
    ----------
    sds : ndarray, shape (..., 6)
        Of each element. Errors of two elements are taken as independent, since their covariance is
        not known.
    rotation : ndarray, shape (3, 3) or (..., 3, 3)
        As in `rotate`.

    Returns
    -------
    ndarray, shape (..., 6)
    """
    return np.sqrt(_combined(sds**2, _rotated_elements(rotation) ** 2))


def _combined(rows: NDArray, matrices: NDArray) -> NDArray:
    """Product of rows (..., 6) with one matrix (6, 6), or each with its own, (..., 6, 6)."""
    return rows @ matrices if matrices.ndim == 2 else (rows[..., None, :] @ matrices)[..., 0, :]


def _rotated_elements(rotation: NDArray) -> NDArray[np.float64]:
    """Matrices (..., 6, 6) of rotations: row i holds the rotated tensor whose element i is 1 and the others 0."""
    rotation = np.asarray(rotation)[..., None, :, :]
    return from_matrix(rotation @ to_matrix(np.eye(6)) @ rotation.swapaxes(-1, -2))


def nearest_rotation(linear: NDArray) -> NDArray[np.float64]:
    """Rotation nearest to the linear part, shape (..., 3, 3), of a transform without reflection."""
    u, _, v = np.linalg.svd(linear)
    return u @ v


def voxel_axes(affine: NDArray) -> NDArray[np.float64]:
    """Directions of the voxel axes as columns in world axes, shape (3, 3), orthonormal."""
    linear = np.asarray(affine, np.float64)[:3, :3]
    return nearest_rotation(linear / np.linalg.norm(linear, axis=0))


def measures(six: NDArray) -> Measures:
    """FA, MD and V1 of tensors, shape (..., 6)."""
    six = np.asarray(six, np.float64)
    evals, evecs = np.linalg.eigh(to_matrix(six))
    md = evals.mean(axis=-1)
    size = (evals**2).sum(axis=-1)
    spread = ((evals - md[..., None]) ** 2).sum(axis=-1)
    nonzero = size > 0
    fa = np.sqrt(1.5 * np.divide(spread, size, out=np.zeros_like(size), where=nonzero)).clip(0, 1)
    return Measures(fa, md, np.where(nonzero[..., None], evecs[..., 2], 0))
