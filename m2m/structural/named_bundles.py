"""The named white-matter bundles that are installed with m2m, and their course in a participant's T1.

They are streamlines of a population average (HCP1065) in MNI152 mm, thinned by ``benchmarks/thin_bundles.py``. The
file has a licence of its own, beside it: CC BY-SA 4.0.

References
----------
Yeh (2022), Nat Commun 13:4933, https://doi.org/10.1038/s41467-022-32595-4.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

import m2m
from m2m.io.volume import Volume

FILE = Path(m2m.__file__).parent / "weights" / "bundles" / "hcp1065_bundles.npz"


@dataclass(frozen=True)
class NamedBundle:
    """Streamlines of one bundle, all in one direction.

    Attributes
    ----------
    name : str
        As in HCP1065, such as ``Association_ArcuateFasciculusL``.
    ends : str
        From which end to which they run: ``posterior to anterior``.
    points : ndarray, shape (streamlines, positions, 3)
        World mm: of MNI152 as loaded, of a T1 after `points_to_t1`. Those of one are equally far apart in MNI152.
    """

    name: str
    ends: str
    points: NDArray[np.float64]


def load_bundles(path: Path = FILE) -> list[NamedBundle]:
    """Load the bundles, in MNI152 mm.

    Parameters
    ----------
    path : Path
        Written by ``benchmarks/thin_bundles.py``.

    Returns
    -------
    list of NamedBundle
    """
    with np.load(path) as found:
        points, bundle = found["points_mni_mm"].astype(np.float64), found["bundle"]
        labels = zip(found["names"], found["ends"], strict=True)
        return [NamedBundle(str(name), str(ends), points[bundle == i]) for i, (name, ends) in enumerate(labels)]


def points_to_t1(points: NDArray, to_mni: NDArray, inverse: Volume) -> NDArray[np.float64]:
    """Transform points of the template to a T1, by the deformation of the template to it.

    Parameters
    ----------
    points : ndarray, shape (..., 3)
        MNI152 mm.
    to_mni : ndarray, shape (4, 4)
        From the T1's world mm to MNI152 mm.
    inverse : Volume, shape (X, Y, Z, 3)
        Displacements from the template to the T1, as `m2m.structural.displacement` defines them; 0 beyond its grid.

    Returns
    -------
    ndarray, shape (..., 3)
        World mm of the T1.
    """
    affine_only = apply_affine(np.linalg.inv(to_mni), points)
    return affine_only + interpolate(inverse, affine_only)


def interpolate(volume: Volume, points: NDArray) -> NDArray[np.float64]:
    """Interpolate an image linearly at any points; 0 outside.

    Parameters
    ----------
    volume : Volume
        Shape (X, Y, Z) or (X, Y, Z, channels).
    points : ndarray, shape (..., 3)
        World mm of the image.

    Returns
    -------
    ndarray, shape (...) or (..., channels)
    """
    voxels = np.moveaxis(apply_affine(np.linalg.inv(volume.affine), points), -1, 0)
    channels = volume.data.reshape(*volume.shape, -1)
    parts = [
        ndimage.map_coordinates(channels[..., c], voxels, np.float64, order=1, mode="grid-constant")
        for c in range(channels.shape[-1])
    ]
    return np.stack(parts, axis=-1).reshape(*points.shape[:-1], *volume.data.shape[3:])
