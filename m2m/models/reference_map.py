"""Maps in template space: those that trained models hold (mean map, atlas, prior of a network), and given ones."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2m.io.errors import DataError
from m2m.io.modalities import Modality
from m2m.io.volume import Volume, blur_to, load, resample
from m2m.structural.template import load_template

# Names of the maps: of the families mean and atlas, and of a network's prior (`m2m.networks.slice_inputs.TemplateMap`).
MEAN, AFFINE = "mean", "affine"
PRIOR, TO_VOXEL = "inputs.prior.values", "inputs.prior.to_voxel"
# Least fraction of the template's brain in which a given map must differ from 0.
FILLED = 0.5


def reference_map(tensors: Mapping[str, NDArray]) -> Volume | None:
    """Find the map of a model.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Its weights.

    Returns
    -------
    Volume or None
        Scaled, in MNI152 mm, (X, Y, Z) or (X, Y, Z, channels); None where the model holds none.
    """
    if {MEAN, AFFINE} <= tensors.keys():
        return Volume(tensors[MEAN], tensors[AFFINE].astype(np.float64))
    if {PRIOR, TO_VOXEL} <= tensors.keys():
        values = np.moveaxis(tensors[PRIOR], 0, -1)
        data = values[..., 0] if values.shape[-1] == 1 else values
        return Volume(data, np.linalg.inv(tensors[TO_VOXEL].astype(np.float64)))
    return None


def deformed_map(
    tensors: Mapping[str, NDArray], affine: NDArray, to_mni: NDArray, displacement: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Resample the map of a model to a participant's grid by the deformation of the template to the T1.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        Weights of a model with a map of one channel.
    affine : ndarray, shape (4, 4)
        Of the grid, from voxels to world mm.
    to_mni : ndarray, shape (4, 4)
        From world mm to MNI152 mm.
    displacement : ndarray, shape (X, Y, Z, 3)
        From the T1 to the template, on the same grid, world mm.

    Returns
    -------
    ndarray, shape (X, Y, Z)
        Scaled; 0 outside the map.
    """
    found = reference_map(tensors)
    assert found is not None, "only a model that holds a map deforms it"
    return resample(found, affine, displacement.shape[:3], to_mni, 1, displacement).data


def given_map(path: Path, spacing_mm: float, target: Modality) -> NDArray[np.float32]:
    """Load a map in template space and resample it to the grid of the template.

    Parameters
    ----------
    path : Path
        NIfTI, MNI152 mm, in the unit of the target.
    spacing_mm : float
        Of the grid.
    target : Modality

    Returns
    -------
    ndarray, shape (X, Y, Z)
        Scaled; 0 outside the map.

    Raises
    ------
    DataError
        The target is no scalar map, or the file is no such map of the template's brain.
    """
    if target.nature != "scalar":
        raise DataError(
            f"a reference map stands for scalar maps only, not for {target.title}",
            file=path,
            value=f"a {target.nature}",
            remedy="omit the option that names it: the mean of the training participants is then used",
        )
    template, found = load_template("brain", spacing_mm), load(path)
    if found.data.size != np.prod(found.shape):
        raise DataError(
            "the reference map is not a three-dimensional volume",
            file=path,
            value=found.data.shape,
            remedy="give one scalar map",
        )
    low, high = target.limits
    scaled = target.scale(found.data)
    if not low <= scaled.min() <= scaled.max() <= high:
        raise DataError(
            f"the reference map is not {target.title}: scaled, it exceeds {low:g} to {high:g}",
            file=path,
            value=f"{found.data.min():g} to {found.data.max():g}",
            remedy=f"give {target.title} in its unit",
        )
    on_grid = resample(blur_to(found, spacing_mm), template.affine, template.shape).data
    filled = float((on_grid[template.data > 0] != 0).mean())
    if filled < FILLED:
        raise DataError(
            "the reference map does not cover the brain of MNI152",
            file=path,
            value=f"{filled:.2f} of the brain is not 0, below {FILLED:g}",
            remedy="give a map that was registered to MNI152",
        )
    return target.scale(on_grid).astype(np.float32)
