"""What a model that is fitted at once may look at of a person, each image read when asked for."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2m.io.volume import Volume


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A person to predict.

    Attributes
    ----------
    affine, shape
        Of the common grid: ndarray (4, 4) to world mm, and (X, Y, Z).
    to_mni : ndarray, shape (4, 4)
        World mm to MNI152 mm.
    source : callable
        Gives the source (X, Y, Z), scaled, 0 outside the brain.
    low : callable
        Gives the target at low resolution, enlarged to the grid, where the family sees it.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    to_mni: NDArray[np.float64]
    source: Callable[[], NDArray[np.float32]]
    low: Callable[[], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Known(Seen):
    """A person to learn from.

    Attributes
    ----------
    target : callable
        Gives the scaled target, (X, Y, Z) or (X, Y, Z, C).
    mask : callable
        Gives where it was measured, boolean (X, Y, Z).
    """

    target: Callable[[], Volume]
    mask: Callable[[], NDArray[np.bool_]]
