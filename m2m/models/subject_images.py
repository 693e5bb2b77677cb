"""Images of a subject for models that are fitted in closed form; each is read only when needed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.io.volume import Volume


@dataclass(frozen=True, kw_only=True)
class SubjectImages:
    """Images of a subject whose target is predicted.

    Attributes
    ----------
    affine : ndarray, shape (4, 4)
        Of the common grid, from voxels to world mm.
    shape : (int, int, int)
        Of the common grid.
    to_mni : ndarray, shape (4, 4)
        From world mm to MNI152 mm.
    source : callable
        Returns the source (X, Y, Z), scaled, 0 outside the brain.
    low_res : callable
        Returns the low-resolution target, interpolated to the grid, for families that need it.
    displacement : callable
        Returns the displacements (X, Y, Z, 3) from the T1 to the template, in world mm, to be added to the points of
        the grid before `to_mni` (`m2m.structural.displacement`), for families that use the deformation.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    to_mni: NDArray[np.float64]
    source: Callable[[], NDArray[np.float32]]
    low_res: Callable[[], NDArray[np.float32]]
    displacement: Callable[[], NDArray[np.floating]]


@dataclass(frozen=True, kw_only=True)
class TrainingImages(SubjectImages):
    """Images of a subject that a model is fitted to.

    Attributes
    ----------
    target : callable
        Returns the scaled target, (X, Y, Z) or (X, Y, Z, C); tensors along the axes of the grid.
    mask : callable
        Returns where the target was measured, boolean (X, Y, Z).
    inverse_displacement : callable
        Returns the displacements (X, Y, Z, 3) from the template to the T1, on the same grid, for the same families.
    """

    target: Callable[[], Volume]
    mask: Callable[[], NDArray[np.bool_]]
    inverse_displacement: Callable[[], Volume]
