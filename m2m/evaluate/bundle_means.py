"""Means of a participant's maps over the named bundles that are installed with m2m."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray

from m2m.evaluate.metrics import Roi
from m2m.io.volume import Volume
from m2m.structural.named_bundles import NamedBundle, points_to_t1

# Least share of a bundle's points where a map was measured.
LEAST_SHARE = 0.5
DECIMALS = 9


@dataclass(frozen=True)
class BundlePoints:
    """Points of the streamlines of several bundles.

    Attributes
    ----------
    names : list of str
    owner : ndarray of int, shape (points,)
        Index of the bundle of each point.
    points_mm : ndarray, shape (points, 3)
        World mm.
    """

    names: list[str]
    owner: NDArray[np.int64]
    points_mm: NDArray[np.float64]


def points_in_t1(bundles: Sequence[NamedBundle], to_mni: NDArray, inverse: Volume) -> BundlePoints:
    """Carry the points of bundles to a T1.

    Parameters
    ----------
    bundles : sequence of NamedBundle
        In MNI152 mm.
    to_mni, inverse
        As of `m2m.structural.named_bundles.points_to_t1`.

    Returns
    -------
    BundlePoints
        In the T1's world mm.
    """
    points = [bundle.points.reshape(-1, 3) for bundle in bundles]
    owner = np.repeat(np.arange(len(points)), [len(part) for part in points])
    return BundlePoints([b.name for b in bundles], owner, points_to_t1(np.concatenate(points), to_mni, inverse))


def bundle_means(
    reference: NDArray, images: Mapping[str, NDArray], mask: Volume, bundles: BundlePoints
) -> dict[str, list[Roi]]:
    """Compare means over bundles of several maps with those of a measured map, at the points in a mask.

    Parameters
    ----------
    reference : ndarray, shape (X, Y, Z)
        Measured map, on the grid of the mask.
    images : mapping of str to ndarray, shape (X, Y, Z)
        Other maps by name, on the same grid.
    mask : Volume
        Boolean: where the map was measured.
    bundles : BundlePoints
        In world mm of the grid.

    Returns
    -------
    dict of str to list of Roi
        By name; ``n_voxels`` counts points. Bundles of which less than `LEAST_SHARE` was measured are left out.
    """
    nearest = np.rint(apply_affine(np.linalg.inv(mask.affine), bundles.points_mm)).astype(int)
    inside = np.all((nearest >= 0) & (nearest < mask.shape), axis=1)
    inside[inside] = mask.data[tuple(nearest[inside].T)]
    voxels, owner, n = tuple(nearest[inside].T), bundles.owner[inside], len(bundles.names)
    counts = np.bincount(owner, minlength=n)
    kept = np.flatnonzero((counts > 0) & (counts >= LEAST_SHARE * np.bincount(bundles.owner, minlength=n)))

    def means(image: NDArray) -> NDArray[np.float64]:
        # Nearest voxels: interpolation would mix in what lies outside the mask. Rounded: a constant has equal means.
        return np.round(np.bincount(owner, image[voxels], n)[kept] / counts[kept], DECIMALS)

    measured = means(reference)
    return {
        name: [
            Roi(bundles.names[k], float(a), float(b), int(counts[k]))
            for k, a, b in zip(kept, measured, means(image), strict=True)
        ]
        for name, image in images.items()
    }
