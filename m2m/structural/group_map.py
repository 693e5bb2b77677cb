"""Registration of a group average of FA, near MNI152, to the tissues of the template."""

import numpy as np

from m2m.io.volume import Volume, resample
from m2m.options import Deformation
from m2m.structural.deformation import displacements
from m2m.structural.register import align
from m2m.structural.template import load_template

# Spacing of the registered map.
TEMPLATE_MM = 1.5
# What FA looks like in the tissues of the template, to which a map is registered.
WM, GM, REST = 0.45, 0.12, 0.05
# Of the map to these tissues: smoother updates and more of them made it agree less with measured FA.
TO_TISSUES = Deformation(iterations=(60, 30, 15), smooth_voxels=1.0)


def to_template(group: Volume) -> Volume:
    """Register a group average of FA to the template's tissues and resample it to the template's grid.

    Parameters
    ----------
    group : Volume
        FA of a group in some MNI152 space; its spaces differ by some mm.

    Returns
    -------
    Volume
        On the template's grid of `TEMPLATE_MM`; 0 outside the template's brain.
    """
    wm, gm, brain = (load_template(tissue, TEMPLATE_MM) for tissue in ("wm", "gm", "brain"))
    inside = brain.data > 0
    alike = Volume(np.where(inside, WM * wm.data + GM * gm.data + REST, 0).astype(np.float32), wm.affine)
    affine = align(alike, group, inside, "affine").transform
    grid = (alike.affine, alike.shape, affine, 1)
    forward, _ = displacements(alike, resample(group, *grid).data, inside, TO_TISSUES)
    return Volume(np.where(inside, resample(group, *grid, forward).data, 0).astype(np.float32), wm.affine)
