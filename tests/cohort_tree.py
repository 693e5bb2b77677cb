"""Tiny BIDS trees for the tests of the cohort: a few voxels, valid by default."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np

from m2m.cohort import index, validate
from m2m.io.tables import read_table

# Six directions of the icosahedron, and a b0 before them.
GOLDEN = (1 + 5**0.5) / 2
SIX = np.array(
    [[0, 1, GOLDEN], [0, 1, -GOLDEN], [1, GOLDEN, 0], [1, -GOLDEN, 0], [GOLDEN, 0, 1], [-GOLDEN, 0, 1]]
) / np.hypot(1, GOLDEN)
BVECS = np.vstack([np.zeros(3), SIX])
BVALS = np.array([0, *[1000] * 6])
AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])


def write_image(path, shape, seed=0, affine=AFFINE, code=1, data=None, dtype=np.int16):
    """Write a NIfTI image of random numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = np.random.default_rng(seed).integers(1, 1000, shape)
    image = nib.Nifti1Image(np.asarray(data, dtype=dtype), affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nib.save(image, path)
    return path


def name(subject, session=None):
    """`sub-01[_ses-1]` and its folder."""
    parts = [subject, *([session] if session else [])]
    return "_".join(parts), Path(*parts)


def seed_of(text):
    """Seed that gives every file different voxels."""
    return list(os.fsencode(text))


def add_t1(root, subject, session=None, entities="", **image):
    """Add a T1w image."""
    unit, folder = name(subject, session)
    path = root / folder / "anat" / f"{unit}{entities}_T1w.nii.gz"
    return write_image(path, (4, 5, 6), seed_of(path.name), **image)


def add_dwi(root, subject, session=None, entities="", bvals=BVALS, bvecs=BVECS, **image):
    """Add a diffusion series with its gradients; None omits a gradient file."""
    unit, folder = name(subject, session)
    path = root / folder / "dwi" / f"{unit}{entities}_dwi.nii.gz"
    write_image(path, (4, 5, 6, len(BVALS if bvals is None else bvals)), seed_of(path.name), **image)
    if bvals is not None:
        write_numbers(path.with_name(f"{unit}{entities}_dwi.bval"), np.atleast_2d(bvals))
    if bvecs is not None:
        write_numbers(path.with_name(f"{unit}{entities}_dwi.bvec"), np.asarray(bvecs).T)
    return path


def write_numbers(path, table):
    """Write rows of numbers."""
    np.savetxt(path, table, fmt="%.6f")
    return path


def write_rows(path, columns, *rows):
    """Write a TSV."""
    path.write_text("\n".join("\t".join(row) for row in (columns, *rows)) + "\n", encoding="utf-8")
    return path


def dataset(root, *subjects):
    """Build a raw dataset of participants with both scans."""
    root.mkdir(parents=True, exist_ok=True)
    description = {"Name": "tiny", "BIDSVersion": "1.9.0", "DatasetType": "raw"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    for subject in subjects:
        add_t1(root, subject)
        add_dwi(root, subject)
    return root


def list_scans(root, out):
    """Run `m2m index`."""
    index.main(root, out / "manifest.tsv")
    return read_table(out / "manifest.tsv")


def index_and_validate(root, out, participants=None, threads=1, dti_options=None, **options):
    """Run `m2m index` and `m2m validate`: units by name, and findings."""
    list_scans(root, out)
    validate.main(
        out / "manifest.tsv",
        out / "units.tsv",
        out / "cohort_status.tsv",
        participants,
        threads,
        json.dumps(options, default=str),
        dti_options,
    )
    units = {row["unit"]: row for row in read_table(out / "units.tsv")}
    return units, read_table(out / "cohort_status.tsv")
