"""Checks of one scan: its header, its gradients (`gradients`), its voxels.

Each check names what is wrong, the file, the value found and the remedy. World coordinates
are RAS+ millimetres.

References
----------
NIfTI-1 (Cox et al. 2004), https://nifti.nimh.nih.gov/nifti-1.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage
from numpy.typing import NDArray

from m2m.cohort.gradients import check_gradients, volumes_text
from m2m.io.errors import DataError, unreadable

# The affine's columns against the header's voxel sizes, relative.
SIZE_TOLERANCE = 0.05
# Cosine between two axes of the grid: an oblique grid is still rectangular.
SHEAR_TOLERANCE = 0.05
# Smaller or larger voxels are in other units than mm.
VOXEL_MM = 0.01, 100.0
# No voxel lies farther from a scanner's centre.
FARTHEST_MM = 10_000.0
# Cosine between an axis by qform and by sform: 60 degrees.
FORMS_COSINE = 0.5
# Deflate shrinks by no more: a gzip file cannot hold more bytes than so many times its own.
MOST_COMPRESSED = 1032
# Interpolation leaves small negative values beside large ones, never as large as this part.
NEGATIVE_PART = 0.5
# A slice with this part of its voxels above the volume's lowest value shows something.
SHOWN_PART = 0.01
UNREADABLE = (
    OSError, EOFError, ValueError, OverflowError, zlib.error, ImageFileError, HeaderDataError
)  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """What the check of one scan found.

    Attributes
    ----------
    problems : tuple of DataError
        Empty where the scan is sound.
    n_directions : int
        Distinct diffusion directions; 0 for a T1 or a series that is not sound.
    mask_problems : tuple of DataError
        Why the supplied brain mask cannot be used.
    """

    problems: tuple[DataError, ...]
    n_directions: int = 0
    mask_problems: tuple[DataError, ...] = field(default=())


def check_scan(
    suffix: str,
    path: str | Path,
    bval: str | Path | None = None,
    bvec: str | Path | None = None,
    mask: str | Path | None = None,
    voxels: bool = True,
) -> Checked:
    """Check a T1w or DWI image with everything that belongs to it.

    Parameters
    ----------
    suffix : str
        ``T1w`` (three dimensions) or ``dwi`` (four, with b-values and b-vectors).
    path : path
        The image.
    bval, bvec, mask : path, optional
        As found by inheritance; for DWI a missing bval or bvec is a problem, a mask never is.
    voxels : bool
        Whether to read all voxels: zero and NaN volumes and truncated files show only there.
    """
    is_dwi = suffix == "dwi"
    image, problems = open_image(path, 4 if is_dwi else 3)
    n_directions = 0
    if is_dwi:
        n_volumes = image.shape[3] if image is not None and image.ndim == 4 else None
        n_directions, gradient_problems = check_gradients(bval, bvec, path, n_volumes)
        problems += gradient_problems
    if image is not None and not problems and voxels:
        problems += list(voxel_problems(image, path))
    mask_problems = []
    if mask is not None and image is not None and not problems:
        mask_problems = list(_mask_problems(mask, image, voxels))
    return Checked(tuple(problems), 0 if problems else n_directions, tuple(mask_problems))


def open_image(path: str | Path, ndim: int) -> tuple[SpatialImage | None, list[DataError]]:
    """Open a NIfTI image and check its header.

    Returns
    -------
    image : SpatialImage or None
        None where the file cannot be opened at all.
    problems : list of DataError
    """
    path = Path(path)
    if not path.exists():
        if path.is_symlink():
            remedy = "the link leads nowhere: fetch the file (git annex, datalad get)"
        else:
            remedy = "copy the file again, or list the dataset again"
        return None, [DataError("image is missing", file=path, remedy=remedy)]
    try:
        image = nib.load(path, keep_file_open=True)
        with nib.openers.ImageOpener(path) as stream:
            # Opening an image repairs its voxel sizes; here is what the file says.
            raw = type(image.header).from_fileobj(stream, check=False)
    except UNREADABLE as error:
        remedy = "convert or copy the image again"
        return None, [unreadable(error, "image cannot be read", path, remedy)]
    if short := _short_file(path, image):
        return None, [short]
    return image, list(_header_problems(path, image, raw, ndim))


def _short_file(path: Path, image: SpatialImage) -> DataError | None:
    """Whether a file is too small for what its header promises, known without reading it."""
    promised = prod(map(int, image.shape)) * image.get_data_dtype().itemsize
    held = path.stat().st_size * (MOST_COMPRESSED if path.suffix == ".gz" else 1)
    if promised <= held:
        return None
    return DataError(
        "image is truncated, or its header is wrong",
        file=path,
        value=f"shape {image.shape} is {promised} bytes, the file holds at most {held}",
        remedy="copy the file again, or convert from DICOM again",
    )


def _header_problems(
    path: Path, image: SpatialImage, raw: nib.Nifti1Header, ndim: int
) -> Iterator[DataError]:
    """What is wrong with shape, data type, voxel size, orientation codes and affine."""
    if image.ndim != ndim or min(image.shape) < 1 or min(image.shape[:3]) < 2:
        yield DataError(
            f"image is not {ndim}D",
            file=path,
            value=f"shape {image.shape}",
            remedy="a T1w is one volume, a DWI a series of volumes: extract or merge them",
        )
    if image.get_data_dtype().kind not in "iuf":
        yield DataError(
            "voxels are not real numbers",
            file=path,
            value=f"data type {image.get_data_dtype()}",
            remedy="convert the image to a magnitude image of numbers",
        )
    sizes = np.asarray(raw["pixdim"][1:4], dtype=float)
    sizes_are_sound = bool(np.isfinite(sizes).all() and (sizes > 0).all())
    if not sizes_are_sound:
        yield DataError(
            "voxel size is zero, negative or not a number",
            file=path,
            value=f"pixdim {sizes.tolist()}",
            remedy="correct pixdim in the header, or convert from DICOM again",
        )
    if int(raw["qform_code"]) <= 0 and int(raw["sform_code"]) <= 0:
        yield DataError(
            "orientation codes are missing, so left and right are unknown",
            file=path,
            value=f"qform_code {int(raw['qform_code'])}, sform_code {int(raw['sform_code'])}",
            remedy="convert from DICOM again; set a code only if you know the orientation is right",
        )
    elif problem := affine_problem(image.affine, sizes if sizes_are_sound else None):
        yield DataError(
            problem,
            file=path,
            value=np.round(image.affine, 4).tolist(),
            remedy="correct qform and sform in the header, or convert from DICOM again",
        )
    elif int(raw["qform_code"]) > 0 and int(raw["sform_code"]) > 0:
        yield from _forms_problem(path, image)


def _forms_problem(path: Path, image: SpatialImage) -> Iterator[DataError]:
    """Whether qform and sform point an axis to different sides: programs differ in which to take.

    A turn by some degrees, as a realignment leaves it in one of the two, is none.
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
    """Name what is wrong with an affine; empty where nothing is.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Voxel indices to RAS+ mm.
    sizes_mm : ndarray, shape (3,), optional
        Voxel sizes in the header, which the affine must agree with.
    """
    if not np.isfinite(affine).all():
        return "affine holds NaN or infinity"
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if (lengths == 0).any() or abs(np.linalg.det(columns / lengths)) < 1e-3:
        return "affine is singular"
    cosines = (columns / lengths).T @ (columns / lengths) - np.eye(3)
    if np.abs(cosines).max() > SHEAR_TOLERANCE:
        return "affine is wrong: the grid's axes are not perpendicular"
    if lengths.min() < VOXEL_MM[0] or lengths.max() > VOXEL_MM[1]:
        return "affine is wrong: its voxels are not of a plausible size in mm"
    if np.abs(affine[:3, 3]).max() > FARTHEST_MM:
        return "affine is wrong: its origin lies far outside any scanner"
    if sizes_mm is not None and np.abs(lengths / sizes_mm - 1).max() > SIZE_TOLERANCE:
        header, own = np.round(sizes_mm, 3).tolist(), np.round(lengths, 3).tolist()
        return f"affine is wrong: its voxels measure {own} mm, the header's pixdim {header} mm"
    return ""


def voxel_problems(image: SpatialImage, path: str | Path) -> Iterator[DataError]:
    """Read an image volume by volume; name volumes that no scanner gives."""
    n_volumes = image.shape[3] if image.ndim == 4 else 1
    unknown, empty, negative = np.zeros((3, n_volumes), dtype=bool)
    shown = []
    try:
        for index in range(n_volumes):
            data = np.asanyarray(image.dataobj[..., index] if image.ndim == 4 else image.dataobj)
            low, high = data.min(), data.max()
            unknown[index] = not (np.isfinite(low) and np.isfinite(high))
            empty[index] = low == high
            negative[index] = low < min(0, -NEGATIVE_PART * high)
            shown.append(_shown(data, low))
    except UNREADABLE as error:
        remedy = "the file is truncated or damaged: copy it again"
        yield unreadable(error, "image cannot be read to its end", path, remedy)
        return
    for wrong, (problem, remedy) in zip((unknown, empty, negative), _VOLUMES, strict=True):
        if wrong.any():
            value = volumes_text(wrong, "volume")
            yield DataError(problem, file=path, value=value, remedy=remedy)
    if not (unknown | empty | negative).any():
        yield from _missing_slices(shown, path)


_VOLUMES = (
    ("image holds NaN or infinity", "repair the image, e.g. NaN to 0 outside the head"),
    (
        "image is all zero, or all one value",
        "remove such volumes from image, bval and bvec, or convert from DICOM again",
    ),
    (
        "image is negative: its integers overflowed, or it is no magnitude image",
        "convert from DICOM again with a larger data type (uint16, int32 or float32)",
    ),
)


def _shown(data: NDArray, low: float) -> list[NDArray[np.float64]]:
    """Part of each slice's voxels above the volume's lowest value, along each axis."""
    above = data[..., 0] > low if data.ndim == 4 else data > low
    return [above.mean(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]


def _missing_slices(shown: list[list[NDArray]], path: str | Path) -> Iterator[DataError]:
    """Slices without anything, between slices that show something or where most volumes do."""
    for axis in range(3):
        part = np.stack([volume[axis] for volume in shown])  # (volumes, slices)
        seen = part > SHOWN_PART
        between = np.logical_or.accumulate(seen, axis=1)
        between &= np.logical_or.accumulate(seen[:, ::-1], axis=1)[:, ::-1]
        missing = (part == 0) & (between | (seen.mean(axis=0) > 0.5))
        if missing.any():
            volumes, slices = missing.any(axis=1), missing.any(axis=0)
            yield DataError(
                "slices are missing: they hold one value",
                file=path,
                value=f"{volumes_text(slices, 'slice')} along axis {axis} of "
                f"{volumes_text(volumes, 'volume')}",
                remedy="convert from DICOM again; if they were not measured, remove such volumes "
                "from image, bval and bvec",
            )
            return


def _mask_problems(path: str | Path, image: SpatialImage, voxels: bool) -> Iterator[DataError]:
    """Why a supplied mask does not fit its image."""
    mask, problems = open_image(path, 3)
    yield from problems
    if mask is None or problems:
        return
    if mask.shape != image.shape[:3] or not np.allclose(mask.affine, image.affine, atol=1e-2):
        yield DataError(
            "brain mask is on another grid than its image",
            file=path,
            value=f"shape {mask.shape}, image {image.shape[:3]}",
            remedy="resample the mask to the image, or remove it",
        )
    elif voxels:
        yield from voxel_problems(mask, path)
