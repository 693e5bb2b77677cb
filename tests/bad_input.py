"""Changes of a simulated participant's scans that pass the checks of the cohort, rightly or not."""

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

ROTATION = np.eye(4)
ROTATION[:3, :3] = Rotation.from_euler("xyz", [9, -14, 21], degrees=True).as_matrix()
TEXT = "Doe^Jane 1970-01-01"


def t1(folder: Path) -> Path:
    """T1 of a participant."""
    return folder / "anat" / f"{folder.name}_T1w.nii.gz"


def dwi(folder: Path, kind: str = "nii.gz") -> Path:
    """Diffusion series of a participant, or its bval or bvec."""
    return folder / "dwi" / f"{folder.name}_dwi.{kind}"


def scans(folder: Path) -> tuple[Path, Path]:
    """Both images."""
    return t1(folder), dwi(folder)


def rewrite(path: Path, change=lambda data, affine: (data, affine), dtype=np.int16) -> None:
    """Write an image again, its voxels and affine changed by a function."""
    image = nib.load(path)
    data, affine = change(np.asanyarray(image.dataobj), image.affine)
    written = nib.Nifti1Image(np.asarray(data, dtype=dtype), affine)
    written.set_sform(affine, 1)
    written.set_qform(affine, 1)
    nib.save(written, path)


def oblique(data, affine):
    """Rotate the head in the scanner."""
    return data, ROTATION @ affine


def neurological(data, affine):
    """Reverse the first axis of storage; world coordinates and FSL's directions do not change."""
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = data.shape[0] - 1
    return data[::-1], affine @ flip


def mirrored(data, affine):
    """Mirror left and right: the affine changes, the voxels do not."""
    return data, np.diag([-1.0, 1, 1, 1]) @ affine


def finer(*times: int):
    """Divide the voxels along each axis; values do not change."""

    def change(data, affine):
        for axis, n in enumerate(times):
            data = np.repeat(data, n, axis=axis)
        step = np.diag([*(1 / np.array(times)), 1.0])
        step[:3, 3] = (1 / np.array(times) - 1) / 2
        return data, affine @ step

    return change


def padded(voxels: int):
    """Add air on every side."""

    def change(data, affine):
        width = [(voxels, voxels)] * 3 + [(0, 0)] * (data.ndim - 3)
        shift = np.eye(4)
        shift[:3, 3] = -voxels
        return np.pad(data, width), affine @ shift

    return change


def cut(*box: slice):
    """Keep a box of voxels."""

    def change(data, affine):
        shift = np.eye(4)
        shift[:3, 3] = [part.start for part in box]
        return data[box], affine @ shift

    return change


def with_negatives(data, affine):
    """Add small negative values in the background, as from interpolation."""
    noise = np.random.default_rng(0).integers(-20, 1, data.shape)
    return np.where(data == 0, noise, data), affine


def noise(data, affine):
    """Replace the image by noise."""
    return np.random.default_rng(0).normal(300, 80, data.shape).clip(0), affine


def shuffled(data, affine):
    """Permute the voxels."""
    return np.random.default_rng(0).permutation(data.ravel()).reshape(data.shape), affine


def rotated(*rotations: tuple[int, int]):
    """Turn the voxels by 90 degrees in planes of two axes; the affine says nothing of it."""

    def change(data, affine):
        for axes in rotations:
            data = np.rot90(data, 1, axes)
        return np.ascontiguousarray(data), affine

    return change


def reordered(order):
    """Put volumes into another order than the gradient table has; `order` takes the number of volumes."""
    return lambda data, affine: (data[..., order(data.shape[-1])], affine)


def unweighted(data, affine):
    """Replace every volume by the first one, with noise."""
    noise = np.random.default_rng(0).normal(0, 0.02 * data.max(), data.shape)
    return (data[..., :1] + noise).clip(0), affine


def with_header_text(folder: Path) -> None:
    """Write a name to all text fields of a NIfTI and its sidecar."""
    for path in scans(folder):
        image = nib.load(path)
        header = image.header
        for field, size in (("descrip", 80), ("aux_file", 24), ("intent_name", 16)):
            header[field] = TEXT[:size].encode()
        header["db_name"] = TEXT[:18].encode()
        header.extensions.append(nib.nifti1.Nifti1Extension("comment", TEXT.encode()))
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, header), path)
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(
            f'{{"PatientName": "{TEXT}", "PatientBirthDate": "{TEXT}"}}'
        )
