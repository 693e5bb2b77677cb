"""Streamlines of a group in named bundles, as a file of arrays.

The file (npz) has `points_mni_mm`, shape (P, 3), `offsets`, shape (S + 1,), where each streamline starts and the last
one ends, `bundle`, shape (S,), and `names`, shape (B,).

References
----------
Yeh (2022), Nat Commun 13:4933, https://doi.org/10.1038/s41467-022-32595-4 (bundles of 1,065 participants of the HCP).
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.io.errors import DataError
from m2m.io.volume import Volume

ARRAYS = ("points_mni_mm", "offsets", "bundle", "names")


@dataclass(frozen=True)
class Segments:
    """Pieces of streamlines between successive points.

    Attributes
    ----------
    middle : ndarray, shape (N, 3)
        MNI152 mm.
    along : ndarray, shape (N, 3)
        From one point to the next, mm.
    bundle : ndarray of int, shape (N,)
        Index into `names`.
    names : tuple of str
    """

    middle: NDArray[np.float32]
    along: NDArray[np.float32]
    bundle: NDArray[np.intp]
    names: tuple[str, ...]

    @property
    def length_mm(self) -> NDArray[np.float32]:
        """Length of each segment, shape (N,)."""
        return np.linalg.norm(self.along, axis=1)

    def density(self, weights: NDArray, affine: NDArray, shape: tuple[int, int, int], sigma_mm: float) -> NDArray:
        """Sum weights of segments in voxels, and smooth.

        Parameters
        ----------
        weights : ndarray, shape (N,)
        affine : ndarray, shape (4, 4)
            Of an isotropic grid in MNI152 mm.
        shape : (int, int, int)
        sigma_mm : float
            Of the Gaussian.

        Returns
        -------
        ndarray, shape (X, Y, Z)
        """
        inverse = np.linalg.inv(affine)
        voxels = np.rint(self.middle @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.intp)
        inside = ((voxels >= 0) & (voxels < shape)).all(axis=1)
        flat = np.ravel_multi_index(tuple(voxels[inside].T), shape)
        total = np.bincount(flat, weights[inside], int(np.prod(shape))).reshape(shape).astype(np.float32)
        return ndimage.gaussian_filter(total, sigma_mm / np.linalg.norm(affine[:3, 0]))


def load_segments(path: Path) -> Segments:
    """Load streamlines and cut them into segments.

    Raises
    ------
    DataError
        The file is missing or no such file of arrays.
    """
    remedy = "set cohort.template.bundles; docs/data.md describes the file"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            points, offsets, bundle, names = (arrays[name] for name in ARRAYS)
        points, ends = points.astype(np.float32), offsets.astype(np.intp)
        of_point = np.repeat(np.arange(len(bundle)), np.diff(ends))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"is no file of streamlines: {error}", file=path, remedy=remedy) from error
    if len(of_point) != len(points) or not np.isfinite(points).all():
        raise DataError("offsets and points of its streamlines do not agree", file=path, remedy=remedy)
    within = of_point[1:] == of_point[:-1]
    along, middle = np.diff(points, axis=0)[within], ((points[1:] + points[:-1]) / 2)[within]
    return Segments(middle, along, bundle[of_point[1:][within]].astype(np.intp), tuple(map(str, names)))


def strongest_bundle(segments: Segments, grid: Volume, sigma_mm: float, least: float) -> NDArray[np.int16]:
    """Number of the strongest bundle in each voxel, from 1; 0 where no bundle has `least` of its own usual density.

    Parameters
    ----------
    segments : Segments
    grid : Volume
        Isotropic, MNI152 mm.
    sigma_mm : float
        Smoothing of each bundle's density.
    least : float
        Relative to the 90th percentile of the bundle's density at its own segments.

    Returns
    -------
    ndarray, shape (X, Y, Z)
    """
    strongest = np.full(grid.shape, least, dtype=np.float32)
    number = np.zeros(grid.shape, dtype=np.int16)
    for index in range(len(segments.names)):
        of_bundle = np.where(segments.bundle == index, segments.length_mm, 0)
        density = segments.density(of_bundle, grid.affine, grid.shape, sigma_mm)
        crossed = density[density > 0.01 * density.max()]
        if crossed.size:
            weight = density / np.percentile(crossed, 90)
            number[weight > strongest] = index + 1
            strongest = np.maximum(strongest, weight)
    return number
