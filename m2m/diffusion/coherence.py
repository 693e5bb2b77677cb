"""Whether directions belong to their image: fibres follow one another only if they do.

A wrong sign in a gradient table, or an affine that was mirrored after the table was written,
leaves FA as it is and mirrors V1. Neighbours that lie along each other's direction are counted
as given and with one axis reversed.

References
----------
Schilling et al. (2019), Magn Reson Imaging 58:82, https://doi.org/10.1016/j.mri.2019.01.018;
Jeurissen et al. (2014), Med Image Anal 18:953, https://doi.org/10.1016/j.media.2014.05.012
"""

import itertools

import numpy as np
from numpy.typing import NDArray

# Directions are trusted above this FA, and follow one another within this angle.
FIBRE_FA = 0.3
ANGLE_DEGREES = 30.0
# A reversed axis is better if it joins so many times the neighbours, and more by so many standard
# deviations of a count: in noise all join about as few.
BETTER, DEVIATIONS = 1.05, 3.0
GIVEN = "given"
# Reversing two axes is reversing the third: a direction and its opposite are one.
SIGNS = {GIVEN: (1, 1, 1), "x": (-1, 1, 1), "y": (1, -1, 1), "z": (1, 1, -1)}
_HALF = [step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]


def joined(v1: NDArray, fa: NDArray, axes: NDArray) -> dict[str, float]:
    """Count neighbours that lie along each other's direction.

    Parameters
    ----------
    v1 : ndarray, shape (X, Y, Z, 3)
        Principal directions in the axes of the gradient table.
    fa : ndarray, shape (X, Y, Z)
    axes : ndarray, shape (3, 3)
        Steps of one voxel, in mm, as columns in the axes of the gradient table.

    Returns
    -------
    dict of str to float
        Pairs of neighbours, each weighted by the pair's FA, by the axis that is reversed.
    """
    fibres = fa > FIBRE_FA
    number = np.full(np.add(fa.shape, 2), -1)
    number[1:-1, 1:-1, 1:-1][fibres] = np.arange(fibres.sum())
    here, strength, direction = np.argwhere(fibres) + 1, fa[fibres], v1[fibres]
    count = dict.fromkeys(SIGNS, 0.0)
    for step in _HALF:
        there = number[tuple((here + step).T)]
        first, second = np.flatnonzero(there >= 0), there[there >= 0]
        weight = np.sqrt(strength[first] * strength[second])
        along = axes @ step / np.linalg.norm(axes @ step)
        for axis, signs in SIGNS.items():
            aligned = np.abs(direction @ (along * signs)) > np.cos(np.deg2rad(ANGLE_DEGREES))
            count[axis] += float(weight[aligned[first] & aligned[second]].sum())
    return count


def reversed_axis(count: dict[str, float]) -> str | None:
    """Name the axis that joins clearly more neighbours where it is reversed, if one does."""
    best = max(count, key=count.__getitem__)
    given, most = count[GIVEN], count[best]
    clear = most > BETTER * given and most - given > DEVIATIONS * np.sqrt(most + given)
    return best if clear else None
