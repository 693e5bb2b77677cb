"""Is it a T1 of a whole adult brain? Contrast and field of view, by the template's tissues.

Whether a child's or a lesioned brain is what the model was trained on cannot be told from
the image: the model card says so.
"""

from collections.abc import Mapping

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from m2m.io.errors import DataError
from m2m.io.volume import Volume, resample
from m2m.structural.anat import MASK_MM, REFINE_MM, Anatomy
from m2m.structural.template import load_template

# Tissue is where the template is so sure of it; fluid is so far (mm) below the brain's surface.
SURE, FLUID, DEEP_MM = 0.8, 0.3, 20.0
# Of what lies where the template has its ventricles, fluid is the darkest: many have smaller ones.
FLUID_PERCENTILE = 20
# Of a T1: fluid and grey matter over white matter, at most; grey over white, at least.
MAX_FLUID, MAX_GREY, MIN_GREY = 0.8, 0.95, 0.45
# Part of the template's brain that the image must cover.
MIN_COVERED = 0.9


def contrast(t1: Volume, anatomy: Anatomy) -> dict[str, float]:
    """Measure an image's contrast and field of view.

    Parameters
    ----------
    t1 : Volume
        On its own voxels.
    anatomy : Anatomy
        Of that image.

    Returns
    -------
    dict
        Over the median in the registered template's white matter: ``FluidOverWhite``, the 20th
        percentile in its ventricles, ``DeepOverWhite``, their median, which in small ones is of
        what is around them, and ``GreyOverWhite``, the median in its grey matter; ``CoveredBrain``,
        the part of the template's brain inside the field of view.

    Raises
    ------
    DataError
        One of the tissues is not there.
    """
    there = anatomy.t1
    grey, white, head = (
        resample(load_template(name, MASK_MM), there.affine, there.shape, anatomy.grid_to_mni).data
        for name in ("gm", "wm", "brain")
    )
    deep = ndimage.distance_transform_edt(head > 0.5) * there.spacing_mm.mean() > DEEP_MM
    fluid = deep & (grey + white < FLUID)
    tissues = ((fluid, FLUID_PERCENTILE), (fluid, 50), (grey > SURE, 50), (white > SURE, 50))
    *levels, base = (_level(there.data, anatomy.brain.data & tissue, q) for tissue, q in tissues)
    ratios = [round(level / base, 4) for level in levels]
    return {
        "FluidOverWhite": ratios[0],
        "DeepOverWhite": ratios[1],
        "GreyOverWhite": ratios[2],
        "CoveredBrain": round(covered(t1, anatomy.grid_to_mni), 4),
    }


def _level(image: NDArray, mask: NDArray, percentile: float) -> float:
    """Percentile inside a mask, above 0."""
    level = float(np.percentile(image[mask], percentile)) if mask.any() else 0.0
    if not level > 0:
        raise DataError(
            "ventricles, grey or white matter are not found in the T1", remedy="look at the image"
        )
    return level


def covered(t1: Volume, to_mni: NDArray) -> float:
    """Part of the template's brain, 0 to 1, that lies inside an image's field of view."""
    brain = load_template("brain", REFINE_MM)
    points = apply_affine(brain.affine, np.argwhere(brain.data > 0))
    index = apply_affine(np.linalg.inv(t1.affine) @ np.linalg.inv(to_mni), points)
    inside = (index >= -0.5) & (index <= np.array(t1.shape) - 0.5)
    return float(inside.all(axis=1).mean())


def require_t1(numbers: Mapping[str, float], excluded: list[str]) -> None:
    """Refuse what is no T1 of a whole adult brain.

    Parameters
    ----------
    numbers : mapping
        Of `contrast`.
    excluded : list of str
        Reasons of `anat.prepare`.

    Raises
    ------
    DataError
        With the value found.
    """
    fluid, deep, grey = (numbers[f"{name}OverWhite"] for name in ("Fluid", "Deep", "Grey"))
    if numbers["CoveredBrain"] < MIN_COVERED:
        raise DataError(
            "the field of view is too small: it misses a part of the brain",
            value=f"{numbers['CoveredBrain']:.2f} of the template's brain covered",
            remedy="the models are trained on whole brains: give a whole one",
        )
    if fluid > MAX_FLUID or not MIN_GREY < grey < MAX_GREY or deep > grey:
        raise DataError(
            "is no T1 by its contrast: fluid must be darkest and white matter brightest",
            value=f"fluid {fluid:.2f}, the ventricles' median {deep:.2f} and grey matter "
            f"{grey:.2f} of white matter's intensity",
            remedy="give a T1-weighted image of an adult, not a T2, a b0 or a map",
        )
    if excluded:
        raise DataError("; ".join(excluded), remedy="look at the image, or give --brain")
