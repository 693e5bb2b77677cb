"""Profiles along bundles: a map's weighted mean over the streamlines, at each position from one end to the other.

References
----------
Yeatman et al. (2012), PLoS ONE 7:e49790, https://doi.org/10.1371/journal.pone.0049790 (tract profiles).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m2m.io.masks import in_mask
from m2m.io.volume import Volume, require_same_grid
from m2m.structural.named_bundles import interpolate

# Part of a bundle's weight at a position that must lie inside the mask, or the position is missing.
LEAST_SHARE = 0.5
# Standard deviation (mm) that is added to a bundle's spread: the covariance of few streamlines can be inverted, too.
LEAST_SPREAD_MM = 1.0


class Samples(NamedTuple):
    """Values of a map at the points of a bundle.

    Attributes
    ----------
    values : ndarray, shape (streamlines, positions)
        0 where not inside.
    inside : ndarray of bool, shape (streamlines, positions)
        Where the map's mask covers at least half of the weights of the interpolation.
    """

    values: NDArray[np.float64]
    inside: NDArray[np.bool_]

    def part(self, streamlines: slice) -> "Samples":
        """Those of some streamlines."""
        return Samples(self.values[streamlines], self.inside[streamlines])


def sample(volume: Volume, mask: NDArray, points: NDArray) -> Samples:
    """Interpolate a map linearly at points, from voxels of a mask only (normalised convolution).

    Parameters
    ----------
    volume : Volume, shape (X, Y, Z)
    mask : ndarray, shape (X, Y, Z)
        Where the map has values.
    points : ndarray, shape (streamlines, positions, 3)
        World mm of the map.

    Returns
    -------
    Samples
    """
    require_same_grid(volume, Volume(mask, volume.affine), "map and mask")
    weight = in_mask(mask).astype(np.float64)
    stacked = Volume(np.stack([np.where(weight, volume.data, 0), weight], axis=-1), volume.affine)
    total, share = np.moveaxis(interpolate(stacked, points), -1, 0)
    inside = share >= 0.5
    return Samples(np.divide(total, share, where=inside, out=np.zeros_like(total)), inside)


def core_weights(points: NDArray) -> NDArray[np.float64]:
    """Weights of a bundle's streamlines at each position: high in its core, as of a normal distribution.

    Parameters
    ----------
    points : ndarray, shape (streamlines, positions, 3)
        In template space, so that a bundle has the same weights in every participant.

    Returns
    -------
    ndarray, shape (streamlines, positions)
        ``exp(-d**2 / 2)``, d being the Mahalanobis distance from the mean of the position; divided by their sum.
    """
    offset = points - points.mean(axis=0)  # (streamlines, positions, 3)
    covariance = np.einsum("npi,npj->pij", offset, offset) / len(points) + LEAST_SPREAD_MM**2 * np.eye(3)
    squared = np.einsum("npi,pij,npj->np", offset, np.linalg.inv(covariance), offset)
    weights = np.exp(-squared / 2)
    return weights / weights.sum(axis=0)


def profile(samples: Samples, weights: NDArray) -> NDArray[np.float64]:
    """Weighted mean over streamlines at each position, of points inside only.

    Parameters
    ----------
    samples : Samples
    weights : ndarray, shape (streamlines, positions)
        Of `core_weights`.

    Returns
    -------
    ndarray, shape (positions,)
        NaN where points of less than `LEAST_SHARE` of the weight are inside.
    """
    counted = np.where(samples.inside, weights, 0)
    share = counted.sum(axis=0)
    enough = share >= LEAST_SHARE
    total = (counted * samples.values).sum(axis=0)
    return np.divide(total, share, where=enough, out=np.full(share.shape, np.nan))
