"""Damage to a simulated person's scans that the checks let through, or ought to."""

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

TURN = np.eye(4)
TURN[:3, :3] = Rotation.from_euler("xyz", [9, -14, 21], degrees=True).as_matrix()
TEXT = "Doe^Jane 1970-01-01"


def t1(folder: Path) -> Path:
    """T1 of a person."""
    return folder / "anat" / f"{folder.name}_T1w.nii.gz"


def dwi(folder: Path, kind: str = "nii.gz") -> Path:
    """Diffusion series of a person, or its bval or bvec."""
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
    """Turn the head in the scanner."""
    return data, TURN @ affine


def neurological(data, affine):
    """Store the first axis the other way round; the world stays, and so do FSL's directions."""
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = data.shape[0] - 1
    return data[::-1], affine @ flip


def mirrored(data, affine):
    """Call left right: the affine changes, the voxels do not."""
    return data, np.diag([-1.0, 1, 1, 1]) @ affine


def finer(*times: int):
    """Divide each voxel along each axis, the values unchanged."""

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
    """Leave small negative values in the air, as interpolation does."""
    noise = np.random.default_rng(0).integers(-20, 1, data.shape)
    return np.where(data == 0, noise, data), affine


def noise(data, affine):
    """Show nothing at all."""
    return np.random.default_rng(0).normal(300, 80, data.shape).clip(0), affine


def shuffled(data, affine):
    """Keep every value, in no place of its own."""
    return np.random.default_rng(0).permutation(data.ravel()).reshape(data.shape), affine


def with_header_text(folder: Path) -> None:
    """Put a name into every field of text that a NIfTI and its sidecar have."""
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
