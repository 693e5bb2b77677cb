"""Checks of one scan: its header, its gradients (`gradients`), its voxels.

Each check reports the problem, the file, the value found and the remedy. World coordinates
are RAS+ millimetres.

References
----------
NIfTI-1 (Cox et al. 2004), https://nifti.nimh.nih.gov/nifti-1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from m2m.cohort.gradients import DEFAULT_FIT, check_gradients, volumes_text
from m2m.io.errors import DataError
from m2m.io.images import ImageFile, open_image, slabs
from m2m.io.masks import supplied_mask
from m2m.io.volume import load, same_space
from m2m.options import Dti
from m2m.options.cohort_options import MAX_SERIES_GB, MAX_VOLUME_GB

# Relative difference between the affine's voxel sizes and those of the header.
SIZE_TOLERANCE = 0.05
# Cosine between two axes of the grid: an oblique grid is still rectangular.
SHEAR_TOLERANCE = 0.05
# Voxels outside this range are not in mm.
VOXEL_MM = 0.01, 100.0
# Largest plausible distance of a voxel from the scanner's centre.
FARTHEST_MM = 10_000.0
# Cosine of the angle between an axis by qform and by sform: 60 degrees.
FORMS_COSINE = 0.5
# Of the single precision in which images are processed.
BYTES_PER_VOXEL = 4
# Interpolation causes negative values, but smaller than this fraction of the maximum.
NEGATIVE_PART = 0.5
# A slice with this fraction of its voxels above the volume's lowest value is not empty.
FILLED_PART = 0.01


@dataclass(frozen=True)
class Checked:
    """Result of the check of one scan.

    Attributes
    ----------
    problems : tuple of DataError
        Empty where the scan is valid.
    n_directions : int
        Distinct diffusion directions that the tensor fit uses; 0 for a T1 or an invalid series.
    mask_problems : tuple of DataError
        Why the supplied brain mask cannot be used.
    notes : tuple of DataError
        What is unusual about a valid scan.
    """

    problems: tuple[DataError, ...]
    n_directions: int = 0
    mask_problems: tuple[DataError, ...] = field(default=())
    notes: tuple[DataError, ...] = field(default=())


def check_scan(
    suffix: str,
    path: str | Path,
    bval: str | Path | None = None,
    bvec: str | Path | None = None,
    mask: str | Path | None = None,
    voxels: bool = True,
    fit: Dti = DEFAULT_FIT,
    max_volume_gb: float = MAX_VOLUME_GB,
    max_series_gb: float = MAX_SERIES_GB,
) -> Checked:
    """Check a T1w or DWI image with its gradients and mask.

    Parameters
    ----------
    suffix : str
        ``T1w`` (three dimensions) or ``dwi`` (four, with b-values and b-vectors).
    path : path
        The image.
    bval, bvec, mask : path, optional
        As found by BIDS inheritance. For DWI a missing bval or bvec is a problem; a missing mask is
        not.
    voxels : bool
        Whether to read all voxels: some problems (zero or NaN volumes, truncated files) are found
        only there.
    fit : Dti
        Whose b-value of an unweighted volume, and whose choice of shells count.
    max_volume_gb, max_series_gb : float
        Largest size in memory of a T1w or mask, and of a DWI, 10^9 bytes.

    Returns
    -------
    Checked
    """
    is_dwi = suffix == "dwi"
    image, problems = open_checked(path, *((4, max_series_gb) if is_dwi else (3, max_volume_gb)))
    n_directions = 0
    if is_dwi:
        n_volumes = image.shape[3] if image is not None and len(image.shape) == 4 else None
        brightness = (
            partial(mean_signal, image) if image is not None and voxels and n_volumes and not problems else None
        )
        n_directions, gradient_problems = check_gradients(bval, bvec, path, n_volumes, fit, brightness)
        problems += gradient_problems
    notes: list[DataError] = []
    if image is not None and not problems and voxels:
        problems += list(voxel_problems(image, path, notes if is_dwi and is_processed(path) else None))
    mask_problems: list[DataError] = []
    if mask is not None and image is not None and not problems:
        mask_problems = list(_mask_problems(mask, image, voxels, max_volume_gb))
    return Checked(tuple(problems), 0 if problems else n_directions, tuple(mask_problems), tuple(notes))


def is_processed(path: str | Path) -> bool:
    """Whether a file's name has the entity ``desc``, which only derivatives have."""
    return "_desc-" in Path(path).name


def mean_signal(image: ImageFile, volumes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of each of some volumes of a series; of one that cannot be read, 0."""
    try:
        return np.array([image.read((..., int(i))).mean() for i in np.flatnonzero(volumes)], float)
    except DataError:
        return np.zeros(1)


def open_checked(path: str | Path, ndim: int, max_gb: float = float("inf")) -> tuple[ImageFile | None, list[DataError]]:
    """Open an image and check its header.

    Parameters
    ----------
    path : path
    ndim : {3, 4}
        Axes of a volume, or of a series.
    max_gb : float
        Largest size in memory, 10^9 bytes.

    Returns
    -------
    image : ImageFile or None
        None where the file cannot be opened at all.
    problems : list of DataError
    """
    try:
        image = open_image(path)
    except DataError as error:
        return None, [error]
    if (size_gb := image.n_voxels * BYTES_PER_VOXEL / 1e9) > max_gb:
        option = "cohort.max_volume_gb" if ndim == 3 else "cohort.max_series_gb"
        problem = DataError(
            f"image is too large: {option} is {max_gb:g} GB",
            file=path,
            value=f"shape {image.shape}, {size_gb:.4g} GB in memory",
            remedy=f"resample it to larger voxels, or raise {option} where the memory suffices",
        )
        return None, [problem]
    return image, list(_header_problems(Path(path), image, ndim))


def _header_problems(path: Path, image: ImageFile, ndim: int) -> Iterator[DataError]:
    """Problems of shape, data type, voxel size, orientation codes and affine."""
    header = image.header
    if len(image.shape) != ndim or min(image.shape) < 1 or min(image.shape[:3]) < 2:
        yield DataError(
            f"image is not {ndim}D",
            file=path,
            value=f"shape {image.shape}",
            remedy="a T1w is one volume, a DWI a series of volumes: extract or merge them",
        )
    if header.dtype.kind not in "iuf":
        yield DataError(
            "voxels are not real numbers",
            file=path,
            value=f"data type {header.dtype}",
            remedy="convert the image to a magnitude image of numbers",
        )
    sizes = np.asarray(header.sizes_mm)
    sizes_are_valid = bool(np.isfinite(sizes).all() and (sizes > 0).all())
    if not sizes_are_valid:
        yield DataError(
            "voxel size is zero, negative or not a number",
            file=path,
            value=f"pixdim {sizes.tolist()}",
            remedy="correct pixdim in the header, or convert from DICOM again",
        )
    if max(header.codes.values()) <= 0:
        yield DataError(
            "orientation codes are missing, so left and right are unknown",
            file=path,
            value=", ".join(f"{name} {code}" for name, code in header.codes.items()),
            remedy="convert from DICOM again; set a code only if you know the orientation is right",
        )
    elif problem := affine_problem(image.affine, sizes if sizes_are_valid else None):
        yield DataError(
            problem,
            file=path,
            value=np.round(image.affine, 4).tolist(),
            remedy="correct qform and sform in the header, or convert from DICOM again",
        )
    elif len(header.codes) == 2 and min(header.codes.values()) > 0:
        yield from _forms_problem(path, image.image)


def _forms_problem(path: Path, image: Any) -> Iterator[DataError]:
    """Whether qform and sform disagree about an axis's direction: programs differ in which they use.

    A rotation by some degrees, as a realignment writes it into one of the two, is not a problem.
    """
    try:
        forms = image.get_qform(), image.get_sform()
        (q, s), codes = zip(*((form[:3, :3], nib.aff2axcodes(form)) for form in forms), strict=True)
        cosines = (q * s).sum(0) / (np.linalg.norm(q, axis=0) * np.linalg.norm(s, axis=0))
        value = "" if cosines.min() > FORMS_COSINE else "qform {}{}{}, sform {}{}{}"
        value = value.format(*chain(*codes))
    except (ValueError, HeaderDataError, np.linalg.LinAlgError) as error:
        value = str(error)
    if value:
        yield DataError(
            "qform and sform contradict each other",
            file=path,
            value=value,
            remedy="find out which is right and write it into both, or convert from DICOM again",
        )


def affine_problem(affine: NDArray, sizes_mm: NDArray | None = None) -> str:
    """Describe the problem of an affine; empty where it is valid.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Voxel indices to RAS+ mm.
    sizes_mm : ndarray, shape (3,), optional
        Voxel sizes in the header, which the affine must agree with.

    Returns
    -------
    str
    """
    if not np.isfinite(affine).all():
        return "affine has NaN or infinity"
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if (lengths == 0).any() or abs(np.linalg.det(columns / lengths)) < 1e-3:
        return "affine is singular"
    cosines = (columns / lengths).T @ (columns / lengths) - np.eye(3)
    if np.abs(cosines).max() > SHEAR_TOLERANCE:
        return "affine is wrong: the grid's axes are not perpendicular"
    if lengths.min() < VOXEL_MM[0] or lengths.max() > VOXEL_MM[1]:
        return "affine is wrong: its voxels have no plausible size in mm"
    if np.abs(affine[:3, 3]).max() > FARTHEST_MM:
        return "affine is wrong: its origin is far outside any scanner"
    if sizes_mm is not None and np.abs(lengths / sizes_mm - 1).max() > SIZE_TOLERANCE:
        header, own = np.round(sizes_mm, 3).tolist(), np.round(lengths, 3).tolist()
        return f"affine is wrong: its voxel size is {own} mm, the header's pixdim {header} mm"
    return ""


def voxel_problems(image: ImageFile, path: str | Path, notes: list[DataError] | None = None) -> Iterator[DataError]:
    """Read an image part by part, and report volumes with impossible values.

    Parameters
    ----------
    image : ImageFile
        Shape (X, Y, Z) or (X, Y, Z, volumes).
    path : path
        Named in the problems.
    notes : list of DataError, optional
        Of a processed series: slices at the edge that motion correction emptied in some volumes are added here,
        and are no problem, since the tensor fit leaves their samples out.

    Yields
    ------
    DataError
    """
    n_volumes = image.shape[3] if len(image.shape) == 4 else 1
    unknown, empty, negative = np.zeros((3, n_volumes), dtype=bool)
    filled = []
    try:
        for index in range(n_volumes):
            low, high, parts = _range_and_filling(image, index)
            unknown[index] = not (np.isfinite(low) and np.isfinite(high))
            empty[index] = low == high
            negative[index] = low < min(0, -NEGATIVE_PART * high)
            filled.append(parts)
    except DataError as error:
        yield error
        return
    for wrong, (problem, remedy) in zip((unknown, empty, negative), _VOLUMES, strict=True):
        if wrong.any():
            value = volumes_text(wrong, "volume")
            yield DataError(problem, file=path, value=value, remedy=remedy)
    if not (unknown | empty | negative).any():
        yield from _missing_slices(filled, path, notes)


_VOLUMES = (
    ("image has NaN or infinity", "repair the image, e.g. NaN to 0 outside the head"),
    (
        "image is all zero, or all one value",
        "remove such volumes from image, bval and bvec, or convert from DICOM again",
    ),
    (
        "image is negative: its integers overflowed, or it is not a magnitude image",
        "convert from DICOM again with a larger data type (uint16, int32 or float32)",
    ),
)


def _range_and_filling(image: ImageFile, index: int) -> tuple[float, float, list[NDArray[np.float64]]]:
    """Lowest and highest value of a volume, and the fraction of each slice's voxels above the lowest.

    The volume is read in slabs. Voxels at the lowest value so far are counted: where a lower one is found,
    none of those before is at the lowest.
    """
    shape = image.shape[:3]
    low, high = np.inf, -np.inf
    at_low = [np.zeros(n) for n in shape]
    for part in slabs(shape):
        data = image.read((*part, index)[: len(image.shape)])
        own_low, own_high = float(data.min()), float(data.max())
        high = own_high if np.isnan(own_high) else max(high, own_high)
        if not own_low >= low:
            low, at_low = own_low, [np.zeros(n) for n in shape]
        lowest = data == low
        for axis, count in enumerate(at_low):
            count[part[axis]] += lowest.sum(axis=tuple({0, 1, 2} - {axis}))
        if np.isnan(low):
            break
    return low, high, [1 - count * n / prod(shape) for count, n in zip(at_low, shape, strict=True)]


def _missing_slices(
    filled: list[list[NDArray]], path: str | Path, notes: list[DataError] | None
) -> Iterator[DataError]:
    """Empty slices between filled ones, or at positions that are filled in most volumes."""
    for axis in range(3):
        part = np.stack([volume[axis] for volume in filled])  # (volumes, slices)
        is_filled = part > FILLED_PART
        between = np.logical_or.accumulate(is_filled, axis=1)
        between &= np.logical_or.accumulate(is_filled[:, ::-1], axis=1)[:, ::-1]
        edge = (part == 0) & ~between & (is_filled.mean(axis=0) > 0.5)
        missing = (part == 0) & between
        if notes is None:
            missing |= edge
        elif edge.any():
            remedy = "nothing to do: the tensor fit leaves out what was not measured"
            notes.append(_of_slices("some volumes have empty slices at the edge", path, axis, edge, remedy))
        if missing.any():
            remedy = (
                "convert from DICOM again; if they were not measured, remove such volumes from image, bval and bvec"
            )
            yield _of_slices("slices are missing: all their voxels have one value", path, axis, missing, remedy)
            return


def _of_slices(problem: str, path: str | Path, axis: int, which: NDArray[np.bool_], remedy: str) -> DataError:
    """Problem of slices along an axis, (volumes, slices)."""
    volumes, slices = (np.asarray(which.any(axis=i)) for i in (1, 0))
    value = f"{volumes_text(slices, 'slice')} along axis {axis} of {volumes_text(volumes, 'volume')}"
    return DataError(problem, file=path, value=value, remedy=remedy)


def _mask_problems(path: str | Path, image: ImageFile, voxels: bool, max_gb: float) -> Iterator[DataError]:
    """Problems of a supplied brain mask."""
    mask, problems = open_checked(path, 3, max_gb)
    yield from problems
    if mask is None or problems:
        return
    if mask.shape != image.shape[:3] or not same_space(mask.affine, image.affine, mask.shape):
        yield DataError(
            "brain mask is on another grid than its image",
            file=path,
            value=f"shape {mask.shape}, image {image.shape[:3]}",
            remedy="resample the mask to the image, or remove it",
        )
    elif voxels:
        problems = list(voxel_problems(mask, path))
        yield from problems or _not_a_mask(path)


def _not_a_mask(path: str | Path) -> Iterator[DataError]:
    """Whether a mask's values are none of a mask."""
    try:
        supplied_mask(load(path).data, path)
    except DataError as problem:
        yield problem
