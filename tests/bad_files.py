"""What lies in the place of a scan or a table: links, pipes, other formats, names, masks; as in bad_scans.py."""

import gzip
import os

import nibabel as nib
import numpy as np
from bad_scans import bval, bvec, dwi, patch, t1
from cohort_tree import AFFINE, write_image

from m2m.io.quoting import printable


def linked(path, target):
    """Replace a file by a link."""
    path.unlink()
    path.symlink_to(target)


def piped(path):
    """Replace a file by a pipe that no program writes to."""
    path.unlink()
    os.mkfifo(path)


def replaced(path, make):
    """Put something else in the place of a file."""
    path.unlink()
    make(path)


def cifti(path):
    """Write a NIfTI-2 with the intent of CIFTI."""
    image = nib.Nifti2Image(np.ones((1, 1, 1, 1, 4, 5), np.float32), None)
    image.header["intent_code"] = 3006
    path.write_bytes(gzip.compress(image.to_bytes()))


def honest_but_huge(path):
    """Write a header of 32 GB over a file that could hold them."""
    patch(path, 42, "<3h", 2000, 2000, 2000)
    with path.open("ab") as stream:
        stream.write(bytes(20_000_000))


def renamed(path, old, new):
    """Rename a file, by bytes; its new path as findings write it."""
    path.rename(os.fsdecode(os.fsencode(path).replace(old, new)))


def name_with(new):
    """A T1 with a label of these bytes, and its path as findings write it."""
    label = b"_acq-a" + new + b"b_T1w"

    def shown(folder):
        return printable(os.fsdecode(os.fsencode(t1(folder)).replace(b"_T1w", label)))

    return lambda f: renamed(t1(f), b"_T1w", label), "name of the file", shown, "_acq-a", "dwi-only"


def becomes(content):
    """Put bytes in the place of a T1."""
    return lambda f: t1(f).write_bytes(content)


def in_place_of_nifti(name, write):
    """Put an image of another format in the place of a T1."""

    def put(folder):
        t1(folder).unlink()
        write(t1(folder).with_name(t1(folder).name.replace(".nii.gz", name)))

    return put, lambda folder: t1(folder).with_name(t1(folder).name.replace(".nii.gz", name))


def random_t1():
    return np.random.default_rng(0).integers(1, 1000, (4, 5, 6)).astype(np.int16)


def without_orientation(path):
    """Write an MGH that does not state where right is."""
    image = nib.MGHImage(random_t1(), AFFINE)
    image.to_filename(path)
    content = bytearray(path.read_bytes())
    content[28:30] = b"\0\0"
    path.write_bytes(bytes(content))


ANALYZE, ANALYZE_PATH = in_place_of_nifti(".img", lambda path: nib.save(nib.AnalyzeImage(random_t1(), AFFINE), path))
HALF_A_PAIR, HALF_PATH = in_place_of_nifti(
    ".img",
    lambda path: (nib.save(nib.Nifti1Pair(random_t1(), AFFINE), path), path.with_suffix(".hdr").unlink()),
)
NO_AXES, NO_AXES_PATH = in_place_of_nifti(".mgh", without_orientation)

# Damage to a sound participant, and its finding: problem, file, value, and the unit's state.
FILES = {
    # Files of strangers: links, pipes and devices, and texts that no message may quote.
    "bval a link out of the dataset": (lambda f: linked(bval(f), "/etc/passwd"), "not shown", bval, "", "t1w-only"),
    "bvec a link out of the dataset": (lambda f: linked(bvec(f), "/etc/passwd"), "not shown", bvec, "", "t1w-only"),
    "T1 a link out of the dataset": (lambda f: linked(t1(f), "/etc/passwd"), "not shown", t1, "", "dwi-only"),
    "bval a device": (lambda f: linked(bval(f), "/dev/zero"), "not a regular file, but a device", bval, "", "t1w-only"),
    "bvec a pipe": (lambda f: piped(bvec(f)), "not a regular file", bvec, "", "t1w-only"),
    "bval in UTF-16": (lambda f: bval(f).write_text("0 1000", "utf-16"), "cannot be read", bval, "", "t1w-only"),
    "bval with decimal commas": (lambda f: bval(f).write_text("0,5 1000"), "row 1 holds", bval, "", "t1w-only"),
    "bvec a link to itself": (lambda f: linked(bvec(f), bvec(f).name), "bvec is missing", bvec, "", "t1w-only"),
    # What lies in the place of an image or a table, and what its name holds.
    "T1 a pipe": (lambda f: replaced(t1(f), os.mkfifo), "not a regular file, but a pipe", t1, "", "dwi-only"),
    "T1 a device": (
        lambda f: replaced(t1(f), lambda path: path.symlink_to("/dev/zero")),
        "not a regular file, but a device",
        t1,
        "",
        "dwi-only",
    ),
    "DWI a pipe": (lambda f: replaced(dwi(f), os.mkfifo), "but a pipe", dwi, "", "t1w-only"),
    "bval a pipe": (lambda f: replaced(bval(f), os.mkfifo), "bval is not a regular file", bval, "", "t1w-only"),
    "bvec a device": (
        lambda f: replaced(bvec(f), lambda path: path.symlink_to("/dev/zero")),
        "bvec is not a regular file",
        bvec,
        "",
        "t1w-only",
    ),
    "bval of gigabytes": (lambda f: os.truncate(bval(f), 10**10), "bval is too large", bval, "MB", "t1w-only"),
    "T1 beyond the limit of size": (
        lambda f: honest_but_huge(t1(f)),
        "too large: cohort.max_volume_gb is 4 GB",
        t1,
        "32 GB in memory",
        "dwi-only",
    ),
    "DWI beyond the limit of size": (
        lambda f: (patch(dwi(f), 42, "<4h", 800, 800, 800, 10), os.truncate(dwi(f), 20_000_000)),
        "too large: cohort.max_series_gb is 16 GB",
        dwi,
        "20.48 GB in memory",
        "t1w-only",
    ),
    "gigabytes before the voxels": (
        lambda f: patch(t1(f), 108, "<f", 2e9),
        "cannot be read: its header states 2e+09 bytes before the voxels",
        t1,
        "",
        "dwi-only",
    ),
    "CIFTI under the name of a T1": (lambda f: cifti(t1(f)), "is CIFTI", t1, "intent code 3006", "dwi-only"),
    "not compressed, but .nii.gz": (
        lambda f: t1(f).write_bytes(gzip.decompress(t1(f).read_bytes())),
        "it is not compressed, unlike its name",
        t1,
        ".nii.gz",
        "dwi-only",
    ),
    "compressed twice": (
        lambda f: t1(f).write_bytes(gzip.compress(t1(f).read_bytes())),
        "compressed twice",
        t1,
        "",
        "dwi-only",
    ),
    "a web page under the name of a T1": (becomes(b"<!DOCTYPE html>404"), "a page of text", t1, "", "dwi-only"),
    "pointer of Git LFS": (becomes(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS", t1, "", "dwi-only"),
    "pointer of git-annex": (becomes(b"/annex/objects/MD5E-s1--0.nii.gz\n"), "git-annex", t1, "", "dwi-only"),
    "a zip archive under the name of a T1": (becomes(b"PK\x03\x04" + bytes(600)), "zip archive", t1, "", "dwi-only"),
    "DICOM under the name of a T1": (becomes(bytes(128) + b"DICM" + bytes(600)), "is DICOM", t1, "", "dwi-only"),
    "bzip2 under the name of a T1": (becomes(b"BZh91AY" + bytes(600)), "by bzip2", t1, "", "dwi-only"),
    "HDF5 under the name of a T1": (becomes(b"\x89HDF\r\n" + bytes(600)), "HDF5", t1, "", "dwi-only"),
    "Analyze": (ANALYZE, "is Analyze", lambda f: ANALYZE_PATH(f).with_suffix(".hdr"), ".img", "dwi-only"),
    "half a NIfTI pair": (HALF_A_PAIR, "other file of a pair, .hdr, is missing", HALF_PATH, "", "dwi-only"),
    "MGH without axes": (NO_AXES, "orientation codes", NO_AXES_PATH, "goodRASFlag 0", "dwi-only"),
    "brace in a name": name_with(b"{x}"),
    "backslash in a name": name_with(b"\\"),
    "line break in a name": name_with(b"\n"),
    "tabulator in a name": name_with(b"\t"),
    "terminal sequence in a name": name_with(b"\x1b[31m"),
    "name that is not UTF-8": name_with(b"\xff"),
    "brace in the name of a gradient table": (
        lambda f: [renamed(path, b"_dwi", b"_acq-{x}_dwi") for path in (dwi(f), bval(f), bvec(f))],
        "name of the file",
        lambda f: dwi(f).with_name(dwi(f).name.replace("_dwi", "_acq-{x}_dwi")),
        "_acq-{x}",
        "t1w-only",
    ),
}


def mask_of(data, shift=0.0):
    """Put a brain mask of these voxels beside a T1, on its grid or shifted, in voxels."""
    affine = AFFINE.copy()
    affine[:3, 3] += shift * 2

    def put(folder):
        path = folder / "anat" / f"{folder.name}_desc-brain_mask.nii.gz"
        write_image(path, data.shape, data=data, dtype=np.float32, affine=affine)

    return put


def centre(value=1.0):
    """A mask of a few voxels."""
    data = np.zeros((4, 5, 6))
    data[1:3, 1:4, 1:5] = value
    return data


# Masks beside a sound T1 that are left out, and their finding; the T1 is used.
BAD_MASKS = {
    "mask of labels": (mask_of(centre() * np.arange(6)), "not a brain mask"),
    "mask of intensities": (mask_of(np.random.default_rng(0).uniform(1, 900, (4, 5, 6))), "not a brain mask"),
    "mask of percentages": (mask_of(centre() * np.linspace(1, 100, 6)), "not a brain mask"),
    "mask all below one half": (mask_of(centre(0.4)), "mask is empty"),
    "mask shifted by half a voxel": (mask_of(centre(), 0.5), "another grid"),
    "mask of another shape": (mask_of(np.pad(centre(), 1)), "another grid"),
    "mask a pipe": (
        lambda f: os.mkfifo(f / "anat" / f"{f.name}_desc-brain_mask.nii.gz"),
        "not a regular file, but a pipe",
    ),
}
# Masks that are used as they are.
GOOD_MASKS = {
    "mask of 0 and 255": mask_of(centre(255)),
    "mask of fractions": mask_of(centre() * np.linspace(0.2, 1, 6)),
    "mask of a spline": mask_of(centre(1.1) - 0.02),
    "mask of (x, y, z, 1)": mask_of(centre()[..., None]),
    "mask with a rounded affine": mask_of(centre(), 0.01),
}
