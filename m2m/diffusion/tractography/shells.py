"""Choice of the shell for the estimation of fibre orientations."""

import numpy as np
from numpy.typing import NDArray

from m2m.io.bvalues import SHELL_GAP_S_PER_MM2, determine_tensor, distinct_directions, shell_values
from m2m.io.errors import DataError


def highest_shell(bvals: NDArray, bvecs: NDArray) -> NDArray[np.bool_]:
    """Volumes, shape (N,), of the highest shell whose directions determine a tensor.

    Raises
    ------
    DataError
        No shell has enough directions.
    """
    values = np.where(bvecs.any(axis=1), shell_values(bvals, 0), 0)
    for top in np.unique(values[values > 0])[::-1]:
        shell = (values <= top) & (values > max(top - SHELL_GAP_S_PER_MM2, 0))
        if determine_tensor(distinct_directions(bvecs[shell])):
            return shell
    raise DataError(
        "has too few directions in any one shell for fibre orientations",
        value=int((bvals > 0).sum()),
        remedy="use tensors: the model tensor of dipy, or Tensor_Det of mrtrix3",
    )
