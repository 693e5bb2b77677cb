"""Defects that the selection of scans and the checks of gradient tables find: as in bad_scans.py."""

import numpy as np
from bad_files import FILES
from bad_scans import BAD, bval, bvec, bvecs_with, dwi, t1
from cohort_tree import BVALS, BVECS, write_image, write_numbers


def world(folder):
    return folder / "dwi" / f"{folder.name}_dwi.b"


def world_table(folder, table):
    """Leave MRtrix3's gradient table in place of FSL's files."""
    for path in (bval(folder), bvec(folder)):
        path.unlink()
    write_numbers(world(folder), table)


def renamed(path, name):
    """Rename an image: `sub-01_T1w` to `sub-01` and this name."""
    path.rename(path.with_name(f"{path.name.split('_')[0]}{name}.nii.gz"))


def without_direction(folder, level):
    """A last volume of a high b and a zero vector, with a part of the signal of b0."""
    bvecs_with(folder, 6, 0)
    data = np.random.default_rng(0).uniform(400, 600, (4, 5, 6, 7)) * [1, *[0.4] * 5, level]
    write_image(dwi(folder), data.shape, data=data)


# Damage to a sound participant, and its finding: problem, file, value, and the unit's state.
SELECTION = {
    "T1 in a template's space only": (
        lambda f: renamed(t1(f), "_space-MNI152NLin6Asym_T1w"),
        "no T1w that is taken",
        lambda f: t1(f).with_name(f"{f.name}_space-MNI152NLin6Asym_T1w.nii.gz"),
        "space-MNI152NLin6Asym is not the participant's own",
        "dwi-only",
    ),
    "T1 of unknown preprocessing only": (
        lambda f: renamed(t1(f), "_desc-smoothed_T1w"),
        "no T1w that is taken",
        lambda f: t1(f).with_name(f"{f.name}_desc-smoothed_T1w.nii.gz"),
        "desc-smoothed is not known",
        "dwi-only",
    ),
    "T1 a phase image only": (
        lambda f: renamed(t1(f), "_part-phase_T1w"),
        "no T1w that is taken",
        lambda f: t1(f).with_name(f"{f.name}_part-phase_T1w.nii.gz"),
        "part-phase is no magnitude image",
        "dwi-only",
    ),
    "DWI in a template's space only": (
        lambda f: renamed(dwi(f), "_space-MNI152Lin_dwi"),
        "no DWI that is taken",
        lambda f: dwi(f).with_name(f"{f.name}_space-MNI152Lin_dwi.nii.gz"),
        "space-MNI152Lin is not",
        "t1w-only",
    ),
    "T1 of .bidsignore": (
        lambda f: (f.parent / ".bidsignore").open("a").write(f"{f.name}/anat\n"),
        "no T1w that is taken",
        t1,
        "is listed in .bidsignore",
        "dwi-only",
    ),
    "b0 with a high b and no direction": (
        lambda f: without_direction(f, 1.0),
        "no direction",
        bvec,
        "% of the brightness of b0",
        "t1w-only",
    ),
    "trace image at its brightness": (
        lambda f: without_direction(f, 0.4),
        "no direction",
        bvec,
        "% of the brightness of b0",
        "t1w-only",
    ),
    "every vector zero": (
        lambda f: write_numbers(bvec(f), 0 * BVECS.T),
        "no direction",
        bvec,
        "volumes 1, 2, 3, 4, 5, 6 (6 of 7)",
        "t1w-only",
    ),
    "b0 written as 65": (
        lambda f: write_numbers(bval(f), np.where(BVALS, BVALS, 65)[None]),
        "no b0",
        bval,
        "smallest 65",
        "t1w-only",
    ),
    "every b-value zero": (lambda f: write_numbers(bval(f), 0 * BVALS[None]), "not plausible", bval, "0", "t1w-only"),
    "b-values of two rows": (
        lambda f: write_numbers(bval(f), np.stack([BVALS, BVALS])),
        "bval is of other length",
        bval,
        "2 rows of 7",
        "t1w-only",
    ),
    "b-values with commas": (
        lambda f: bval(f).write_text(",".join(map(str, BVALS))),
        "bval cannot be read",
        bval,
        "",
        "t1w-only",
    ),
    "infinite b-value": (
        lambda f: write_numbers(bval(f), np.where(BVALS, np.inf, 0)[None]),
        "negative or not numbers",
        bval,
        "volumes 1, 2",
        "t1w-only",
    ),
    "MRtrix3's table alone, of three columns": (
        lambda f: world_table(f, BVECS),
        "of other length than the image",
        world,
        "3 rows of 7",
        "t1w-only",
    ),
    "MRtrix3's table alone, shorter": (
        lambda f: world_table(f, np.column_stack([BVECS, BVALS])[:-1]),
        "of other length than the image",
        world,
        "4 rows of 6",
        "t1w-only",
    ),
    "MRtrix3's table alone, not of unit length": (
        lambda f: world_table(f, np.column_stack([0.5 * BVECS, BVALS])),
        "not of unit length",
        world,
        "length 0.5 at b = 1000",
        "t1w-only",
    ),
    "MRtrix3's table alone, with NaN": (
        lambda f: world_table(f, np.column_stack([BVECS * np.nan, BVALS])),
        "NaN or infinity",
        world,
        "(7 of 7)",
        "t1w-only",
    ),
}

EVERY = BAD | FILES | SELECTION
