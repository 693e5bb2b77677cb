"""Check that an image is a T1 of a whole adult brain: contrast and field of view.

Tissues are those of the registered template. These limits are the same for every model. How far a T1 is from
those that a model was validated on, as with a lesion, is a warning of `m2m.models.validation_range`.
"""

from collections.abc import Mapping

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from scipy import ndimage

from m2m.io.errors import DataError
from m2m.io.masks import in_mask
from m2m.io.volume import Volume, resample
from m2m.structural.anat import MASK_MM, Anatomy
from m2m.structural.template import load_template
from m2m.structural.template_search import REFINE_MM

# Lowest probability of tissue, highest of both tissues in fluid, depth (mm) of fluid below the surface.
SURE, FLUID, DEEP_MM = 0.8, 0.3, 20.0
# Fluid is the darkest part of the template's ventricles: a participant's may be smaller.
FLUID_PERCENTILE = 20
# Limits for a T1: fluid and grey over white matter at most; grey over white matter at least.
MAX_FLUID, MAX_GREY, MIN_GREY = 0.8, 0.95, 0.45
# Fraction of the template's brain that the image must cover.
MIN_COVERED = 0.9


def contrast(t1: Volume, anatomy: Anatomy) -> dict[str, float]:
    """Measure an image's contrast and field of view.

    Parameters
    ----------
    t1 : Volume
        The image as given.
    anatomy : Anatomy
        Of this image.

    Returns
    -------
    dict
        Ratios to the median in the registered template's white matter: ``FluidOverWhite`` (20th
        percentile in its ventricles), ``DeepOverWhite`` (median in its ventricles; for small
        ventricles, of the tissue around them) and ``GreyOverWhite`` (median in its grey matter).
        ``CoveredBrain``: fraction of the template's brain inside the field of view.

    Raises
    ------
    DataError
        One of the tissues is not found.
    """
    conformed = anatomy.t1
    grey, white, head = (
        resample(load_template(name, MASK_MM), conformed.affine, conformed.shape, anatomy.grid_to_mni).data
        for name in ("gm", "wm", "brain")
    )
    deep = ndimage.distance_transform_edt(head > 0.5) * conformed.spacing_mm.mean() > DEEP_MM
    fluid = deep & (grey + white < FLUID)
    tissues = ((fluid, FLUID_PERCENTILE), (fluid, 50), (grey > SURE, 50), (white > SURE, 50))
    *levels, base = (_level(conformed.data, anatomy.brain.data & tissue, q) for tissue, q in tissues)
    ratios = [round(level / base, 4) for level in levels]
    return {
        "FluidOverWhite": ratios[0],
        "DeepOverWhite": ratios[1],
        "GreyOverWhite": ratios[2],
        "CoveredBrain": round(covered(t1, anatomy.grid_to_mni), 4),
    }


def _level(image: NDArray, mask: NDArray, percentile: float) -> float:
    """Percentile of the intensities inside a mask; DataError unless it is above 0."""
    level = float(np.percentile(image[mask], percentile)) if mask.any() else 0.0
    if not level > 0:
        raise DataError("ventricles, grey or white matter are not found in the T1", remedy="check the image")
    return level


def covered(t1: Volume, to_mni: NDArray) -> float:
    """Fraction of the template's brain, 0 to 1, inside the field of view of an image."""
    brain = load_template("brain", REFINE_MM)
    points = apply_affine(brain.affine, np.argwhere(in_mask(brain.data)))
    index = apply_affine(np.linalg.inv(t1.affine) @ np.linalg.inv(to_mni), points)
    inside = (index >= -0.5) & (index <= np.array(t1.shape) - 0.5)
    return float(inside.all(axis=1).mean())


def require_t1(numbers: Mapping[str, float], excluded: list[str]) -> None:
    """Check that an image is a T1 of a whole adult brain.

    Parameters
    ----------
    numbers : mapping
        Of `contrast`.
    excluded : list of str
        Reasons for exclusion of `anat.prepare`.

    Raises
    ------
    DataError
        It is not, with the measured value.
    """
    fluid, deep, grey = (numbers[f"{name}OverWhite"] for name in ("Fluid", "Deep", "Grey"))
    if numbers["CoveredBrain"] < MIN_COVERED:
        raise DataError(
            "the field of view is too small: it does not cover the whole brain",
            value=f"{numbers['CoveredBrain']:.2f} of the template's brain covered",
            remedy="give an image of the whole brain, as the models were trained on",
        )
    if fluid > MAX_FLUID or not MIN_GREY < grey < MAX_GREY or deep > grey:
        raise DataError(
            "is not a T1 by its contrast: fluid must be darkest and white matter brightest",
            value=f"fluid {fluid:.2f}, the ventricles' median {deep:.2f} and grey matter "
            f"{grey:.2f} of the intensity of white matter",
            remedy="give a T1-weighted image of an adult, not a T2, a b0 or a map",
        )
    if excluded:
        raise DataError("; ".join(excluded), remedy="check the image, or give --brain")
