"""Check of the gradient directions' axes by the coherence of fibres between neighbouring voxels.

A wrong sign or order of axes in a gradient table, or an affine that was mirrored after the table was
written, does not change FA but turns V1. Pairs of neighbouring voxels that lie along both of their
directions are counted for the directions as they are, and with their axes in every other order and sign.

References
----------
Schilling et al. (2019), Magn Reson Imaging 58:82, https://doi.org/10.1016/j.mri.2019.01.018;
Jeurissen et al. (2014), Med Image Anal 18:953, https://doi.org/10.1016/j.media.2014.05.012
"""

import itertools

import numpy as np
from numpy.typing import NDArray

# Least FA of the voxels that are used, and largest angle between a direction and the neighbour.
FIBRE_FA = 0.3
ANGLE_DEGREES = 30.0
# Other axes are accepted if their count exceeds the given one by this factor and by this number of
# standard deviations of a count: in noise all counts are similar.
BETTER, DEVIATIONS = 1.05, 3.0
GIVEN = "given"


def _orders() -> dict[str, NDArray[np.float64]]:
    """Matrices of the 24 orders and signs of three axes that differ for directions without sign, by name.

    Reversing two axes equals reversing the third: a direction and its opposite are equivalent.
    """
    orders = {GIVEN: np.eye(3)}
    for order in itertools.permutations(range(3)):
        for reverse in (None, 0, 1, 2):
            signs = [-1 if axis == reverse else 1 for axis in range(3)]
            names = [("-" if sign < 0 else "") + "xyz"[axis] for axis, sign in zip(order, signs, strict=True)]
            name = f"its rows as {', '.join(names)}"
            if order == (0, 1, 2):
                name = GIVEN if reverse is None else f"{'xyz'[reverse]} reversed"
            orders[name] = np.eye(3)[list(order)] * np.array(signs)[:, None]
    return orders


# Corrected directions are matrix @ given ones, both in the axes of the gradient table.
ORDERS = _orders()
_HALF = [step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]


def count_aligned_neighbours(v1: NDArray, fa: NDArray, axes: NDArray) -> dict[str, float]:
    """Count pairs of neighbouring voxels that lie along both of their directions.

    Neighbours are about as far apart along each axis as voxels are along their longest: voxels that
    were interpolated from one another are alike, and would join along the axes of fine voxels.

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
        Count for each of `ORDERS`; a pair's weight is its geometric mean FA.
    """
    fibres = fa > FIBRE_FA
    sizes_mm = np.linalg.norm(axes, axis=0)
    apart = np.round(sizes_mm.max() / sizes_mm).astype(int)  # in voxels along each axis
    number = np.full(fa.shape + 2 * apart, -1)
    number[tuple(slice(n, -n) for n in apart)][fibres] = np.arange(fibres.sum())
    here, strength, direction = np.argwhere(fibres) + apart, fa[fibres], v1[fibres]
    count = dict.fromkeys(ORDERS, 0.0)
    for half in _HALF:
        step = half * apart
        there = number[tuple((here + step).T)]
        first, second = np.flatnonzero(there >= 0), there[there >= 0]
        weight = np.sqrt(strength[first] * strength[second])
        along = axes @ step / np.linalg.norm(axes @ step)
        for name, matrix in ORDERS.items():
            aligned = np.abs(direction @ (along @ matrix)) > np.cos(np.deg2rad(ANGLE_DEGREES))
            count[name] += float(weight[aligned[first] & aligned[second]].sum())
    return count


def better_axes(count: dict[str, float]) -> str | None:
    """Name the order and signs of the axes that clearly increase the count most, or None."""
    best = max(count, key=count.__getitem__)
    given, most = count[GIVEN], count[best]
    clear = most > BETTER * given and most - given > DEVIATIONS * np.sqrt(most + given)
    return best if clear else None
