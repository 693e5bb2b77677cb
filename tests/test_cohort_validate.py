"""Every kind of bad scan is found, named with subject, file, value and remedy, and left out."""

import json

import numpy as np
import pytest
from bad_files import BAD_MASKS, GOOD_MASKS
from bad_scans import bvecs_with, one_bad_volume, t1
from bad_selection import EVERY as BAD
from cohort_tree import (
    AFFINE,
    BVALS,
    BVECS,
    SIX,
    add_dwi,
    add_t1,
    dataset,
    index_and_validate,
    write_image,
    write_numbers,
)

from m2m.cohort import scans
from m2m.cohort.checks import affine_problem, check_scan
from m2m.io.bvalues import distinct_directions
from m2m.io.errors import DataError
from m2m.io.tables import read_table


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """One cohort with every kind of bad scan, a participant each, and sub-ok: units and findings."""
    out = tmp_path_factory.mktemp("spoilt")
    subjects = {kind: f"sub-bad{i}" for i, kind in enumerate(BAD)}
    root = dataset(out / "ds", "sub-ok", *subjects.values())
    for kind, subject in subjects.items():
        BAD[kind][0](root / subject)
    return root, subjects, *index_and_validate(root, out)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_scan_is_named_and_takes_only_itself_away(kind, spoilt):
    _, problem, file, value, state = BAD[kind]
    root, subjects, units, findings = spoilt
    subject = subjects[kind]
    own = [f for f in findings if f["unit"] == subject]
    assert {f["severity"] for f in own} == {"error"}
    (finding,) = (f for f in own if problem in f["problem"])
    assert finding["file"] == str(file(root / subject))
    assert value in (finding["value"] or "")
    assert finding["remedy"] and len(finding["problem"].splitlines()) == 1
    assert units[subject]["state"] == state
    assert units[subject]["t1w" if state == "dwi-only" else "dwi"] is None
    assert units[subject]["reason"].split(": ", 1)[-1] in {f["problem"] for f in own}


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """A participant for each kind of mask, right or wrong: units and findings."""
    out = tmp_path_factory.mktemp("masked")
    damage = {kind: put for kind, (put, _) in BAD_MASKS.items()} | GOOD_MASKS
    subjects = {kind: f"sub-mask{i}" for i, kind in enumerate(damage)}
    root = dataset(out / "ds", *subjects.values())
    for kind, put in damage.items():
        put(root / subjects[kind])
    return subjects, *index_and_validate(root, out)


@pytest.mark.parametrize("kind", BAD_MASKS)
def test_what_is_no_mask_is_left_out_and_its_scan_kept(kind, masked):
    subjects, units, findings = masked
    subject = subjects[kind]
    (finding,) = (f for f in findings if f["unit"] == subject)
    assert BAD_MASKS[kind][1] in finding["problem"] and finding["remedy"]
    assert finding["file"].endswith("_desc-brain_mask.nii.gz")
    assert units[subject]["state"] == "paired" and units[subject]["t1w_mask"] is None


@pytest.mark.parametrize("kind", GOOD_MASKS)
def test_masks_of_fractions_or_other_values_inside_are_used(kind, masked):
    subjects, units, findings = masked
    assert subjects[kind] not in {f["unit"] for f in findings}
    assert units[subjects[kind]]["t1w_mask"].endswith("_desc-brain_mask.nii.gz")


def test_whatever_error_a_scan_raises_is_its_finding(tmp_path, monkeypatch, capsys):
    def failing(suffix, path, *further):
        if "sub-02" in path:
            raise ZeroDivisionError("of a bug")
        return check_scan(suffix, path, *further)

    monkeypatch.setattr(scans, "check_scan", failing)
    units, findings = index_and_validate(dataset(tmp_path / "ds", "sub-01", "sub-02"), tmp_path)
    assert (units["sub-01"]["state"], units["sub-02"]["state"]) == ("paired", "failed")
    assert {f["problem"] for f in findings} == {"unexpected ZeroDivisionError: of a bug"}
    assert "in failing" in capsys.readouterr().err  # the traceback, for the log


def test_a_scan_larger_than_the_option_allows_is_left_out(tmp_path):
    units, findings = index_and_validate(dataset(tmp_path / "ds", "sub-01"), tmp_path, max_volume_gb=4e-7)
    assert units["sub-01"]["state"] == "dwi-only"
    assert (findings[0]["problem"], findings[0]["value"]) == (
        "image is too large: cohort.max_volume_gb is 4e-07 GB",
        "shape (4, 5, 6), 4.8e-07 GB in memory",
    )


def test_the_cohort_goes_on_with_the_sound(spoilt):
    _, subjects, units, findings = spoilt
    assert units["sub-ok"]["state"] == "paired"
    assert "sub-ok" not in {f["unit"] for f in findings}
    assert set(units) == {"sub-ok", *subjects.values()}


def test_sound_scans_have_no_finding(tmp_path):
    units, findings = index_and_validate(dataset(tmp_path / "ds", "sub-01", "sub-02"), tmp_path)
    assert findings == []
    assert {unit["state"] for unit in units.values()} == {"paired"}
    assert units["sub-01"]["folder"] == "sub-01"


def test_missing_scans_are_named_with_the_place_where_they_belong(tmp_path):
    root = dataset(tmp_path / "ds")
    add_t1(root, "sub-01")
    add_dwi(root, "sub-02")
    units, findings = index_and_validate(root, tmp_path)
    assert [unit["state"] for unit in units.values()] == ["t1w-only", "dwi-only"]
    assert [(f["problem"], f["file"]) for f in findings] == [
        ("no DWI in the dataset", "sub-01/dwi/sub-01_dwi.nii.gz"),
        ("no T1w in the dataset", "sub-02/anat/sub-02_T1w.nii.gz"),
    ]


def test_the_sound_run_with_most_directions_is_used_and_others_are_noted(tmp_path):
    root = dataset(tmp_path / "ds")
    add_t1(root, "sub-01")
    more = np.vstack([BVECS, [1, 0, 0]])
    add_dwi(root, "sub-01", entities="_run-1")
    add_dwi(root, "sub-01", entities="_run-2", bvals=np.append(BVALS, 1000), bvecs=more)
    best = add_dwi(root, "sub-01", entities="_run-3")
    write_numbers(str(best).replace(".nii.gz", ".bvec"), BVECS)
    units, findings = index_and_validate(root, tmp_path)
    assert units["sub-01"]["dwi"].endswith("run-2_dwi.nii.gz")
    assert units["sub-01"]["bvec"].endswith("run-2_dwi.bvec")
    kinds = {f["file"].split("_")[-2]: f["severity"] for f in findings}
    assert kinds == {"run-1": "note", "run-3": "error"}
    assert units["sub-01"]["state"] == "paired"


def test_of_equal_runs_the_first_by_name_is_used(tmp_path):
    root = dataset(tmp_path / "ds")
    for direction in ("_dir-PA", "_dir-AP"):
        add_dwi(root, "sub-01", entities=direction)
    units, _ = index_and_validate(root, tmp_path)
    assert units["sub-01"]["dwi"].endswith("dir-AP_dwi.nii.gz")


def test_each_session_is_a_unit_and_shares_a_t1_without_session(tmp_path):
    root = dataset(tmp_path / "ds")
    shared = add_t1(root, "sub-01")
    own = add_t1(root, "sub-01", "ses-2")
    for session in ("ses-1", "ses-2"):
        add_dwi(root, "sub-01", session)
    units, findings = index_and_validate(root, tmp_path)
    assert [u["t1w"] for u in units.values()] == [str(shared), str(own)]
    assert [u["folder"] for u in units.values()] == ["sub-01/ses-1", "sub-01/ses-2"]
    assert findings == []


def test_scans_with_the_same_entities_are_both_left_out(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    write_image(root / "sub-02/anat/sub-02_T1w.nii", (4, 5, 6))
    units, findings = index_and_validate(root, tmp_path)
    assert units["sub-02"]["state"] == "dwi-only"
    assert {f["problem"] for f in findings} == {"duplicate subject: scans with the same entities"}
    assert all("sub-02_T1w.nii," in f["value"] for f in findings)


def test_the_same_image_under_two_names_is_noted(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02", "sub-03")
    (root / "sub-03" / "anat" / "sub-03_T1w.nii.gz").write_bytes(t1(root / "sub-02").read_bytes())
    units, findings = index_and_validate(root, tmp_path)
    assert {(f["unit"], f["severity"]) for f in findings} == {
        ("sub-02", "note"),
        ("sub-03", "note"),
    }
    assert {unit["state"] for unit in units.values()} == {"paired"}


def test_a_file_in_another_participants_folder_is_not_used(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    t1(root / "sub-02").rename(root / "sub-02" / "anat" / "sub-01_T1w.nii.gz")
    units, findings = index_and_validate(root, tmp_path)
    assert units["sub-01"]["state"] == "paired"
    assert units["sub-02"]["state"] == "dwi-only"
    assert "disagree" in findings[0]["problem"]


def test_a_label_that_bids_forbids_fails_its_unit_alone(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-2+2")
    units, findings = index_and_validate(root, tmp_path)
    assert units["sub-2+2"]["state"] == "failed"
    assert units["sub-01"]["state"] == "paired"
    assert "letters and digits" in findings[0]["problem"]


def brain(shape):
    """Voxels of a brain mask: 1 but for a rim."""
    data = np.zeros(shape)
    data[1:-1, 1:-1, 1:-1] = 1
    return data


def test_a_mask_on_another_grid_is_left_out_and_its_scan_kept(tmp_path):
    root = dataset(tmp_path / "ds")
    for subject, shape in (("sub-01", (4, 5, 6)), ("sub-02", (4, 5, 7))):
        add_t1(root, subject, entities="_desc-preproc")
        write_image(root / subject / "anat" / f"{subject}_desc-brain_mask.nii.gz", shape, data=brain(shape))
    units, findings = index_and_validate(root, tmp_path)
    assert units["sub-01"]["t1w_mask"].endswith("sub-01_desc-brain_mask.nii.gz")
    assert units["sub-02"]["t1w_mask"] is None
    assert units["sub-02"]["t1w"] is not None
    (finding,) = (f for f in findings if "another grid" in f["problem"])
    assert (finding["unit"], finding["value"]) == ("sub-02", "shape (4, 5, 7), image (4, 5, 6)")


def test_an_empty_cohort_is_an_error_that_keeps_its_findings(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01")
    for path in root.rglob("*.nii.gz"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="cohort is empty"):
        index_and_validate(root, tmp_path)
    assert len(read_table(tmp_path / "cohort_status.tsv")) == 2


def test_voxels_can_be_left_unread(tmp_path):
    root = dataset(tmp_path / "ds", "sub-02")
    one_bad_volume(root / "sub-02", np.nan)
    units, findings = index_and_validate(root, tmp_path, check_voxels=False)
    assert units["sub-02"]["state"] == "paired"
    assert findings == []


def test_two_processes_find_what_one_finds(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02", "sub-03")
    one_bad_volume(root / "sub-02", np.nan)
    bvecs_with(root / "sub-02", 4, 0)
    assert index_and_validate(root, tmp_path, threads=2) == index_and_validate(root, tmp_path, threads=1)


def test_oblique_and_flipped_affines_are_sound():
    rotation = np.eye(4)
    c, s = np.cos(0.4), np.sin(0.4)
    rotation[:2, :2] = [[c, -s], [s, c]]
    assert affine_problem(rotation @ AFFINE, np.array([2.0, 2.0, 2.0])) == ""
    assert affine_problem(np.diag([1.7, 1.7, -5.2, 1]), np.array([1.7, 1.7, 5.2])) == ""


def test_opposite_directions_are_one():
    vectors = np.vstack([SIX, -SIX, SIX])
    assert len(distinct_directions(vectors)) == 6
    assert len(distinct_directions(vectors[:0])) == 0


def test_the_real_dataset_has_three_pairs(shared_data, tmp_path):
    root = shared_data / "bids"
    units, findings = index_and_validate(root, tmp_path, root / "participants.tsv")
    states = [unit["state"] for unit in units.values()]
    assert [states.count(s) for s in ("paired", "t1w-only", "dwi-only")] == [3, 6, 4]
    assert [name for name, u in units.items() if u["state"] == "paired"] == ["sub-DEC", "sub-IUB", "sub-UIB"]
    assert sum(f["severity"] == "error" for f in findings) == 10
    assert json.dumps(findings).count("another DWI of this unit is used") == 2
