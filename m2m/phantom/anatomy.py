"""The anatomy that everybody shares: MNI152 tissue maps, ventricles, radial directions.

Points are MNI152 millimetres (RAS+). The maps come with nilearn's package: the average
T1, grey and white matter of 152 people (ICBM 2009a symmetric non-linear), without skull.

References
----------
Fonov et al. (2011), NeuroImage 54:313-327, https://doi.org/10.1016/j.neuroimage.2010.07.033
"""

from dataclasses import dataclass

import numpy as np
from nilearn.datasets import (
    load_mni152_brain_mask,
    load_mni152_gm_template,
    load_mni152_template,
    load_mni152_wm_template,
)
from numpy.typing import NDArray
from scipy import ndimage

GREY, WHITE, CSF = range(3)
# An average over people is blurred; one person's voxel is mostly one tissue.
SHARPNESS = 2.0
COARSE_MM = 4


@dataclass(frozen=True)
class Template:
    """Maps on the 1 mm MNI152 grid.

    Attributes
    ----------
    tissue : ndarray, shape (3, X, Y, Z)
        Volume fractions of grey matter, white matter and cerebrospinal fluid; sum 1 in the
        head, 0 outside.
    detail : ndarray, shape (X, Y, Z)
        T1 of the template beyond what the mixture of tissues explains, e.g. in deep grey nuclei.
    ventricles : ndarray of bool, shape (X, Y, Z)
        Lateral and third ventricles.
    radial : ndarray, shape (3, x, y, z)
        Coarse field that points from white matter to the nearest cortex, not normalised.
    affine, coarse_affine : ndarray, shape (4, 4)
        Voxel indices to MNI mm, of the maps and of `radial`.
    """

    tissue: NDArray[np.float32]
    detail: NDArray[np.float32]
    ventricles: NDArray[np.bool_]
    radial: NDArray[np.float32]
    affine: NDArray[np.float64]
    coarse_affine: NDArray[np.float64]


def sample(
    maps: NDArray, affine: NDArray, points: NDArray, mode: str = "constant"
) -> NDArray[np.float32]:
    """Interpolate maps linearly at points.

    Parameters
    ----------
    maps : ndarray, shape (C, X, Y, Z)
    affine : ndarray, shape (4, 4)
        Voxel indices to mm.
    points : ndarray, shape (N, 3)
        In mm.
    mode : str
        Outside the maps: ``constant`` (0) or ``nearest``.

    Returns
    -------
    ndarray, shape (N, C)
    """
    inverse = np.linalg.inv(affine).astype(np.float32)
    indices = inverse[:3, :3] @ points.T.astype(np.float32) + inverse[:3, 3:]
    values = np.empty((len(maps), len(points)), dtype=np.float32)
    for out, channel in zip(values, maps, strict=True):
        ndimage.map_coordinates(channel, indices, output=out, order=1, mode=mode)
    return values.T


def sharpen(tissue: NDArray) -> NDArray[np.float32]:
    """Move averaged fractions, shape (3, ...), towards one tissue; their sum stays."""
    powers = tissue**SHARPNESS
    total = powers.sum(axis=0)
    scale = np.divide(tissue.sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
    return powers * scale


def _ventricles(csf: NDArray, affine: NDArray) -> NDArray[np.bool_]:
    """Fluid around the body of the lateral ventricles, in one piece."""
    inverse = np.linalg.inv(affine)
    low, high = ((inverse[:3, :3] @ p + inverse[:3, 3]).astype(int) for p in
                 (np.array([-34.0, -52.0, 1.0]), np.array([34.0, 34.0, 32.0])))  # fmt: skip
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inside = np.zeros(csf.shape, dtype=bool)
    parts, _ = ndimage.label(csf[box] > 0.5)
    inside[box] = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return inside


def load_template() -> Template:
    """Read nilearn's maps and derive what every person needs."""
    image = load_mni152_template(resolution=1)
    affine = np.asarray(image.affine, dtype=np.float64)
    t1, grey, white, mask = (
        np.asarray(i.dataobj, dtype=np.float32)
        for i in (
            image,
            load_mni152_gm_template(resolution=1),
            load_mni152_wm_template(resolution=1),
            load_mni152_brain_mask(resolution=1),
        )
    )
    average = np.stack([grey, white, np.maximum(mask - grey - white, 0)])
    tissue = sharpen(average)
    weights, *_ = np.linalg.lstsq(average[:, mask > 0].T, t1[mask > 0], rcond=None)
    detail = (t1 - np.tensordot(weights.astype(np.float32), average, 1)) * (mask > 0)
    step = COARSE_MM
    coarse = ndimage.uniform_filter(tissue[WHITE], step)[::step, ::step, ::step]
    smooth = ndimage.gaussian_filter(coarse, 6 / step)
    coarse_affine = affine @ np.diag([step, step, step, 1.0])
    return Template(
        tissue,
        detail,
        _ventricles(tissue[CSF], affine),
        -np.stack(np.gradient(smooth)),
        affine,
        coarse_affine,
    )
