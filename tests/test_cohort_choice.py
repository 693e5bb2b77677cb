"""Which of several scans is taken, which are joined, and which notes name the others."""

import json

import numpy as np
import pytest
from bad_scans import bvecs_with, dwi
from cohort_tree import BVALS, BVECS, SIX, add_dwi, add_t1, dataset, index_and_validate, write_image, write_numbers

from m2m.cohort.choice import contrast_agent
from m2m.io.errors import DataError
from m2m.options import Dti
from m2m.translate.folder import listed_t1s, units_of

TWELVE = np.vstack([np.zeros(3), SIX, SIX[:, [1, 0, 2]] * [1, -1, 1]])


def series(root, entities, b, vectors=BVECS, json_of=None, **image):
    """A DWI of one shell."""
    bvals = np.r_[0, np.full(len(vectors) - 1, b)]
    shape = (4, 5, 6, len(bvals))
    data = np.random.default_rng(list(entities.encode())).integers(1, 1000, shape)
    path = add_dwi(root, "sub-01", entities=entities, bvals=bvals, bvecs=vectors, data=data, **image)
    if json_of is not None:
        path.with_name(path.name.replace("nii.gz", "json")).write_text(json.dumps(json_of))
    return path


@pytest.fixture
def root(tmp_path):
    root = dataset(tmp_path / "ds")
    add_t1(root, "sub-01")
    return root


def validated(root, tmp_path, **options):
    """The participant's unit, and the findings that are no notes of the cohort."""
    units, findings = index_and_validate(root, tmp_path, **options)
    return units["sub-01"], findings


def test_the_series_with_most_directions_that_the_fit_uses_is_taken(root, tmp_path):
    low = series(root, "_acq-b1000", 1000)
    series(root, "_acq-b3000", 3000, TWELVE)
    unit, findings = validated(root, tmp_path)
    assert unit["dwi"] == str(low) and unit["joined"] is None
    (note,) = findings
    why = "not joined, since dti.max_b_s_per_mm2 is 1500 and its b 3000"
    assert note["value"].endswith(f"it has 6 directions that the tensor fit uses, this one 0; {why}")


def test_series_that_differ_by_shell_only_are_joined_where_the_fit_uses_them(root, tmp_path):
    low, high = series(root, "_acq-b700", 700), series(root, "_acq-b1200", 1200, np.vstack([BVECS[:1], -TWELVE[7:]]))
    unit, findings = validated(root, tmp_path)
    assert unit["dwi"] == str(high)
    gradients = [str(low).replace("nii.gz", kind) for kind in ("bval", "bvec")]
    assert json.loads(unit["joined"]) == [[str(low), *gradients]]
    (note,) = findings
    assert (note["severity"], note["problem"]) == (
        "note",
        "several DWI of this unit are joined: they differ by shell only",
    )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"json_of": {"PhaseEncodingDirection": "j-"}}, "their phase encodings differ"),
        ({"json_of": {"EchoTime": 0.11}}, "their echo times differ, 0.08 and 0.11 s"),
        ({"affine": np.diag([-2.5, 2.5, 2.5, 1])}, "they are on different grids"),
        ({"b": 760}, "they share a shell"),
    ],
)
def test_series_that_differ_by_more_are_not_joined_and_why_is_named(root, tmp_path, other, why):
    series(root, "_acq-a", 700, TWELVE, {"PhaseEncodingDirection": "j", "EchoTime": 0.08})
    series(root, "_acq-b", **{"b": 1200, **other})
    unit, (note,) = validated(root, tmp_path)
    assert unit["dwi"].endswith("acq-a_dwi.nii.gz") and unit["joined"] is None
    assert note["problem"] == "another DWI of this unit is used" and why in note["value"]


@pytest.mark.parametrize(
    ("acquisition", "agent"),
    [
        ("acq-postGd", True),
        ("acq-gad", True),
        ("acq-ce", True),
        ("ce-gadolinium", True),
        ("acq-pre", False),
        ("acq-preGd", False),
        ("acq-nonGd", False),
        ("acq-mprage", False),
        ("run-1", False),
    ],
)
def test_a_contrast_agent_is_read_from_the_name(acquisition, agent):
    row = {"path": f"sub-01_{acquisition}_T1w.nii.gz", "json": None}
    assert bool(contrast_agent(row)) == agent


def test_a_t1w_without_contrast_agent_is_taken_and_the_other_named(tmp_path):
    root = dataset(tmp_path / "ds")
    post, before = (add_t1(root, "sub-01", entities=name) for name in ("_acq-postGd", "_acq-pre"))
    add_dwi(root, "sub-01")
    unit, (note,) = validated(root, tmp_path)
    assert unit["t1w"] == str(before) and note["file"] == str(post)
    assert note["value"].endswith("it was taken without contrast agent, this one with (acq-postGd)")
    before.unlink()
    unit, (note,) = validated(root, tmp_path)
    assert unit["t1w"] == str(post) and note["problem"] == "the T1w was taken after a contrast agent"


def test_a_scan_of_another_session_is_named_and_paired_where_that_is_wanted(tmp_path):
    root = dataset(tmp_path / "ds")
    t1 = add_t1(root, "sub-01", "ses-1")
    add_t1(root, "sub-01", "ses-4")
    add_dwi(root, "sub-01", "ses-2")
    units, findings = index_and_validate(root, tmp_path)
    assert units["sub-01_ses-2"]["state"] == "dwi-only"
    assert units["sub-01_ses-2"]["reason"] == "no T1w in this session"
    (finding,) = (f for f in findings if f["unit"] == "sub-01_ses-2")
    assert finding["file"] == str(t1) and "is of another session (ses-1)" in finding["value"]
    assert "cohort.t1w_of_other_session: true" in finding["remedy"]
    units, findings = index_and_validate(root, tmp_path, t1w_of_other_session=True)
    assert (units["sub-01_ses-2"]["state"], units["sub-01_ses-2"]["t1w"]) == ("paired", str(t1))
    (finding,) = (f for f in findings if f["unit"] == "sub-01_ses-2")
    assert (finding["severity"], finding["value"]) == ("note", "ses-1 for ses-2")


def test_a_scan_that_is_not_taken_is_named_where_no_other_is_found(tmp_path):
    root = dataset(tmp_path / "ds")
    add_dwi(root, "sub-01")
    other = add_t1(root, "sub-01", entities="_space-MNI152Lin")
    unit, findings = validated(root, tmp_path)
    assert unit["reason"] == "no T1w that is taken"
    (finding,) = (f for f in findings if f["unit"] == "sub-01")
    assert finding["value"] == f"{other}: space-MNI152Lin is not the participant's own"


@pytest.mark.parametrize(("level", "remedy"), [(1.0, "write 0 for them in bval"), (0.4, "they are trace images")])
def test_a_weighted_volume_without_direction_is_b0_or_trace_by_its_brightness(tmp_path, level, remedy):
    root = dataset(tmp_path / "ds", "sub-01")
    bvecs_with(root / "sub-01", 6, 0)
    data = np.random.default_rng(0).uniform(400, 600, (4, 5, 6, 7)) * [1, *[0.4] * 5, level]
    write_image(dwi(root / "sub-01"), data.shape, data=data)
    _, (finding,) = validated(root, tmp_path)
    assert finding["problem"] == "weighted volumes have no direction (zero b-vector)"
    assert remedy in finding["remedy"] and finding["value"].startswith("volumes 6 (1 of 7); b = 1000; ")
    assert float(finding["value"].split("; ")[-1].split(" ")[0]) == pytest.approx(100 * level, abs=3)


def test_the_limit_of_b0_is_that_of_the_fit(root, tmp_path):
    add_dwi(root, "sub-01", bvals=np.where(BVALS, 1000, 65))
    unit, (finding,) = validated(root, tmp_path)
    assert unit["state"] == "t1w-only" and finding["value"] == "smallest 65"
    assert "set dti.b0_threshold_s_per_mm2 above it" in finding["remedy"]
    fit = Dti(b0_threshold_s_per_mm2=100).model_dump_json()
    unit, findings = validated(root, tmp_path, dti_options=fit)
    assert unit["state"] == "paired" and findings == []


def test_a_table_in_world_axes_is_checked_like_fsls(root, tmp_path):
    path = add_dwi(root, "sub-01", entities="_desc-preproc")
    table = np.column_stack([BVECS, BVALS])
    table[3, :3] *= 0.7
    write_numbers(str(path).replace(".nii.gz", ".b"), table)
    unit, findings = validated(root, tmp_path)
    assert unit["state"] == "t1w-only"
    assert [f["value"] for f in findings] == ["volumes 3 (1 of 7); length 0.7 at b = 1000"]
    write_numbers(str(path).replace(".nii.gz", ".b"), table[:-1])
    _, findings = validated(root, tmp_path)
    assert "other length than the image" in findings[0]["problem"]


def test_a_folder_to_translate_has_the_t1w_that_a_study_would_take(tmp_path):
    root = dataset(tmp_path / "ds")
    own = add_t1(root, "sub-01")
    add_t1(root, "sub-01", entities="_space-MNI152Lin_desc-preproc")
    add_t1(root, "sub-02")
    (root / ".bidsignore").write_text("sub-02/\n")
    units = dict(units_of(root, listed_t1s(root)))
    assert {unit: [row["path"] for row in rows] for unit, rows in units.items()} == {"sub-01": [str(own)]}
    own.unlink()
    with pytest.raises(DataError, match=r"no T1w image that is taken.*is listed in \.bidsignore; space-MNI152Lin"):
        list(units_of(root, listed_t1s(root)))
