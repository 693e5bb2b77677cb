"""Low resolution: the middle of a map's k-space, and back to the grid it came from.

A fast scan measures the middle of k-space. What is cut out of it keeps the scale of the image: a
uniform image stays what it was.
"""

from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from m2m.io.errors import DataError
from m2m.io.volume import Volume, resample


def low_grid(
    affine: NDArray, shape: tuple[int, ...], ratio: int
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Affine and shape of the grid whose voxels are blocks of ratio^3 voxels of another one."""
    block = np.diag([ratio, ratio, ratio, 1.0])
    block[:3, 3] = (ratio - 1) / 2
    return affine @ block, tuple(-(-n // ratio) for n in shape[:3])


def crop_kspace(volume: Volume, ratio: int) -> Volume:
    """Keep the middle of k-space: one in `ratio` frequencies along each axis.

    Parameters
    ----------
    volume : Volume, shape (X, Y, Z) or (X, Y, Z, channels)
        Filled up by zeros to a multiple of the ratio.
    ratio : int

    Returns
    -------
    Volume
        On `low_grid`; at its voxels' centres it has the values of the image without its higher
        frequencies.
    """
    affine, shape = low_grid(volume.affine, volume.shape, ratio)
    further = volume.data.shape[3:]
    full = np.zeros((*(ratio * n for n in shape), *further), np.float32)
    full[tuple(slice(n) for n in volume.data.shape)] = volume.data
    k_space = np.fft.fftn(full, axes=(0, 1, 2))
    for axis, n in enumerate(shape):
        numbers = np.rint(np.fft.fftfreq(n) * n).astype(int)  # of the frequencies that are kept
        k_space = np.take(k_space, numbers, axis=axis)
        # Centres of blocks lie half a block behind the centres of their first voxels.
        phase = np.exp(1j * np.pi * numbers * (ratio - 1) / (ratio * n)) / ratio
        k_space = k_space * phase.reshape(-1, *[1] * (k_space.ndim - axis - 1))
    return Volume(np.fft.ifftn(k_space, axes=(0, 1, 2)).real.astype(np.float32), affine)


def enlarge(low: Volume, like: Volume, ratio: int) -> Volume:
    """Bring a low-resolution FA to the common grid, by cubic splines, 0 to 1.

    Parameters
    ----------
    low : Volume
        On the grid's `low_grid`, or shifted from it by at most one of its own voxels.
    like : Volume
        On the common grid.
    ratio : int

    Raises
    ------
    DataError
        It is not one volume, lies on another grid, has another ratio, or is shifted by more; both
        grids are named.
    """
    affine, shape = low_grid(like.affine, like.shape, ratio)
    found: dict[str, Any] = {"value": described(low.affine, low.data.shape)}
    wanted = f"the low-resolution grid that a ratio of {ratio} asks for, {described(affine, shape)}"
    if low.data.shape != shape or not np.allclose(low.affine[:3, :3], affine[:3, :3], atol=1e-3):
        step = float(np.mean(low.spacing_mm / like.spacing_mm))
        along = (a[:3, :3] / np.linalg.norm(a[:3, :3], axis=0) for a in (low.affine, affine))
        degrees = np.degrees(np.arccos(np.prod(list(along), 0).sum(0).clip(-1, 1))).max()
        raise DataError(
            f"is not on {wanted}: its voxels are {step:.3g} times those of the common grid, its "
            f"axes are turned by {degrees:.1f} degrees",
            remedy="give the map on that grid, or choose the task of its own ratio", **found,
        )  # fmt: skip
    shift_mm = float(np.linalg.norm(low.affine[:3, 3] - affine[:3, 3]))
    if shift_mm > low.spacing_mm.max() + 1e-3:
        raise DataError(
            f"is shifted by {shift_mm:.1f} mm, more than a voxel, from {wanted}",
            remedy="register it to the T1 first", **found,
        )  # fmt: skip
    grid = resample(low, like.affine, like.shape, order=3)
    return Volume(grid.data.clip(0, 1).astype(np.float32), grid.affine)


def described(affine: NDArray, shape: tuple[int, ...]) -> str:
    """Name a grid: voxels, their size and the ends of their axes, and where the first one lies."""
    size = " x ".join(f"{mm:.3g}" for mm in np.linalg.norm(affine[:3, :3], axis=0))
    first = ", ".join(f"{mm:.1f}" for mm in affine[:3, 3])
    return (
        f"{' x '.join(map(str, shape))} voxels of {size} mm along {''.join(aff2axcodes(affine))}, "
        f"the first at ({first}) mm"
    )
