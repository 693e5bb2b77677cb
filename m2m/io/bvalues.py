"""Shells of a diffusion series, and the volumes of a tensor fit.

References
----------
Six directions are the least that determine a tensor: Basser, Mattiello & LeBihan (1994),
Biophys J 66:259, https://doi.org/10.1016/S0006-3495(94)80775-1.
"""

import numpy as np
from numpy.typing import NDArray

# Largest b-value of an unweighted volume, where the configuration does not say otherwise: scanners
# record a few s/mm2 for the imaging gradients. As DIPY's `gradient_table`.
B0_S_PER_MM2 = 50.0
# Volumes whose b-values differ by less belong to one shell; scanners vary by some tens.
SHELL_GAP_S_PER_MM2 = 100.0
# Volumes over a wider range without a gap are no shell: a limit then applies to each of them.
WIDEST_SHELL_S_PER_MM2 = 200.0
# A shell with a b-value so much above a limit is still meant by it, where the configuration does not say otherwise.
B_TOLERANCE_S_PER_MM2 = 50.0
# A unit vector written with two decimals has a length within this of 1.
UNIT_TOLERANCE = 0.02
# Extension of MRtrix3's tables: x, y, z in world axes and b of each volume in a row.
WORLD_TABLE = ".b"
# Directions with a smaller angle between them, or to the opposite direction, count as one.
SAME_DIRECTION_DEGREES = 1.0


def shells(bvals: NDArray, b0_threshold: float) -> list[NDArray[np.intp]]:
    """Volumes of each shell, the lowest b-value first; unweighted volumes are in none.

    Parameters
    ----------
    bvals : ndarray, shape (N,)
        s/mm2.
    b0_threshold : float
        Largest b-value of an unweighted volume, s/mm2.

    Returns
    -------
    list of ndarray of int
        Indices of volumes, by rising b-value; empty where no volume is weighted.
    """
    order = np.argsort(bvals, kind="stable")
    order = order[bvals[order] > b0_threshold]
    gaps = np.flatnonzero(np.diff(bvals[order]) > SHELL_GAP_S_PER_MM2) + 1
    return np.split(order, gaps) if len(order) else []


def shell_values(bvals: NDArray, b0_threshold: float) -> NDArray[np.float64]:
    """b-value of each volume's shell, its median; 0 for b = 0, the volume's own value outside any shell.

    Parameters
    ----------
    bvals : ndarray, shape (N,)
        s/mm2.
    b0_threshold : float
        Largest b-value of an unweighted volume, s/mm2.

    Returns
    -------
    ndarray, shape (N,)
    """
    values = np.zeros(len(bvals))
    for shell in shells(bvals, b0_threshold):
        own = bvals[shell]
        values[shell] = own if np.ptp(own) > WIDEST_SHELL_S_PER_MM2 else np.median(own)
    return values


def distinct_directions(vectors: NDArray) -> NDArray:
    """Keep one vector of each direction; opposite vectors have the same direction.

    Parameters
    ----------
    vectors : ndarray, shape (N, 3)
        Unit vectors.

    Returns
    -------
    ndarray, shape (M, 3)
    """
    same = np.cos(np.deg2rad(SAME_DIRECTION_DEGREES))
    kept = np.empty((0, 3))
    for vector in vectors / np.linalg.norm(vectors, axis=1, keepdims=True):
        if not (np.abs(kept @ vector) > same).any():
            kept = np.vstack([kept, vector])
    return kept


def tensor_rank(directions: NDArray) -> int:
    """Number of a tensor's six elements that distinct directions, shape (M, 3), determine."""
    x, y, z = directions.T
    return int(np.linalg.matrix_rank(np.stack([x * x, y * y, z * z, x * y, x * z, y * z]), tol=1e-2))


def determine_tensor(directions: NDArray) -> bool:
    """Whether distinct directions, shape (M, 3), determine all six elements of a tensor."""
    return len(directions) >= 6 and tensor_rank(directions) == 6


def volumes_of_fit(
    bvals: NDArray, bvecs: NDArray, b0_threshold: float, max_b: float, tolerance: float = B_TOLERANCE_S_PER_MM2
) -> NDArray[np.bool_] | None:
    """Choose volumes for a tensor fit: b = 0 and whole shells up to a limit.

    Where these do not determine a tensor, further shells are added, lowest b first, until they do.

    Parameters
    ----------
    bvals : ndarray, shape (N,)
        s/mm2.
    bvecs : ndarray, shape (N, 3)
        Unit vectors; a weighted volume with a zero vector, such as a trace image, is not chosen.
    b0_threshold, max_b, tolerance : float
        s/mm2; a shell is taken whose median is not above `max_b` by more than the tolerance.

    Returns
    -------
    ndarray of bool, shape (N,), or None
        None where all shells together do not determine a tensor.
    """
    b0, values = bvals <= b0_threshold, shell_values(bvals, b0_threshold)
    weighted = ~b0 & bvecs.any(axis=1)
    limit = max_b + tolerance
    for top in [limit, *np.unique(values[values > limit])]:
        chosen = weighted & (values <= top)
        if determine_tensor(distinct_directions(bvecs[chosen])):
            return b0 | chosen
    return None
