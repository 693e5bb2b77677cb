"""Diffusion series: gradients in world axes, choice of shells, brain mask.

Gradient directions, and what is fitted to them (V1, tensor), are in world axes, RAS+: x to the
right, y to the front, z up, as in MRtrix3. `m2m.diffusion.gradient_tables` finds the axes of a file.
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
from scipy import ndimage
from skimage.filters import threshold_otsu

from m2m.diffusion import fsl
from m2m.diffusion.gradient_tables import axes_of, read_gradients
from m2m.diffusion.unmeasured import mean_of_measured
from m2m.io import volume
from m2m.io.bvalues import B0_S_PER_MM2, B_TOLERANCE_S_PER_MM2, volumes_of_fit
from m2m.io.errors import DataError
from m2m.io.masks import in_mask
from m2m.io.volume import Volume

# Below this number of directions, eddy's authors advise a linear model of its fields.
FEW_DIRECTIONS = 60
# The receive field varies over about half a head, tissue over shorter distances.
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
    b0_threshold : float
        Largest b-value of an unweighted volume, s/mm2.
    axes : str
        Axes of the file's directions, in words.
    """

    volume: Volume
    bvals: NDArray[np.float64]
    bvecs: NDArray[np.float64]
    b0_threshold: float = B0_S_PER_MM2
    axes: str = "world"


@contextmanager
def findings_about(path: str | Path) -> Iterator[None]:
    """Add this file to a finding that names no file."""
    try:
        yield
    except DataError as error:
        error.file = error.file or str(path)
        raise


def load(dwi: str | Path, bval: str | Path, bvec: str | Path, b0_threshold: float = B0_S_PER_MM2) -> Dwi:
    """Load a diffusion series and its gradients.

    Parameters
    ----------
    dwi, bval, bvec : path
        Gradients in FSL's format, or MRtrix3's table (``.b``).
    b0_threshold : float
        Largest b-value of an unweighted volume, s/mm2.

    Returns
    -------
    Dwi

    Raises
    ------
    DataError
        A file cannot be used, or the three do not belong together.
    """
    bvals, bvecs = read_gradients(bval, bvec, b0_threshold)
    series = volume.load(dwi)
    if series.data.ndim != 4 or series.data.shape[3] != len(bvals):
        raise DataError(
            f"is not a series with one volume for each of the {len(bvals)} b-values",
            file=dwi,
            value=series.data.shape,
            remedy="export image and gradients again from one source",
        )
    axes = axes_of(bvec, series, bvals, bvecs, b0_threshold)
    return Dwi(series, bvals, bvecs @ axes.matrix.T, b0_threshold, axes.name)


def mean_b0(series: Dwi, unmeasured: NDArray[np.bool_] | None = None) -> Volume:
    """Mean of the unweighted volumes.

    Parameters
    ----------
    series : Dwi
    unmeasured : ndarray of bool, shape (X, Y, Z, N), optional
        Samples that are left out.

    Raises
    ------
    DataError
        There is no such volume.
    """
    b0 = series.bvals <= series.b0_threshold
    if not b0.any():
        raise DataError(
            "has no b = 0 volume",
            value=f"lowest b {series.bvals.min():g}",
            remedy="raise dti.b0_threshold_s_per_mm2 if the lowest shell can be used as b = 0",
        )
    data = series.volume.data[..., b0]
    mean = data.mean(axis=-1) if unmeasured is None else mean_of_measured(data, unmeasured[..., b0])
    return Volume(mean, series.volume.affine)


def volumes_to_fit(
    bvals: NDArray, bvecs: NDArray, b0_threshold: float, max_b: float, tolerance: float = B_TOLERANCE_S_PER_MM2
) -> NDArray[np.bool_]:
    """Choose volumes for a tensor fit: b = 0 and the shells up to `max_b` (`m2m.io.bvalues.volumes_of_fit`).

    Parameters
    ----------
    bvals : ndarray, shape (N,)
    bvecs : ndarray, shape (N, 3)
    b0_threshold, max_b, tolerance : float
        s/mm2.

    Returns
    -------
    ndarray of bool, shape (N,)

    Raises
    ------
    DataError
        All shells together have too few directions.
    """
    chosen = volumes_of_fit(bvals, bvecs, b0_threshold, max_b, tolerance)
    if chosen is None:
        raise DataError(
            "has too few different directions for a tensor",
            value=int((bvals > b0_threshold).sum()),
            remedy="give at least six directions that are not in one plane",
        )
    return chosen


def brain_mask(b0: NDArray, weighted: NDArray, affine: NDArray, median_radius: int, passes: int) -> NDArray[np.bool_]:
    """Brain mask by median Otsu of the b = 0 and the diffusion-weighted signal together.

    The two are added, each divided by its mean over its bright part (CSF is bright in the first,
    tissue in the second), and divided by the smooth receive field. The thresholded image is opened,
    which removes eyes and muscles; its largest component is closed, and holes are filled, in 3D and
    in each axial slice.

    Parameters
    ----------
    b0, weighted : ndarray, shape (X, Y, Z)
        Mean signal without and with diffusion weighting, not negative.
    affine : ndarray, shape (4, 4)
    median_radius : int
        Of the median filter, voxels.
    passes : int
        Of the median filter.

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)

    References
    ----------
    Otsu (1979), IEEE Trans SMC 9:62, https://doi.org/10.1109/TSMC.1979.4310076;
    Garyfallidis et al. (2014), Front Neuroinform 8:8, https://doi.org/10.3389/fninf.2014.00008
    """
    image = _divided_by_receive_field(_divided_by_bright_mean(b0) + _divided_by_bright_mean(weighted), affine)
    box = _box(image > threshold_otsu(image), margin=median_radius + 1)
    mask = np.zeros(image.shape, dtype=bool)
    _, mask[box] = median_otsu(image[box], median_radius=median_radius, numpass=passes)
    # Padding by the edge's values: a brain that the field of view cuts continues outside it.
    mask = _largest_component(ndimage.binary_opening(np.pad(mask, 2, mode="edge")))
    mask = ndimage.binary_closing(mask, iterations=2)[2:-2, 2:-2, 2:-2]
    mask = ndimage.binary_fill_holes(mask)
    upward = int(np.abs(affine[2, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax())
    slices = [ndimage.binary_fill_holes(plane) for plane in np.moveaxis(mask, upward, 0)]
    return np.moveaxis(np.stack(slices), 0, upward)


def _divided_by_bright_mean(image: NDArray) -> NDArray:
    """Divide by the mean of the voxels above Otsu's threshold; a constant image by its value."""
    bright = image > threshold_otsu(image)
    scale = float(image[bright].mean()) if bright.any() else float(image.max())
    return image / scale if scale > 0 else image


def _divided_by_receive_field(image: NDArray, affine: NDArray) -> NDArray:
    """Divide by the receive field, estimated as the local mean of the bright voxels."""
    bright = (image > threshold_otsu(image)).astype(np.float32)
    sigma = BIAS_SIGMA_MM / np.linalg.norm(affine[:3, :3], axis=0)
    blur = {"sigma": sigma, "mode": "constant", "truncate": 3.0}
    share = ndimage.gaussian_filter(bright, **blur)
    field = ndimage.gaussian_filter(image * bright, **blur)
    near = share > 1e-3
    return np.divide(image * share, field, out=np.zeros_like(image), where=near)


def _box(mask: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """Box around a mask, `margin` voxels wider on each side; the whole grid if the mask is empty."""
    if not mask.any():
        return tuple(slice(0, n) for n in mask.shape)
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)


def _largest_component(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Largest connected component; an empty mask stays empty."""
    labels, n = ndimage.label(mask)
    if n == 0:
        return mask
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax()


def eddy_model(bvals: NDArray, b0_threshold: float = B0_S_PER_MM2) -> Literal["none", "linear"]:
    """Choose eddy's ``--slm``: a linear model for few directions.

    References
    ----------
    FSL, eddy user guide, ``--slm``
    """
    return "linear" if (bvals > b0_threshold).sum() < FEW_DIRECTIONS else "none"


def bet_mask(b0: Volume, fraction: float) -> NDArray[np.bool_]:
    """Brain mask by FSL's bet.

    Parameters
    ----------
    b0 : Volume
    fraction : float
        0 to 1; smaller gives a larger brain.

    Raises
    ------
    ProgramError
        FSL is not installed, or bet failed.

    References
    ----------
    Smith (2002), Hum Brain Mapp 17:143, https://doi.org/10.1002/hbm.10062
    """
    with tempfile.TemporaryDirectory(prefix="m2m-bet-") as scratch:
        image, out = Path(scratch, "b0.nii.gz"), Path(scratch, "brain")
        volume.save(image, b0)
        fsl.bet(image, out, fraction=fraction)
        return in_mask(volume.load(f"{out}_mask.nii.gz").data)
