"""Masks: which voxels are inside, and whether an image is a mask at all; the same rule for all stages."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.io.errors import DataError

# A voxel is inside if the mask covers at least this part of it.
HALF = 0.5
# Interpolation by splines exceeds 0 and 1 by less than this.
OVERSHOOT = 0.5


def in_mask(mask: NDArray) -> NDArray[np.bool_]:
    """Find the voxels of a mask of fractions, 0 to 1: those that it covers to at least one half.

    Resampled masks and probabilities are above 0 far outside the brain.
    """
    return np.asarray(mask) >= HALF


def supplied_mask(data: NDArray, path: str | Path = "") -> NDArray[np.bool_]:
    """Find the voxels of a mask that the user gives.

    Parameters
    ----------
    data : ndarray, shape (X, Y, Z)
        Fractions, or one value above 0 such as 1 or 255 for all voxels inside.
    path : path
        Named in the error.

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)

    Raises
    ------
    DataError
        It is empty, or holds other values: labels, intensities or percentages, where no limit
        between inside and outside is known.
    """
    low, high = float(data.min()), float(data.max())
    fractions = low >= -OVERSHOOT and high <= 1 + OVERSHOOT
    if not fractions and not (low == 0 and np.all((data == 0) | (data == high))):
        raise DataError(
            "is not a brain mask: it has more values than 0 and 1 and the fractions between them",
            file=path,
            value=f"{low:g} to {high:g}",
            remedy="set voxels inside to 1 and outside to 0, or supply no mask",
        )
    mask = in_mask(data) if fractions else data > 0
    if not mask.any():
        raise DataError(
            "has no brain: the brain mask is empty, no voxel of it is 0.5 or more",
            file=path,
            value=f"{low:g} to {high:g}",
            remedy="supply a mask of 0 and 1, or none",
        )
    return mask
