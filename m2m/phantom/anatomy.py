"""The anatomy that all participants share: MNI152 tissue maps, ventricles, radial directions.

Points are MNI152 millimetres (RAS+). The maps are nilearn's: average T1, grey and white
matter of 152 participants (ICBM 2009a symmetric non-linear), without skull.

References
----------
Fonov et al. (2011), NeuroImage 54:313-327, https://doi.org/10.1016/j.neuroimage.2010.07.033
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.phantom.bundles import BUNDLES, locate
from m2m.structural import template

GREY, WHITE, CSF = range(3)
# Exponent that sharpens the maps: an average over participants is blurred, while one participant's
# voxel holds mostly one tissue.
SHARPNESS = 2.0
COARSE_MM = 4
RADIAL_SMOOTHING_MM = 6.0


@dataclass(frozen=True)
class Template:
    """Maps on the 1 mm MNI152 grid.

    Attributes
    ----------
    tissue : ndarray, shape (3, X, Y, Z)
        Volume fractions of grey matter, white matter and cerebrospinal fluid; sum 1 in the
        head, 0 outside.
    detail : ndarray, shape (X, Y, Z)
        Residual of the template's T1 after a linear fit of the tissue maps, e.g. in deep grey nuclei.
    ventricles : ndarray of bool, shape (X, Y, Z)
        Lateral and third ventricles.
    radial : ndarray, shape (3, x, y, z)
        Coarse vector field from white matter to the nearest cortex, not normalised.
    affine, coarse_affine : ndarray, shape (4, 4)
        Voxel indices to MNI mm, of the maps and of `radial`.
    """

    tissue: NDArray[np.float32]
    detail: NDArray[np.float32]
    ventricles: NDArray[np.bool_]
    radial: NDArray[np.float32]
    affine: NDArray[np.float64]
    coarse_affine: NDArray[np.float64]


def sample(maps: NDArray, affine: NDArray, points: NDArray, mode: str = "constant") -> NDArray[np.float32]:
    """Interpolate maps linearly at points.

    Parameters
    ----------
    maps : ndarray, shape (C, X, Y, Z)
    affine : ndarray, shape (4, 4)
        Voxel indices to mm.
    points : ndarray, shape (N, 3)
        In mm.
    mode : {"constant", "nearest"}
        Value outside the maps: 0, or that of the nearest voxel.

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
    """Make averaged tissue fractions, shape (3, ...), more distinct; their sum does not change."""
    powers = tissue**SHARPNESS
    total = powers.sum(axis=0)
    scale = np.divide(tissue.sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
    return powers * scale


def _ventricles(csf: NDArray, affine: NDArray) -> NDArray[np.bool_]:
    """Mask of the ventricles: the largest connected component of fluid near the lateral ventricles."""
    inverse = np.linalg.inv(affine)
    low, high = (
        (inverse[:3, :3] @ p + inverse[:3, 3]).astype(int)
        for p in (np.array([-34.0, -52.0, 1.0]), np.array([34.0, 34.0, 32.0]))
    )
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    inside = np.zeros(csf.shape, dtype=bool)
    parts, _ = ndimage.label(csf[box] > 0.5)
    inside[box] = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return inside


def _lay_fornix(tissue: NDArray, affine: NDArray) -> None:
    """Label the fornix as white matter, in place: the average over participants blurs it away."""
    voxels = np.argwhere(tissue[CSF] + tissue[GREY] > 0.1)
    points = voxels @ affine[:3, :3].T + affine[:3, 3]
    for bundle in BUNDLES:
        if bundle.name.startswith("fornix"):
            inside, weight, _ = locate(bundle, points)
            at = tuple(voxels[inside].T)
            for kind in (GREY, WHITE, CSF):
                tissue[kind][at] += weight * ((kind == WHITE) - tissue[kind][at])


def load_template() -> Template:
    """Load the MNI152 maps and derive the fields that all participants share."""
    brain = template.load_template("brain")
    box = ndimage.find_objects(brain.data.astype(np.uint8))[0]
    affine = brain.affine @ nib.affines.from_matvec(np.eye(3), [s.start for s in box])
    t1, grey, white = (template.load_template(name).data[box] for name in ("t1", "gm", "wm"))
    mask = brain.data[box]
    average = np.stack([grey, white, np.maximum(mask - grey - white, 0)])
    tissue = sharpen(average)
    _lay_fornix(tissue, affine)
    products = np.einsum("ixyz,jxyz->ij", average, average)
    weights = np.linalg.solve(products, np.einsum("ixyz,xyz->i", average, t1))
    detail = (t1 - np.einsum("i,ixyz->xyz", weights.astype(np.float32), average)) * mask
    step = COARSE_MM
    coarse = ndimage.uniform_filter(tissue[WHITE], step + 1)[::step, ::step, ::step]
    smooth = ndimage.gaussian_filter(coarse, RADIAL_SMOOTHING_MM / step)
    return Template(
        tissue,
        detail,
        _ventricles(tissue[CSF], affine),
        -np.stack(np.gradient(smooth)),
        affine,
        affine @ np.diag([step, step, step, 1.0]),
    )
