"""Choice of the shell that fibre orientations are found in."""

import numpy as np
from numpy.typing import NDArray

from m2m.diffusion import dwi
from m2m.io.errors import DataError


def highest_shell(bvals: NDArray, bvecs: NDArray) -> NDArray[np.bool_]:
    """Volumes, shape (N,), of the highest shell whose directions determine a tensor.

    Raises
    ------
    DataError
        No shell has as many.
    """
    for top in np.sort(bvals[bvals > 0])[::-1]:
        shell = (bvals <= top) & (bvals > max(top - dwi.SHELL_GAP_S_PER_MM2, 0))
        if dwi.spans_tensor(bvecs[shell]):
            return shell
    raise DataError(
        "has too few directions in any one shell for fibre orientations",
        value=int((bvals > 0).sum()),
        remedy="track tensors: model tensor of dipy, or Tensor_Det of mrtrix3",
    )
