"""Means of a map along the bundles of a group, carried to a participant's T1."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from m2m.evaluate.metrics import Roi
from m2m.io.errors import DataError
from m2m.io.volume import Volume

# Least share of a bundle's points where a map was measured.
LEAST_SHARE = 0.5
KEYS = {"points_mni_mm": 2, "offsets": 1, "bundle": 1, "names": 1}


@dataclass(frozen=True)
class GroupBundles:
    """Points of the streamlines of a group.

    Attributes
    ----------
    points_mm : ndarray, shape (points, 3)
        MNI152 mm.
    bundle : ndarray of int, shape (points,)
        Index of each point's bundle in `names`.
    names : list of str
    """

    points_mm: NDArray[np.float64]
    bundle: NDArray[np.int64]
    names: list[str]


def load_bundles(path: Path) -> GroupBundles:
    """Load streamlines of a group: `points_mni_mm`, `offsets` of streamlines, `bundle` of each, `names`.

    Parameters
    ----------
    path : Path
        NumPy archive (.npz); pickled content is not read.

    Returns
    -------
    GroupBundles

    Raises
    ------
    DataError
        It is no such archive.
    """
    remedy = "give an archive of points_mni_mm, offsets, bundle and names, as docs/data.md describes it"
    try:
        with np.load(path, allow_pickle=False) as archive:
            points, offsets, bundle, names = (archive[key] for key in KEYS)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"is not an archive of bundles: {error}", file=path, remedy=remedy) from None
    lengths = np.diff(np.append(offsets[: len(bundle)], len(points)))
    if points.shape[1:] != (3,) or len(lengths) != len(bundle) or (lengths < 0).any() or bundle.max() >= len(names):
        raise DataError("is not an archive of bundles: its arrays do not fit", file=path, remedy=remedy)
    return GroupBundles(points.astype(np.float64), np.repeat(bundle.astype(np.int64), lengths), [*map(str, names)])


def to_t1(points_mm: NDArray, to_mni: NDArray, inverse: Volume) -> NDArray[np.float64]:
    """Carry points of the template to a T1.

    Parameters
    ----------
    points_mm : ndarray, shape (points, 3)
        MNI152 mm.
    to_mni : ndarray, shape (4, 4)
        From the T1's world mm to MNI152 mm.
    inverse : Volume, shape (X, Y, Z, 3)
        Displacements from the template to the T1 (`m2m.structural.displacement`).

    Returns
    -------
    ndarray, shape (points, 3)
        World mm of the T1.
    """
    points = apply_affine(np.linalg.inv(to_mni), points_mm)
    voxels = apply_affine(np.linalg.inv(inverse.affine), points).T
    shift = [ndimage.map_coordinates(axis, voxels, order=1) for axis in np.moveaxis(inverse.data, -1, 0)]
    return points + np.stack(shift, axis=-1)


def bundle_means(
    images: Mapping[str, NDArray], mask: Volume, bundles: GroupBundles, points_mm: NDArray
) -> dict[str, list[Roi]]:
    """Compare means over bundles of several maps with those of a measured map, over the points in a mask.

    Parameters
    ----------
    images : mapping of str to ndarray, shape (X, Y, Z)
        By name, on the grid of the mask; the first one is the measured map.
    mask : Volume
        Boolean: where the map was measured.
    bundles : GroupBundles
    points_mm : ndarray, shape (points, 3)
        Their points in world mm of the grid (`to_t1`).

    Returns
    -------
    dict of str to list of Roi
        By name of each further map; ``n_voxels`` counts points. Bundles of which less than `LEAST_SHARE` was
        measured are left out.
    """
    voxels = apply_affine(np.linalg.inv(mask.affine), points_mm).T
    nearest = np.rint(voxels).astype(int)
    inside = np.all((nearest >= 0) & (nearest < np.reshape(mask.shape, (3, 1))), axis=0)
    inside[inside] = mask.data[tuple(nearest[:, inside])]
    n_bundles, of_bundle = len(bundles.names), bundles.bundle[inside]
    every, counts = np.bincount(bundles.bundle, minlength=n_bundles), np.bincount(of_bundle, minlength=n_bundles)
    kept = np.flatnonzero((counts > 0) & (counts >= LEAST_SHARE * every))
    means = {
        name: np.bincount(of_bundle, ndimage.map_coordinates(image, voxels[:, inside], order=1), n_bundles)[kept]
        / counts[kept]
        for name, image in images.items()
    }
    reference = means.pop(next(iter(images)))
    return {
        name: [
            Roi(bundles.names[k], float(a), float(b), int(counts[k]))
            for k, a, b in zip(kept, reference, mean, strict=True)
        ]
        for name, mean in means.items()
    }
