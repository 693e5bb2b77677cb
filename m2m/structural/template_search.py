"""Affine registration of the MNI152 brain to a T1 with or without skull."""

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from m2m.io.errors import DataError
from m2m.io.masks import in_mask
from m2m.io.volume import Volume, coarsen
from m2m.structural.register import find_transform
from m2m.structural.template import load_template

# Spacings (mm) of the search for the template and of its refinement.
SEARCH_MM, REFINE_MM = 6.0, 4.0
# Thicknesses (mm) of scalp and skull to start the search from; 0 is for a T1 without skull. From a
# start that is too large, the template's surface is fitted to the scalp, at a lower mutual information.
SCALPS_MM = (0.0, 12.0, 18.0)


def find_template(t1: Volume, scalps_mm: tuple[float, ...]) -> tuple[NDArray[np.float64], float, float]:
    """Affine registration of the MNI152 brain to a T1 with or without skull.

    Each start is the head's outline reduced by a thickness of scalp; the result with the highest
    mutual information is kept. Mutual information is computed in the template's brain and a rim.

    Parameters
    ----------
    t1 : Volume
    scalps_mm : tuple of float
        Thicknesses of scalp and skull.

    Returns
    -------
    transform : ndarray, shape (4, 4)
        MNI152 mm to the T1's world mm.
    mi_start, mi_registered : float
        Mutual information (nats) at the finer level before and after.
    """
    fine = search_level(t1, REFINE_MM)
    starts = [outline_start(fine[0], scalp_mm) for scalp_mm in scalps_mm]
    moving, static, rim = search_level(t1, SEARCH_MM)
    found = []
    for start in starts:
        # First rigid: with a free size at the start, the template would be fitted to the scalp.
        rigid, _ = find_transform(static, moving, "rigid", start, rim, 15)
        found.append(find_transform(static, moving, "affine", rigid, rim, 20))
    coarse = max(found, key=lambda pair: pair[1])[0]
    moving, static, rim = fine
    _, mi_start = find_transform(static, moving, "affine", starts[-1], rim, 0)
    transform, mi_registered = find_transform(static, moving, "affine", coarse, rim, 30)
    return transform, mi_start, mi_registered


def search_level(t1: Volume, spacing_mm: float) -> tuple[Volume, Volume, NDArray[np.bool_]]:
    """T1, template and the mask of the mutual information, at one resolution."""
    rim = ndimage.binary_dilation(in_mask(load_template("brain", spacing_mm).data))
    return coarsen(t1, spacing_mm), load_template("t1", spacing_mm), rim


def outline_start(t1: Volume, scalp_mm: float) -> NDArray[np.float64]:
    """MNI152 mm to T1 mm, from the outline of the upper head reduced by the scalp."""
    brain = load_template("brain", REFINE_MM)
    head = t1.data > 0.15 * np.percentile(t1.data, 99)
    if not head.any():
        raise DataError("no head is found in the T1", remedy="look at the image")
    centre, width, top = _cap(head, t1.affine, 50, 90)
    brain_centre, brain_width, brain_top = _cap(in_mask(brain.data), brain.affine, 40, 80)
    scale = (width - 2 * scalp_mm) / brain_width
    scale = np.array([*scale, scale.mean()])
    if not (scale > 0.3).all():
        raise DataError(
            "the head is too small to hold a brain",
            value=f"{width.round()} mm",
            remedy="look at the image and its voxel size",
        )
    start = np.diag([*scale, 1])
    start[:3, 3] = np.array([*centre, top - scalp_mm]) - scale * [*brain_centre, brain_top]
    return start


def _cap(mask: NDArray, affine: NDArray, upper_mm: float, lower_mm: float):
    """Centre and width (x, y) of a slab below the top of a mask, and the height of the top, in mm."""
    points = apply_affine(affine, np.argwhere(mask))
    top = np.percentile(points[:, 2], 99.9)
    slab = points[(points[:, 2] > top - lower_mm) & (points[:, 2] < top - upper_mm), :2]
    if not len(slab):
        raise DataError("the T1 covers too little of the head", remedy="look at the image")
    low, high = np.percentile(slab, [0.5, 99.5], axis=0)
    return (low + high) / 2, high - low, top
