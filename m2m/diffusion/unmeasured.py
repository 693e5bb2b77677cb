"""Samples of a diffusion series that were not measured: those that motion correction filled with zeros.

A realigned volume has no signal where its own field of view did not reach. Programs write 0 there
(eddy, mcflirt, QSIPrep), which is not the same as a measured signal of 0.

References
----------
Glasser et al. (2013), NeuroImage 80:105, https://doi.org/10.1016/j.neuroimage.2013.04.127 (its mask of
voxels inside the field of view of every volume)
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Samples next to a filled region are interpolated with its zeros: they are left out as well.
RIM_VOXELS = 1


def unmeasured_samples(data: NDArray) -> NDArray[np.bool_]:
    """Find samples that are 0 although other volumes have a signal there, connected to the image's border.

    A measured signal of 0, as in fluid at a high b-value, is surrounded by signal, and is no such sample; nor is
    background that is 0 in every volume. Where a signal is the rule, the samples next to a filled region are
    found as well.

    Parameters
    ----------
    data : ndarray, shape (X, Y, Z, N)

    Returns
    -------
    ndarray of bool, shape (X, Y, Z, N)
        With a rim of `RIM_VOXELS` where most volumes have a signal.
    """
    zero = data == 0
    share = zero.mean(axis=-1)
    some = (share > 0) & (share < 1)
    found = np.zeros(data.shape, dtype=bool)
    for volume in np.flatnonzero((zero & some[..., None]).any(axis=(0, 1, 2))):
        labels, _ = ndimage.label(zero[..., volume])
        faces = (labels.take(side, axis) for axis in range(3) for side in (0, -1))
        outside = np.unique(np.concatenate([face.ravel() for face in faces]))
        filled = np.isin(labels, outside[outside > 0]) & some
        if filled.any():
            rim = ndimage.binary_dilation(filled & (share < 0.5), iterations=RIM_VOXELS) & (share < 0.5)
            found[..., volume] = filled | rim
    return found


def mean_of_measured(data: NDArray, unmeasured: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean over volumes of the measured samples, shape (X, Y, Z); 0 where none was measured.

    Parameters
    ----------
    data : ndarray, shape (X, Y, Z, N)
    unmeasured : ndarray of bool, shape (X, Y, Z, N)
    """
    if not unmeasured.any():
        return data.mean(axis=-1)
    count = (~unmeasured).sum(axis=-1)
    total = np.where(unmeasured, 0, data).sum(axis=-1)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def completed(data: NDArray, bvals: NDArray, bvecs: NDArray, tensor: NDArray, unmeasured: NDArray[np.bool_]) -> NDArray:
    """Replace samples that were not measured by the signal of the tensor that was fitted to the others.

    Parameters
    ----------
    data : ndarray, shape (X, Y, Z, N)
    bvals : ndarray, shape (N,)
        s/mm2; 0 of an unweighted volume.
    bvecs : ndarray, shape (N, 3)
        Unit vectors, in the axes of the tensor.
    tensor : ndarray, shape (X, Y, Z, 6)
        Dxx, Dxy, Dxz, Dyy, Dyz, Dzz in mm2/s; 0 where none was fitted.
    unmeasured : ndarray of bool, shape (X, Y, Z, N)

    Returns
    -------
    ndarray, shape (X, Y, Z, N)
    """
    where = unmeasured.any(axis=-1) & tensor.any(axis=-1)
    if not where.any():
        return data
    b0 = mean_of_measured(data[where][:, bvals == 0], unmeasured[where][:, bvals == 0])
    x, y, z = bvecs.T
    quadratic = np.stack([x * x, 2 * x * y, 2 * x * z, y * y, 2 * y * z, z * z])
    expected = b0[:, None] * np.exp(-bvals * (tensor[where] @ quadratic))
    out = data.copy()
    out[where] = np.where(unmeasured[where], expected, data[where])
    return out
