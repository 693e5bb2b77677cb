"""Defects of a single scan: damage to a sound participant, and the finding about it."""

import gzip
import struct

import nibabel as nib
import numpy as np
from cohort_tree import AFFINE, BVALS, BVECS, SIX, write_image, write_numbers


def t1(folder):
    return folder / "anat" / f"{folder.name}_T1w.nii.gz"


def dwi(folder):
    return folder / "dwi" / f"{folder.name}_dwi.nii.gz"


def bval(folder):
    return folder / "dwi" / f"{folder.name}_dwi.bval"


def bvec(folder):
    return folder / "dwi" / f"{folder.name}_dwi.bvec"


def patch(path, offset, form, *values):
    """Overwrite part of a NIfTI-1 header, which nibabel would not write."""
    image = nib.load(path)
    data = bytearray(image.to_bytes())
    data[offset : offset + struct.calcsize(form)] = struct.pack(form, *values)
    path.write_bytes(gzip.compress(bytes(data)))


def cut(path):
    """Truncate a compressed image in its voxels."""
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-100]))


def cut_stream(path):
    """Truncate a compressed image's bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def flip_bit(path):
    """Damage a compressed image in its middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def one_voxel(path, value, dtype=np.float32):
    """Put a value into a voxel of a T1."""
    data = np.random.default_rng(0).uniform(1, 9, (4, 5, 6))
    data[1, 2, 3] = value
    write_image(path, data.shape, data=data, dtype=dtype)


def overflown(path):
    """Write an unsigned image of 16 bits as a signed one."""
    data = np.random.default_rng(0).integers(0, 50000, (4, 5, 6)).astype(np.uint16)
    write_image(path, data.shape, data=data.view(np.int16))


def slice_missing(path, shape, at):
    """Write zeros into a slice, of a volume if the image has volumes."""
    data = np.random.default_rng(0).integers(1, 1000, shape)
    data[at] = 0
    write_image(path, shape, data=data)


def coloured(path):
    """Write a colour image."""
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), kind), AFFINE), path)


def mirrored_sform(path):
    """Write a sform that mirrors left and right against the qform."""
    image = nib.Nifti1Image(np.random.default_rng(0).integers(1, 9, (4, 5, 6), np.int16), AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE * [[-1], [1], [1], [1]], 1)
    nib.save(image, path)


def one_bad_volume(folder, value):
    data = np.random.default_rng(0).uniform(1, 9, (4, 5, 6, 7))
    data[..., 3] = value
    write_image(dwi(folder), data.shape, data=data, dtype=np.float32)


def bvecs_with(folder, volume, vector):
    vectors = BVECS.copy()
    vectors[volume] = vector
    write_numbers(bvec(folder), vectors.T)


def singular(folder):
    patch(t1(folder), 280, "<12f", *[2, 0, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0])


def sheared(folder):
    patch(t1(folder), 280, "<12f", *[2, 1, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0])


def scaled(folder):
    patch(t1(folder), 280, "<12f", *[4, 0, 0, 0, 0, 4, 0, 0, 0, 0, 4, 0])


def not_a_number(folder):
    patch(t1(folder), 280, "<f", float("nan"))


def few_directions(folder):
    # Six vectors, of which one is the opposite of another.
    bvecs_with(folder, 6, -SIX[0])


def in_a_plane(folder):
    angles = np.deg2rad(np.arange(6) * 25)
    vectors = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    write_numbers(bvec(folder), np.vstack([np.zeros(3), vectors]).T)


# Damage to a sound participant, and its finding: problem, file, value, and the unit's state.
BAD = {
    "T1 unreadable": (lambda f: t1(f).write_bytes(b"not an image"), "cannot be read", t1, "", "dwi-only"),
    "T1 empty": (lambda f: t1(f).write_bytes(b""), "cannot be read", t1, "", "dwi-only"),
    "T1 link without target": (lambda f: (t1(f).unlink(), t1(f).symlink_to("nowhere")), "missing", t1, "", "dwi-only"),
    "T1 truncated": (lambda f: cut(t1(f)), "to its end", t1, "", "dwi-only"),
    "T1 a link to itself": (lambda f: (t1(f).unlink(), t1(f).symlink_to(t1(f).name)), "missing", t1, "", "dwi-only"),
    "T1 truncated gzip": (lambda f: cut_stream(t1(f)), "cannot be read", t1, "", "dwi-only"),
    "DWI truncated gzip": (lambda f: cut_stream(dwi(f)), "to its end", dwi, "", "t1w-only"),
    "T1 damaged gzip": (lambda f: flip_bit(t1(f)), "cannot be read", t1, "", "dwi-only"),
    "huge header over few bytes": (
        lambda f: patch(t1(f), 42, "<3h", 30000, 30000, 30000),
        "truncated",
        t1,
        "(30000, 30000, 30000)",
        "dwi-only",
    ),
    "T1 not 3D": (lambda f: write_image(t1(f), (4, 5, 6, 2)), "not 3D", t1, "(4, 5, 6, 2)", "dwi-only"),
    "T1 one slice": (lambda f: write_image(t1(f), (4, 5, 1)), "not 3D", t1, "(4, 5", "dwi-only"),
    "DWI not 4D": (lambda f: write_image(dwi(f), (4, 5, 6)), "not 4D", dwi, "(4, 5, 6)", "t1w-only"),
    "complex voxels": (
        lambda f: write_image(t1(f), (4, 5, 6), dtype=np.complex64),
        "not real numbers",
        t1,
        "complex64",
        "dwi-only",
    ),
    "voxels in colour": (lambda f: coloured(t1(f)), "not real numbers", t1, "'R'", "dwi-only"),
    "unknown data type": (lambda f: patch(t1(f), 70, "<h", 3333), "cannot be read", t1, "", "dwi-only"),
    "bval missing": (lambda f: bval(f).unlink(), "bval is missing", dwi, "", "t1w-only"),
    "bvec missing": (lambda f: bvec(f).unlink(), "bvec is missing", dwi, "", "t1w-only"),
    "bval not numbers": (lambda f: bval(f).write_text("0 b b b b b b"), "bval cannot be read", bval, "", "t1w-only"),
    "bval empty": (lambda f: bval(f).write_text(""), "bval is empty", bval, "", "t1w-only"),
    "bvec ragged": (lambda f: bvec(f).write_text("0 1\n0 1\n0\n"), "bvec cannot be read", bvec, "", "t1w-only"),
    "bval shorter": (
        lambda f: write_numbers(bval(f), BVALS[None, :-1]),
        "bval is of other length",
        bval,
        "1 rows of 6, expected 1 row(s) of 7",
        "t1w-only",
    ),
    "bvec longer": (
        lambda f: write_numbers(bvec(f), np.vstack([BVECS, BVECS]).T),
        "bvec is of other length",
        bvec,
        "3 rows of 14",
        "t1w-only",
    ),
    "bvec swapped": (
        lambda f: write_numbers(bvec(f), BVECS),
        "rows and columns swapped",
        bvec,
        "7 rows of 3",
        "t1w-only",
    ),
    "bval swapped": (
        lambda f: write_numbers(bval(f), BVALS[:, None]),
        "rows and columns swapped",
        bval,
        "7 rows of 1",
        "t1w-only",
    ),
    "no b0": (lambda f: write_numbers(bval(f), BVALS[None] + 51), "no b0", bval, "smallest 51", "t1w-only"),
    "negative b-value": (lambda f: write_numbers(bval(f), -BVALS[None]), "negative", bval, "volumes 1, 2", "t1w-only"),
    "b-values in ms/um2": (
        lambda f: write_numbers(bval(f), BVALS[None] / 1000),
        "not plausible",
        bval,
        "largest 1",
        "t1w-only",
    ),
    "b-values in s/m2": (
        lambda f: write_numbers(bval(f), BVALS[None] * 1e6),
        "not plausible",
        bval,
        "1e+09",
        "t1w-only",
    ),
    "vector of other length": (
        lambda f: bvecs_with(f, 4, SIX[3] * 0.7),
        "not of unit length",
        bvec,
        "volumes 4 (1 of 7); length 0.7",
        "t1w-only",
    ),
    "trace image": (lambda f: bvecs_with(f, 6, 0), "no direction", bvec, "volumes 6 (1 of 7); b = 1000", "t1w-only"),
    "NaN vector": (lambda f: bvecs_with(f, 0, np.nan), "NaN", bvec, "volumes 0 (1 of 7)", "t1w-only"),
    "five directions": (few_directions, "fewer than six", bvec, "5 distinct", "t1w-only"),
    "directions in a plane": (in_a_plane, "do not determine a tensor", bvec, "6 directions, 3 of 6", "t1w-only"),
    "affine singular": (singular, "affine is singular", t1, "[", "dwi-only"),
    "affine NaN": (not_a_number, "affine has NaN", t1, "nan", "dwi-only"),
    "affine sheared": (sheared, "not perpendicular", t1, "[", "dwi-only"),
    "affine against voxel size": (scaled, "pixdim [2.0, 2.0, 2.0]", t1, "4.0", "dwi-only"),
    "qform against sform": (
        lambda f: mirrored_sform(t1(f)),
        "qform and sform contradict",
        t1,
        "qform LAS, sform RAS",
        "dwi-only",
    ),
    "qform no rotation": (
        lambda f: patch(t1(f), 256, "<3f", 0.9, 0.9, 0.9),
        "qform and sform contradict",
        t1,
        "",
        "dwi-only",
    ),
    "orientation codes missing": (
        lambda f: write_image(t1(f), (4, 5, 6), code=0),
        "orientation codes",
        t1,
        "qform_code 0, sform_code 0",
        "dwi-only",
    ),
    "voxel size zero": (lambda f: patch(t1(f), 80, "<f", 0), "voxel size", t1, "0.0, 2.0", "dwi-only"),
    "voxel size negative": (lambda f: patch(dwi(f), 84, "<f", -2), "voxel size", dwi, "2.0, -2.0", "t1w-only"),
    "T1 all zero": (
        lambda f: write_image(t1(f), (4, 5, 6), data=np.zeros((4, 5, 6))),
        "all zero",
        t1,
        "volumes 0 (1 of 1)",
        "dwi-only",
    ),
    "T1 infinite voxel": (lambda f: one_voxel(t1(f), np.inf), "NaN or infinity", t1, "", "dwi-only"),
    "T1 NaN voxel": (lambda f: one_voxel(t1(f), np.nan), "NaN", t1, "", "dwi-only"),
    "T1 all negative": (
        lambda f: write_image(t1(f), (4, 5, 6), data=-np.arange(1, 121).reshape(4, 5, 6)),
        "negative",
        t1,
        "",
        "dwi-only",
    ),
    "T1 constant": (
        lambda f: write_image(t1(f), (4, 5, 6), data=np.full((4, 5, 6), 7)),
        "all one value",
        t1,
        "volumes 0",
        "dwi-only",
    ),
    "int16 overflow": (lambda f: overflown(t1(f)), "integers overflowed", t1, "", "dwi-only"),
    "T1 slice missing": (
        lambda f: slice_missing(t1(f), (4, 5, 6), np.s_[:, :, 2]),
        "slices are missing",
        t1,
        "slices 2 (1 of 6) along axis 2 of volumes 0",
        "dwi-only",
    ),
    "DWI slice missing in one volume": (
        lambda f: slice_missing(dwi(f), (4, 5, 6, 7), np.s_[:, :, 0, 4]),
        "slices are missing",
        dwi,
        "slices 0 (1 of 6) along axis 2 of volumes 4 (1 of 7)",
        "t1w-only",
    ),
    "DWI volume negative": (
        lambda f: one_bad_volume(f, -np.arange(120).reshape(4, 5, 6)),
        "negative",
        dwi,
        "volumes 3 (1 of 7)",
        "t1w-only",
    ),
    "DWI volume all zero": (lambda f: one_bad_volume(f, 0), "all zero", dwi, "volumes 3 (1 of 7)", "t1w-only"),
    "DWI volume NaN": (lambda f: one_bad_volume(f, np.nan), "NaN", dwi, "volumes 3 (1 of 7)", "t1w-only"),
}
