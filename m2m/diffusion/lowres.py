"""Low resolution: crop a map to the centre of its k-space, and interpolate it back to its grid.

A fast scan acquires only the centre of k-space. Cropping keeps the scale of the image: a uniform
image keeps its value.
"""

from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from m2m.io.errors import DataError
from m2m.io.volume import Volume, resample, same_space


def low_res_grid(
    affine: NDArray, shape: tuple[int, ...], factor: int
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Grid whose voxels are blocks of factor^3 voxels of another grid.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Of the fine grid.
    shape : (int, int, int)
        Of the fine grid; further axes are ignored.
    factor : int

    Returns
    -------
    affine : ndarray, shape (4, 4)
    shape : (int, int, int)
        Rounded up.
    """
    block = np.diag([factor, factor, factor, 1.0])
    block[:3, 3] = (factor - 1) / 2
    x, y, z = (-(-n // factor) for n in shape[:3])
    return affine @ block, (x, y, z)


def crop_kspace(volume: Volume, factor: int) -> Volume:
    """Crop an image to the centre of its k-space: 1 / `factor` of the frequencies along each axis.

    Parameters
    ----------
    volume : Volume, shape (X, Y, Z) or (X, Y, Z, channels)
        Padded by zeros to a multiple of the factor.
    factor : int

    Returns
    -------
    Volume
        On `low_res_grid`; at the centres of its voxels it has the values of the low-pass filtered
        image.
    """
    affine, shape = low_res_grid(volume.affine, volume.shape, factor)
    further = volume.data.shape[3:]
    full = np.zeros((*(factor * n for n in shape), *further), np.float32)
    full[tuple(slice(n) for n in volume.data.shape)] = volume.data
    k_space = np.fft.fftn(full, axes=(0, 1, 2))
    for axis, n in enumerate(shape):
        kept = np.rint(np.fft.fftfreq(n) * n).astype(int)  # indices of the frequencies that are kept
        k_space = np.take(k_space, kept, axis=axis)
        # The centre of a block is (factor - 1) / 2 voxels after that of its first voxel.
        phase = np.exp(1j * np.pi * kept * (factor - 1) / (factor * n)) / factor
        k_space = k_space * phase.reshape(-1, *[1] * (k_space.ndim - axis - 1))
    return Volume(np.fft.ifftn(k_space, axes=(0, 1, 2)).real.astype(np.float32), affine)


def enlarge(low: Volume, like: Volume, factor: int) -> Volume:
    """Interpolate a low-resolution FA map to the common grid by cubic splines.

    Parameters
    ----------
    low : Volume
        On the `low_res_grid` of the common grid, or shifted by at most one of its own voxels.
    like : Volume
        On the common grid.
    factor : int

    Returns
    -------
    Volume, shape (X, Y, Z)
        On the common grid, limited to 0..1.

    Raises
    ------
    DataError
        It is not one volume, is on another grid, has another factor, or is shifted by more; the
        message describes both grids.
    """
    affine, shape = low_res_grid(like.affine, like.shape, factor)
    found: dict[str, Any] = {"value": described(low.affine, low.data.shape)}
    wanted = f"the low-resolution grid of a factor of {factor}, {described(affine, shape)}"
    there = affine.copy()
    there[:3, 3] = low.affine[:3, 3]
    if low.data.shape != shape or not same_space(low.affine, there, shape):
        step = float(np.mean(low.spacing_mm / like.spacing_mm))
        along = (a[:3, :3] / np.linalg.norm(a[:3, :3], axis=0) for a in (low.affine, affine))
        degrees = np.degrees(np.arccos(np.prod(list(along), 0).sum(0).clip(-1, 1))).max()
        raise DataError(
            f"is not on {wanted}: its voxels are {step:.3g} times those of the common grid, its "
            f"axes are rotated by {degrees:.1f} degrees",
            remedy="give the map on that grid, or choose the task with the map's own factor",
            **found,
        )
    shift_mm = float(np.linalg.norm(low.affine[:3, 3] - affine[:3, 3]))
    if shift_mm > low.spacing_mm.max() + 1e-3:
        raise DataError(
            f"is shifted by {shift_mm:.1f} mm, more than a voxel, from {wanted}",
            remedy="register it to the T1 first",
            **found,
        )
    grid = resample(low, like.affine, like.shape, order=3)
    return Volume(grid.data.clip(0, 1).astype(np.float32), grid.affine)


def described(affine: NDArray, shape: tuple[int, ...]) -> str:
    """Describe a grid: number and size of voxels, directions of the axes, position of the first voxel."""
    size = " x ".join(f"{mm:.3g}" for mm in np.linalg.norm(affine[:3, :3], axis=0))
    first = ", ".join(f"{mm:.1f}" for mm in affine[:3, 3])
    return (
        f"{' x '.join(map(str, shape))} voxels of {size} mm along {''.join(aff2axcodes(affine))}, "
        f"the first at ({first}) mm"
    )
