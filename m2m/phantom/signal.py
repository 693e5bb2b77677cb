"""Signals: diffusion-weighted multi-tensor signal, T1 intensity, receive bias, Rician noise.

References
----------
Basser et al. (1994), Biophys J 66:259-267, https://doi.org/10.1016/S0006-3495(94)80775-1
Gudbjartsson & Patz (1995), Magn Reson Med 34:910-914, https://doi.org/10.1002/mrm.1910340618
Jones et al. (1999), Magn Reson Med 42:515-525 (directions by electrostatic repulsion)
"""

import numpy as np
from dipy.core.gradients import generate_bvecs
from numpy.typing import NDArray
from scipy import ndimage

from m2m.diffusion.tensors import COLUMNS, ROWS

SCHEME_SEED = 7


def gradient_scheme(
    n_b0: int, n_directions: int, b_s_per_mm2: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gradients of one shell, directions spread by electrostatic repulsion.

    Parameters
    ----------
    n_b0, n_directions : int
    b_s_per_mm2 : float

    Returns
    -------
    bvals : ndarray, shape (n_b0 + n_directions,)
        In s/mm2.
    directions : ndarray, shape (n_b0 + n_directions, 3)
        World unit vectors; zero where b is zero.
    """
    directions = generate_bvecs(n_directions, iters=500, rng=np.random.default_rng(SCHEME_SEED))
    bvals = np.concatenate([np.zeros(n_b0), np.full(n_directions, b_s_per_mm2)])
    return bvals, np.concatenate([np.zeros((n_b0, 3)), directions])


def eigenvalues(fa: NDArray, md: float) -> tuple[NDArray, NDArray]:
    """Diffusivities along and across the axis of an axially symmetric tensor of given FA and mean."""
    a = fa / np.sqrt(3 - 2 * fa**2)
    return md * (1 + 2 * a), md * (1 - a)


def multi_tensor(
    bvals: NDArray,
    directions: NDArray,
    fractions: NDArray,
    axes: NDArray,
    parallel: NDArray,
    perpendicular: NDArray,
) -> NDArray[np.float32]:
    """Noise-free signal of several axially symmetric tensors, relative to b = 0.

    Parameters
    ----------
    bvals : ndarray, shape (V,)
        In s/mm2.
    directions : ndarray, shape (V, 3)
        Unit vectors in the frame of `axes`.
    fractions : ndarray, shape (N, K)
    axes : ndarray, shape (N, K, 3)
        Unit vectors.
    parallel, perpendicular : ndarray, shape (N, K)
        Diffusivities in mm2/s.

    Returns
    -------
    ndarray, shape (N, V)
        sum_k f_k exp(-b g' D_k g), the formula of ``dipy.sims.voxel.multi_tensor``.
    """
    signal = np.zeros((len(fractions), len(bvals)), dtype=np.float32)
    for k in range(fractions.shape[1]):
        along = (axes[:, k] @ directions.T) ** 2
        d = perpendicular[:, k, None] + (parallel - perpendicular)[:, k, None] * along
        signal += fractions[:, k, None] * np.exp(-bvals * d)
    return signal


def add_rician_noise(signal: NDArray, sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Add Gaussian noise to the real and the imaginary channel and take the magnitude.

    Parameters
    ----------
    signal : ndarray
    sigma : float
        Standard deviation in each channel, in units of the signal.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray
        Of the signal's shape.
    """
    real = rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(signal + np.float32(sigma) * real, np.float32(sigma) * imaginary)


def fit_tensor(signal: NDArray, bvals: NDArray, directions: NDArray) -> NDArray[np.float32]:
    """Fit tensors to the logarithm of the signal by ordinary least squares.

    Parameters
    ----------
    signal : ndarray, shape (N, V)
        Above 0.
    bvals : ndarray, shape (V,)
        In s/mm2.
    directions : ndarray, shape (V, 3)

    Returns
    -------
    ndarray, shape (N, 6)
        Dxx, Dxy, Dxz, Dyy, Dyz, Dzz in mm2/s.
    """
    factor = np.where(np.equal(ROWS, COLUMNS), 1.0, 2.0)
    products = directions[:, ROWS] * directions[:, COLUMNS] * factor
    design = np.column_stack([-bvals[:, None] * products, np.ones(len(bvals))])
    return (np.log(signal) @ np.linalg.pinv(design).T)[:, :6].astype(np.float32)


def bias_field(rng: np.random.Generator, shape: tuple[int, int, int], size: float) -> NDArray[np.float32]:
    """Draw a smooth receive field.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : (int, int, int)
    size : float
        Standard deviation, about.

    Returns
    -------
    ndarray, shape (X, Y, Z)
        Positive, around 1.
    """
    coarse = ndimage.zoom(size * rng.standard_normal((3, 3, 3)), 3, order=3)
    zoom = np.divide(shape, coarse.shape)
    return np.exp(ndimage.zoom(coarse, zoom, order=1)).astype(np.float32)


def fsl_bvecs(directions: NDArray, affine: NDArray) -> NDArray[np.float64]:
    """World vectors, shape (n, 3), in FSL's convention, shape (3, n): image axes, x flipped if det > 0."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    vectors = axes.T @ directions.T
    if np.linalg.det(axes) > 0:
        vectors[0] *= -1
    return vectors
