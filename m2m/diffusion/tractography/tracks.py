"""Inputs, seeds and results of whole-brain tracking, common to the backends.

Coordinates are in world mm and world axes, RAS+, of the tensor's image.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from dipy.tracking.streamline import length
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray

from m2m.diffusion import tensors
from m2m.diffusion.dwi import Dwi
from m2m.io.errors import DataError
from m2m.io.programs import Call

# Tolerance of a streamline's length.
ROUNDING_MM = 1e-3


@dataclass(frozen=True)
class Field:
    """Tensors, and their diffusion series if there is one, in which streamlines are tracked.

    Attributes
    ----------
    tensor : ndarray, shape (X, Y, Z, 6)
        mm2/s, world axes.
    mask : ndarray of bool, shape (X, Y, Z)
        Brain.
    affine : ndarray, shape (4, 4)
    series : Dwi or None
        Series of the tensor fit, on the same grid; unweighted volumes have b = 0. Without it, all
        models and algorithms follow the tensors.
    fitted : ndarray of bool, shape (N,), or None
        Volumes of the series that were used for the tensor fit.
    """

    tensor: NDArray
    mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    series: Dwi | None = None
    fitted: NDArray[np.bool_] | None = None

    @cached_property
    def fa(self) -> NDArray[np.float64]:
        """Fractional anisotropy, shape (X, Y, Z), 0 outside the mask."""
        fa = np.zeros(self.mask.shape)
        fa[self.mask] = tensors.measures(self.tensor[self.mask]).fa
        return fa

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel, mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


@dataclass(frozen=True)
class Anatomy:
    """Images for ACT, in the tensors' world space: a 5TT image, or the T1 to segment."""

    five_tissue: Path | None = None
    t1w: Path | None = None


@dataclass(frozen=True)
class Tractogram:
    """Streamlines, and the numbers that make their density comparable.

    Attributes
    ----------
    streamlines : ArraySequence
        World mm.
    n_seeds : int
    seeded_mm3 : float
        Volume of the voxels with seeds.
    n_dropped_short, n_dropped_long : int
        Seeds without a streamline, with one that is too short or that ACT rejected; and seeds with
        one that is too long.
    model, algorithm : str
        Those that were used.
    weights : ndarray, shape (len(streamlines),), or None
        Of SIFT2.
    sift2_mu : float or None
        Its proportionality coefficient.
    act : bool
        Whether tissue classes ended the streamlines.
    calls : sequence of Call
        Programs that ran.
    """

    streamlines: ArraySequence
    n_seeds: int
    seeded_mm3: float
    n_dropped_short: int
    n_dropped_long: int
    model: str
    algorithm: str
    weights: NDArray[np.float64] | None = None
    sift2_mu: float | None = None
    act: bool = False
    calls: Sequence[Call] = field(default=())


def where_to_seed(fa: NDArray, mask: NDArray[np.bool_], seed_fa: float) -> NDArray[np.bool_]:
    """Voxels of the mask whose FA is above a threshold.

    Parameters
    ----------
    fa : ndarray, shape (X, Y, Z)
    mask : ndarray of bool, shape (X, Y, Z)
    seed_fa : float

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)

    Raises
    ------
    DataError
        The mask is empty, FA is not within 0 and 1, or no voxel is above the threshold.
    """
    if not mask.any():
        raise DataError("has an empty brain mask", remedy="look at the series and its mask")
    inside = fa[mask]
    if not (np.isfinite(inside).all() and inside.min() >= 0 and inside.max() <= 1):
        raise DataError(
            "has FA that is NaN or not within 0 and 1",
            value=f"{inside.min():g} to {inside.max():g}",
            remedy="fit the tensors again",
        )
    seeded = mask & (fa > seed_fa)
    if not seeded.any():
        raise DataError(
            f"has no voxel with FA above {seed_fa:g} to seed in",
            value=f"at most {inside.max():.3f}",
            remedy="look at the FA map; lower tractography.seed_fa if it is right",
        )
    return seeded


def random_seeds(seeded: NDArray[np.bool_], per_voxel: int, affine: NDArray, seed: int) -> NDArray[np.float64]:
    """Draw random positions in each seeded voxel.

    Parameters
    ----------
    seeded : ndarray of bool, shape (X, Y, Z)
    per_voxel : int
    affine : ndarray, shape (4, 4)
    seed : int
        Of the random numbers.

    Returns
    -------
    ndarray, shape (voxels * per_voxel, 3)
        World mm; voxels in the order of `numpy.nonzero`, the seeds of each one after the other.
    """
    # DIPY's own function gives voxels of equal i + j + k the same positions inside the voxel.
    voxels = np.repeat(np.argwhere(seeded), per_voxel, axis=0)
    positions = voxels + np.random.default_rng(seed).random(voxels.shape) - 0.5
    return nib.affines.apply_affine(affine, positions)


def of_length(streamlines: ArraySequence, length_mm: tuple[float, float]) -> tuple[NDArray[np.bool_], int]:
    """Find the streamlines whose length is within limits, and count the longer ones.

    Raises
    ------
    DataError
        No streamline is left.
    """
    lengths = np.atleast_1d(length(streamlines)) if len(streamlines) else np.zeros(0)
    # The sum of the steps has a rounding error.
    low, high = length_mm[0] - ROUNDING_MM, length_mm[1] + ROUNDING_MM
    kept = (lengths >= low) & (lengths <= high)
    if not kept.any():
        raise DataError(
            f"has no streamline of {length_mm[0]:g} to {length_mm[1]:g} mm",
            value=f"{len(lengths)}, the longest {lengths.max(initial=0):.1f} mm",
            remedy="look at the FA map and V1; widen tractography.length_mm if they are right",
        )
    return kept, int((lengths > high).sum())
