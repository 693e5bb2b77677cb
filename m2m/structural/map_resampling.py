"""Resampling of diffusion maps to the common grid by a registration: scalar maps, tensors, tract density."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.streamlines import ArraySequence
from numpy.typing import NDArray

from m2m.diffusion import density
from m2m.diffusion.scales import log_tensor, tensor_of_log
from m2m.diffusion.tensors import nearest_rotation, rotate
from m2m.io.errors import DataError
from m2m.io.masks import in_mask
from m2m.io.programs import ProgramError
from m2m.io.volume import Volume, require_same_grid, resample_inside
from m2m.options.imaging_options import MAPPERS
from m2m.structural.register import Registration


@dataclass(frozen=True)
class Resampled:
    """Diffusion maps on the common grid.

    Attributes
    ----------
    fa : Volume
        0 outside the target mask.
    target : Volume
        Boolean: the part of the T1's brain that the diffusion series covers.
    registration : Registration
        T1 world mm to DWI world mm.
    displacement : ndarray, shape (X, Y, Z, 3), or None
        Of the non-linear registration, in world mm; None if there was none or it is not kept.
    syn : dict or None
        Mutual information before and after the non-linear registration, and whether it is kept.
    """

    fa: Volume
    target: Volume
    registration: Registration
    displacement: NDArray[np.float64] | None = None
    syn: dict[str, Any] | None = None


def resample_scalar(image: Volume, dwi_mask: Volume, resampled: Resampled) -> Volume:
    """Resample a scalar map to the common grid in the same way as FA: interpolated inside the mask.

    Parameters
    ----------
    image, dwi_mask : Volume
        On the diffusion grid.
    resampled : Resampled

    Returns
    -------
    Volume, shape (X, Y, Z)
        0 outside the target mask.
    """
    require_same_grid(image, dwi_mask, "map and the diffusion mask")
    inside = Volume(np.where(in_mask(dwi_mask.data), image.data, 0), image.affine)
    target, transform = resampled.target, resampled.registration.transform
    grid = (target.affine, target.shape, transform, resampled.displacement)
    on_grid, _ = resample_inside(inside, dwi_mask, *grid)
    return Volume(np.where(target.data, on_grid.data, 0), target.affine)


def resample_tensor(tensor: Volume, dwi_mask: Volume, resampled: Resampled) -> Volume:
    """Resample tensors to the common grid: interpolated as logarithms, rotated with the head.

    Parameters
    ----------
    tensor : Volume, shape (X, Y, Z, 6)
        mm2/s, world axes of the diffusion series. A voxel without a fit is isotropic.
    dwi_mask : Volume
        On the same grid.
    resampled : Resampled
        Without a non-linear registration.

    Returns
    -------
    Volume, shape (X, Y, Z, 6)
        World axes of the T1; positive definite inside the target mask, 0 outside.

    References
    ----------
    Alexander et al. (2001), IEEE TMI 20:1131, https://doi.org/10.1109/42.963816 (reorientation);
    Arsigny et al. (2006), MRM 56:411, https://doi.org/10.1002/mrm.20965.
    """
    target, transform = resampled.target, resampled.registration.transform
    logarithm = Volume(log_tensor(tensor.data), tensor.affine)
    grid = (target.affine, target.shape, transform)
    on_grid = resample_inside(logarithm, dwi_mask, *grid)[0].data
    rotation = nearest_rotation(transform[:3, :3]).T
    data = np.zeros_like(on_grid)
    data[target.data] = tensor_of_log(rotate(on_grid[target.data], rotation))
    return Volume(data, target.affine)


def resample_density(
    streamlines: ArraySequence, n_seeds: int, seeded_mm3: float, resampled: Resampled, method: str
) -> tuple[Volume, Volume]:
    """Transform streamlines to the T1 and compute their density on the common grid.

    Parameters
    ----------
    streamlines : ArraySequence
        DWI world mm.
    n_seeds : int
    seeded_mm3 : float
        As in `density.normalised`.
    resampled : Resampled
        Without a non-linear registration.
    method : str
        A key of `MAPPERS`.

    Returns
    -------
    tdi, count : Volume
        Tract density, and streamlines per voxel; 0 outside the target mask.

    Raises
    ------
    DataError
        No streamline crosses the target mask, or tckmap failed.
    """
    target, transform = resampled.target, resampled.registration.transform
    in_t1 = density.move(streamlines, np.linalg.inv(transform))
    map_of = MAPPERS[method].load()
    try:
        count = np.where(target.data, map_of(in_t1, target.affine, target.shape), 0)
    except ProgramError as error:
        raise DataError(str(error).splitlines()[0], remedy="see the log") from error
    if not count.any():
        raise DataError(
            "no streamline crosses the brain",
            value=f"{len(in_t1)} streamlines",
            remedy="look at the tractogram's figure and at the registration",
        )
    in_t1_mm3 = seeded_mm3 / abs(np.linalg.det(transform[:3, :3]))
    tdi = density.normalised(count, n_seeds, in_t1_mm3, target.affine)
    return Volume(tdi, target.affine), Volume(count, target.affine)
