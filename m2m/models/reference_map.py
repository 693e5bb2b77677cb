"""The map in template space that a trained model holds: its mean map, its atlas, or the prior of its network."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from m2m.io.volume import Volume, resample

# Names of the maps: of the families mean and atlas, and of a network's prior (`m2m.networks.slice_inputs.TemplateMap`).
MEAN, AFFINE = "mean", "affine"
PRIOR, TO_VOXEL = "inputs.prior.values", "inputs.prior.to_voxel"


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
