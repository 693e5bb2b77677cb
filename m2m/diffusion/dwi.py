"""Diffusion series: gradients in world axes, choice of shells, brain mask.

A gradient direction and all that is fitted from it (V1, tensor) lives in world axes, RAS+:
x to the right, y to the front, z up, as in MRtrix3. FSL's files are in the image's own axes.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from dipy.segment.mask import median_otsu
from numpy.typing import NDArray
from scipy import linalg, ndimage
from skimage.filters import threshold_otsu

from m2m.diffusion import fsl
from m2m.io import volume
from m2m.io.errors import DataError, unreadable
from m2m.io.volume import Volume

# Scanners write a few s/mm2 where nothing but the imaging gradients weighted the signal.
B0_S_PER_MM2 = 50.0
# Volumes whose b-values differ by less belong to one shell; scanners scatter by some tens.
SHELL_GAP_S_PER_MM2 = 100.0
# Length of a unit vector in a text file of few decimals; as in the checks of the cohort.
UNIT_TOLERANCE = 0.02
# Below this number of directions eddy's authors advise a linear model of its fields over them.
FEW_DIRECTIONS = 60
# Receive fields vary over half a head, tissue over less.
BIAS_SIGMA_MM = 25.0


@dataclass(frozen=True)
class Dwi:
    """A diffusion series.

    Attributes
    ----------
    volume : Volume
        Signal, shape (X, Y, Z, N).
    bvals : ndarray, shape (N,)
        s/mm2.
    bvecs : ndarray, shape (N, 3)
        World axes, RAS+; unit vectors, zero where the file has no direction (b = 0).
    """

    volume: Volume
    bvals: NDArray[np.float64]
    bvecs: NDArray[np.float64]


@contextmanager
def findings_about(path: str | Path) -> Iterator[None]:
    """Let a finding that names no file name this one."""
    try:
        yield
    except DataError as error:
        error.file = error.file or str(path)
        raise


def load(dwi: str | Path, bval: str | Path, bvec: str | Path) -> Dwi:
    """Load a diffusion series and its gradients in FSL's format.

    Raises
    ------
    DataError
        A file cannot be used, or the three do not belong together.
    """
    bvals, bvecs = read_gradients(bval, bvec)
    series = volume.load(dwi)
    if series.data.ndim != 4 or series.data.shape[3] != len(bvals):
        raise DataError(
            f"is not a series of as many volumes as there are b-values ({len(bvals)})",
            file=dwi,
            value=series.data.shape,
            remedy="export image and gradients again from one source",
        )
    return Dwi(series, bvals, bvecs @ fsl_axes(series.affine).T)


def read_gradients(
    bval: str | Path, bvec: str | Path
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read b-values and directions from FSL's text files, in FSL's axes.

    Returns
    -------
    bvals : ndarray, shape (N,)
    bvecs : ndarray, shape (N, 3)
        Unit or zero vectors; see `fsl_axes` for their axes.

    Raises
    ------
    DataError
        Not numbers, wrong shape, negative b, or a weighting along other than a unit vector.
    """
    bvals, bvecs = _read_numbers(bval).ravel(), _read_numbers(bvec)
    if bvecs.shape != (3, len(bvals)):
        raise DataError(
            f"must have three rows of {len(bvals)} numbers, one column per b-value",
            file=bvec,
            value=f"{bvecs.shape[0]} x {bvecs.shape[1]}",
            remedy="write x, y and z as rows, or export the gradients again",
        )
    if (bvals < 0).any():
        raise DataError("has a negative b-value", file=bval, value=bvals.min(), remedy="correct it")
    length = np.linalg.norm(bvecs, axis=0)
    off = (np.abs(length - 1) > UNIT_TOLERANCE) & (length > 0) & (bvals > B0_S_PER_MM2)
    if off.any():
        raise DataError(
            "has directions that are not unit vectors",
            file=bvec,
            value=f"length {length[off][0]:.3f} in volume {np.flatnonzero(off)[0]}",
            remedy="normalise them, and put scaled b-values into the bval file",
        )
    return bvals, (bvecs / np.where(length > 0, length, 1)).T


def _read_numbers(path: str | Path) -> NDArray[np.float64]:
    """Matrix of finite numbers in a text file."""
    try:
        numbers = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise unreadable(error, "cannot be read as numbers", path, "export it again") from error
    if not np.isfinite(numbers).all() or numbers.size == 0:
        raise DataError(
            "holds NaN, infinity or nothing", file=path, remedy="export the gradients again"
        )
    return numbers


def fsl_axes(affine: NDArray) -> NDArray[np.float64]:
    """Axes of FSL's b-vectors as columns in world coordinates, shape (3, 3), orthonormal.

    FSL's directions follow the voxel axes, but the first is reversed where the affine's
    determinant is positive (neurological storage).

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        A sheared one gives its nearest rotation.

    References
    ----------
    FSL, FDT user guide, "What conventions do the bvecs use?";
    Jenkinson et al. (2012), NeuroImage 62:782, https://doi.org/10.1016/j.neuroimage.2011.09.015
    """
    linear = np.asarray(affine, dtype=np.float64)[:3, :3]
    axes, _ = linalg.polar(linear / np.linalg.norm(linear, axis=0))
    if np.linalg.det(linear) > 0:
        axes[:, 0] *= -1
    return axes


def mean_b0(series: Dwi, threshold: float = B0_S_PER_MM2) -> Volume:
    """Mean of the volumes with b up to a threshold in s/mm2.

    Raises
    ------
    DataError
        There is none.
    """
    b0 = series.bvals <= threshold
    if not b0.any():
        raise DataError(
            "has no b = 0 volume",
            value=f"lowest b {series.bvals.min():g}",
            remedy="raise dti.b0_threshold_s_per_mm2 if the lowest shell stands for it",
        )
    return Volume(series.volume.data[..., b0].mean(axis=-1), series.volume.affine)


def spans_tensor(bvecs: NDArray) -> bool:
    """Whether directions, shape (N, 3), determine all six elements of a tensor."""
    x, y, z = bvecs.T
    quadratic = np.column_stack([x * x, y * y, z * z, x * y, x * z, y * z])
    return len(bvecs) >= 6 and np.linalg.matrix_rank(quadratic, tol=1e-3) == 6


def volumes_to_fit(
    bvals: NDArray, bvecs: NDArray, b0_threshold: float, max_b: float
) -> NDArray[np.bool_]:
    """Choose volumes for a tensor fit: b = 0 and the shells up to `max_b`.

    Where these do not determine a tensor, the next shells above are taken, lowest first,
    until they do.

    Parameters
    ----------
    bvals : ndarray, shape (N,)
    bvecs : ndarray, shape (N, 3)
    b0_threshold, max_b : float
        s/mm2.

    Returns
    -------
    ndarray of bool, shape (N,)

    Raises
    ------
    DataError
        Too few directions in all shells together.
    """
    b0 = bvals <= b0_threshold
    levels = np.sort(bvals[~b0])
    tops = [shell[-1] for shell in np.split(levels, _gaps(levels)) if len(shell)]
    for limit in [max_b, *(top for top in tops if top > max_b)]:
        chosen = ~b0 & (bvals <= limit)
        if spans_tensor(bvecs[chosen]):
            return b0 | chosen
    raise DataError(
        "has too few different directions for a tensor",
        value=int((~b0).sum()),
        remedy="six directions, not in one plane, are the least",
    )


def _gaps(levels: NDArray) -> NDArray[np.intp]:
    """Where one shell ends and the next begins among sorted b-values."""
    return np.flatnonzero(np.diff(levels) > SHELL_GAP_S_PER_MM2) + 1


def brain_mask(
    b0: NDArray, weighted: NDArray, affine: NDArray, median_radius: int, passes: int
) -> NDArray[np.bool_]:
    """Brain by median Otsu on b = 0 and diffusion-weighted signal together.

    The two are added, each in units of its mean over its bright part (CSF is bright in one,
    tissue in the other), and divided by the smooth receive field. What comes out of Otsu's
    threshold is opened, so that eyes and muscles fall off, cut to its largest piece, closed,
    and its holes are filled, in 3D and in each axial slice.

    Parameters
    ----------
    b0, weighted : ndarray, shape (X, Y, Z)
        Mean signal without and with diffusion weighting, not negative.
    affine : ndarray, shape (4, 4)
    median_radius : int
        Of the median filter, voxels.
    passes : int
        Of the median filter.

    References
    ----------
    Otsu (1979), IEEE Trans SMC 9:62, https://doi.org/10.1109/TSMC.1979.4310076;
    Garyfallidis et al. (2014), Front Neuroinform 8:8, https://doi.org/10.3389/fninf.2014.00008
    """
    image = _flat(_in_units_of_tissue(b0) + _in_units_of_tissue(weighted), affine)
    box = _box(image > threshold_otsu(image), margin=median_radius + 1)
    mask = np.zeros(image.shape, dtype=bool)
    _, mask[box] = median_otsu(image[box], median_radius=median_radius, numpass=passes)
    # A brain that the field of view cuts goes on outside it.
    mask = _largest_piece(ndimage.binary_opening(np.pad(mask, 2, mode="edge")))
    mask = ndimage.binary_closing(mask, iterations=2)[2:-2, 2:-2, 2:-2]
    mask = ndimage.binary_fill_holes(mask)
    upward = int(np.abs(affine[2, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax())
    slices = [ndimage.binary_fill_holes(plane) for plane in np.moveaxis(mask, upward, 0)]
    return np.moveaxis(np.stack(slices), 0, upward)


def _in_units_of_tissue(image: NDArray) -> NDArray:
    """Divide by the mean of the voxels above Otsu's threshold; a constant image by itself."""
    bright = image > threshold_otsu(image)
    scale = float(image[bright].mean()) if bright.any() else float(image.max())
    return image / scale if scale > 0 else image


def _flat(image: NDArray, affine: NDArray) -> NDArray:
    """Divide by the receive field: the mean of the bright voxels nearby."""
    bright = (image > threshold_otsu(image)).astype(np.float32)
    sigma = BIAS_SIGMA_MM / np.linalg.norm(affine[:3, :3], axis=0)
    blur = {"sigma": sigma, "mode": "constant", "truncate": 3.0}
    share = ndimage.gaussian_filter(bright, **blur)
    field = ndimage.gaussian_filter(image * bright, **blur)
    near = share > 1e-3
    return np.divide(image * share, field, out=np.zeros_like(image), where=near)


def _box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """Box around a mask, `margin` voxels wider on each side; all of an empty one."""
    if not mask.any():
        return tuple(slice(0, n) for n in mask.shape)
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Largest connected piece; an empty mask stays empty."""
    labels, n = ndimage.label(mask)
    if n == 0:
        return mask
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax()


def eddy_model(bvals: NDArray) -> Literal["none", "linear"]:
    """Eddy's ``--slm``: a linear model where directions are few.

    References
    ----------
    FSL, eddy user guide, ``--slm``
    """
    return "linear" if (bvals > B0_S_PER_MM2).sum() < FEW_DIRECTIONS else "none"


def bet_mask(b0: Volume, fraction: float) -> NDArray[np.bool_]:
    """Brain by FSL's bet.

    Parameters
    ----------
    b0 : Volume
    fraction : float
        0 to 1; smaller gives a larger brain.

    Raises
    ------
    ProgramError
        FSL is not there, or bet failed.

    References
    ----------
    Smith (2002), Hum Brain Mapp 17:143, https://doi.org/10.1002/hbm.10062
    """
    with tempfile.TemporaryDirectory(prefix="m2m-bet-") as scratch:
        image, out = Path(scratch, "b0.nii.gz"), Path(scratch, "brain")
        volume.save(image, b0)
        fsl.bet(image, out, fraction=fraction)
        return volume.load(f"{out}_mask.nii.gz").data > 0
