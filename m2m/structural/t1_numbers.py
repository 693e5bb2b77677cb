"""Numbers by which T1s on the common grid are compared: how like the template of a healthy adult they are.

They are of the scaled, brain-extracted T1 that models receive, so that a new T1 can be compared with those of the
participants whom a model was validated on. Tissues are those of the registered template.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from m2m.io.masks import in_mask
from m2m.io.volume import Volume, resample
from m2m.structural.displacement import jacobians
from m2m.structural.register import mutual_information
from m2m.structural.template import Tissue, load_template

# Spacing (mm) of the template's maps, and of the grid on which hemispheres are compared.
TISSUE_MM, MIRROR_MM = 2.0, 4.0
# Lowest probability of a tissue; standard deviation (mm) of the weights of a region.
SURE, REGION_MM = 0.8, 10.0


def t1_numbers(
    t1: Volume, brain: NDArray, to_mni: NDArray, displacement: NDArray[np.floating] | None = None
) -> dict[str, float]:
    """Measure a T1 on the common grid.

    Parameters
    ----------
    t1 : Volume
        Scaled, 0 outside the brain, shape (X, Y, Z).
    brain : ndarray of bool, shape (X, Y, Z)
    to_mni : ndarray, shape (4, 4)
        World mm to MNI152 mm.
    displacement : ndarray, shape (X, Y, Z, 3), or None
        From the T1 to the template, where it was deformed.

    Returns
    -------
    dict
        ``brain_volume_l``: litres. ``brain_overlap``: Dice coefficient of the brain and the template's.
        ``template_mi``: mutual information (nats) with the template's T1 inside both. ``tissue_contrast``: mean
        intensity of the template's white matter less that of its grey matter, in standard deviations inside them.
        ``asymmetry``: see `asymmetry`. With a displacement: ``deformed_mi``, mutual information after it, and
        ``jacobian_p1`` and ``jacobian_p99``, percentiles of its Jacobian determinant in the brain. Without one of the
        tissues, the first two.
    """

    def template(tissue: Tissue, displacement: NDArray | None = None) -> NDArray:
        return resample(load_template(tissue, TISSUE_MM), t1.affine, t1.shape, to_mni, 1, displacement).data

    head = in_mask(template("brain"))
    both = brain & head
    numbers = {
        "brain_volume_l": float(brain.sum() * np.prod(t1.spacing_mm) / 1e6),
        "brain_overlap": 2 * float(both.sum()) / float(brain.sum() + head.sum()),
    }
    grey, white = (t1.data[both & (template(tissue) > SURE)].astype(np.float64) for tissue in ("gm", "wm"))
    if not (grey.size and white.size):
        return numbers
    spread = np.sqrt((grey.var() + white.var()) / 2)
    numbers |= {
        "template_mi": mutual_information(Volume(template("t1"), t1.affine), t1, np.eye(4), both),
        "tissue_contrast": float((white.mean() - grey.mean()) / max(spread, 1e-6)),
        "asymmetry": asymmetry(t1, both, to_mni),
    }
    if displacement is not None:
        deformed = Volume(template("t1", displacement), t1.affine)
        determinant = np.linalg.det(jacobians(displacement, t1.affine))[brain]
        low, high = np.percentile(determinant, (1, 99))
        numbers["deformed_mi"] = mutual_information(deformed, t1, np.eye(4), both)
        numbers |= {"jacobian_p1": float(low), "jacobian_p99": float(high)}
    return numbers


def asymmetry(t1: Volume, brain: NDArray, to_mni: NDArray) -> float:
    """Largest difference of intensity between a region of one hemisphere and its mirror image in the other.

    Parameters
    ----------
    t1 : Volume
    brain : ndarray of bool, shape (X, Y, Z)
    to_mni : ndarray, shape (4, 4)
        World mm to MNI152 mm; the template is symmetric.

    Returns
    -------
    float
        Of means with Gaussian weights of `REGION_MM`, over voxels that are in the brain on both sides.
    """
    grid = load_template("brain", MIRROR_MM)
    pair = Volume(np.stack([np.where(brain, t1.data, 0), brain], axis=-1).astype(np.float32), t1.affine)
    from_mni = np.linalg.inv(to_mni)
    sides = [resample(pair, grid.affine, grid.shape, from_mni @ np.diag([x, 1, 1, 1])).data for x in (1.0, -1.0)]
    both = in_mask(sides[0][..., 1]) & in_mask(sides[1][..., 1])
    difference = np.where(both, sides[0][..., 0] - sides[1][..., 0], 0)
    return float(np.abs(ndimage.gaussian_filter(difference, REGION_MM / MIRROR_MM)).max())
