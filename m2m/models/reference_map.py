"""The map in template space that a trained model holds: its mean map, its atlas, or the prior of its network."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from m2m.io.volume import Volume

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
