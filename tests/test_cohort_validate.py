"""Every kind of bad scan is found, named with subject, file, value and remedy, and left out."""

import gzip
import json
import struct

import nibabel as nib
import numpy as np
import pytest
from cohort_tree import (
    AFFINE,
    BVALS,
    BVECS,
    SIX,
    add_dwi,
    add_t1,
    dataset,
    judge,
    write_image,
    write_numbers,
)

from m2m.cohort.checks import affine_problem
from m2m.cohort.gradients import distinct_directions
from m2m.stage import DataError, read_table


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


# What is done to a sound person, and what is to be said about it.
BAD = {
    "T1 unreadable": (
        lambda f: t1(f).write_bytes(b"not an image"), "cannot be read", t1, "", "dwi-only"),
    "T1 empty": (lambda f: t1(f).write_bytes(b""), "cannot be read", t1, "", "dwi-only"),
    "T1 link without target": (
        lambda f: (t1(f).unlink(), t1(f).symlink_to("nowhere")),
        "missing", t1, "", "dwi-only"),
    "T1 truncated": (lambda f: cut(t1(f)), "to its end", t1, "", "dwi-only"),
    "T1 not 3D": (
        lambda f: write_image(t1(f), (4, 5, 6, 2)), "not 3D", t1, "(4, 5, 6, 2)", "dwi-only"),
    "T1 one slice": (lambda f: write_image(t1(f), (4, 5, 1)), "not 3D", t1, "(4, 5", "dwi-only"),
    "DWI not 4D": (
        lambda f: write_image(dwi(f), (4, 5, 6)), "not 4D", dwi, "(4, 5, 6)", "t1w-only"),
    "complex voxels": (
        lambda f: write_image(t1(f), (4, 5, 6), dtype=np.complex64),
        "not real numbers", t1, "complex64", "dwi-only"),
    "bval missing": (lambda f: bval(f).unlink(), "bval is missing", dwi, "", "t1w-only"),
    "bvec missing": (lambda f: bvec(f).unlink(), "bvec is missing", dwi, "", "t1w-only"),
    "bval not numbers": (
        lambda f: bval(f).write_text("0 b b b b b b"), "bval cannot be read", bval, "",
        "t1w-only"),
    "bval empty": (lambda f: bval(f).write_text(""), "bval is empty", bval, "", "t1w-only"),
    "bvec ragged": (
        lambda f: bvec(f).write_text("0 1\n0 1\n0\n"), "bvec cannot be read", bvec, "",
        "t1w-only"),
    "bval shorter": (
        lambda f: write_numbers(bval(f), BVALS[None, :-1]),
        "bval is of other length", bval, "1 rows of 6, expected 1 row(s) of 7", "t1w-only"),
    "bvec longer": (
        lambda f: write_numbers(bvec(f), np.vstack([BVECS, BVECS]).T),
        "bvec is of other length", bvec, "3 rows of 14", "t1w-only"),
    "bvec swapped": (
        lambda f: write_numbers(bvec(f), BVECS),
        "rows and columns swapped", bvec, "7 rows of 3", "t1w-only"),
    "bval swapped": (
        lambda f: write_numbers(bval(f), BVALS[:, None]),
        "rows and columns swapped", bval, "7 rows of 1", "t1w-only"),
    "no b0": (
        lambda f: write_numbers(bval(f), BVALS[None] + 51), "no b0", bval, "smallest 51",
        "t1w-only"),
    "negative b-value": (
        lambda f: write_numbers(bval(f), -BVALS[None]), "negative", bval, "volumes 1, 2",
        "t1w-only"),
    "b-values in ms/um2": (
        lambda f: write_numbers(bval(f), BVALS[None] / 1000), "not plausible", bval, "largest 1",
        "t1w-only"),
    "b-values in s/m2": (
        lambda f: write_numbers(bval(f), BVALS[None] * 1e6), "not plausible", bval, "1e+09",
        "t1w-only"),
    "vector of other length": (
        lambda f: bvecs_with(f, 4, SIX[3] * 0.7), "not of unit length", bvec,
        "volumes 4 (1 of 7); length 0.7", "t1w-only"),
    "trace image": (
        lambda f: bvecs_with(f, 6, 0), "not of unit length", bvec, "length 0", "t1w-only"),
    "NaN vector": (
        lambda f: bvecs_with(f, 0, np.nan), "NaN", bvec, "volumes 0 (1 of 7)", "t1w-only"),
    "five directions": (few_directions, "fewer than six", bvec, "5 distinct", "t1w-only"),
    "directions in a plane": (
        in_a_plane, "do not determine a tensor", bvec, "6 directions, 3 of 6", "t1w-only"),
    "affine singular": (singular, "affine is singular", t1, "[", "dwi-only"),
    "affine NaN": (not_a_number, "affine holds NaN", t1, "nan", "dwi-only"),
    "affine sheared": (sheared, "not perpendicular", t1, "[", "dwi-only"),
    "affine against voxel size": (scaled, "pixdim [2.0, 2.0, 2.0]", t1, "4.0", "dwi-only"),
    "orientation codes missing": (
        lambda f: write_image(t1(f), (4, 5, 6), code=0), "orientation codes", t1,
        "qform_code 0, sform_code 0", "dwi-only"),
    "voxel size zero": (
        lambda f: patch(t1(f), 80, "<f", 0), "voxel size", t1, "0.0, 2.0", "dwi-only"),
    "voxel size negative": (
        lambda f: patch(dwi(f), 84, "<f", -2), "voxel size", dwi, "2.0, -2.0", "t1w-only"),
    "T1 all zero": (
        lambda f: write_image(t1(f), (4, 5, 6), data=np.zeros((4, 5, 6))), "all zero", t1,
        "volumes 0 (1 of 1)", "dwi-only"),
    "DWI volume all zero": (
        lambda f: one_bad_volume(f, 0), "all zero", dwi, "volumes 3 (1 of 7)", "t1w-only"),
    "DWI volume NaN": (
        lambda f: one_bad_volume(f, np.nan), "NaN", dwi, "volumes 3 (1 of 7)", "t1w-only"),
}  # fmt: skip


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """One cohort with every kind of bad scan, a person each, and sub-ok: units and findings."""
    out = tmp_path_factory.mktemp("spoilt")
    people = {kind: f"sub-bad{i}" for i, kind in enumerate(BAD)}
    root = dataset(out / "ds", "sub-ok", *people.values())
    for kind, person in people.items():
        BAD[kind][0](root / person)
    return root, people, *judge(root, out)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_scan_is_named_and_takes_only_itself_away(kind, spoilt):
    _, problem, file, value, state = BAD[kind]
    root, people, units, findings = spoilt
    person = people[kind]
    own = [f for f in findings if f["unit"] == person]
    assert {f["severity"] for f in own} == {"error"}
    (finding,) = (f for f in own if problem in f["problem"])
    assert finding["file"] == str(file(root / person))
    assert value in (finding["value"] or "")
    assert finding["remedy"]
    assert units[person]["state"] == state
    assert units[person]["t1w" if state == "dwi-only" else "dwi"] is None
    assert units[person]["reason"].split(": ", 1)[1] in {f["problem"] for f in own}


def test_the_cohort_goes_on_with_the_sound(spoilt):
    _, people, units, findings = spoilt
    assert units["sub-ok"]["state"] == "paired"
    assert "sub-ok" not in {f["unit"] for f in findings}
    assert set(units) == {"sub-ok", *people.values()}


def test_sound_scans_have_no_finding(tmp_path):
    units, findings = judge(dataset(tmp_path / "ds", "sub-01", "sub-02"), tmp_path)
    assert findings == []
    assert {unit["state"] for unit in units.values()} == {"paired"}
    assert units["sub-01"]["folder"] == "sub-01"


def test_missing_scans_are_named_with_the_place_where_they_belong(tmp_path):
    root = dataset(tmp_path / "ds")
    add_t1(root, "sub-01")
    add_dwi(root, "sub-02")
    units, findings = judge(root, tmp_path)
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
    units, findings = judge(root, tmp_path)
    assert units["sub-01"]["dwi"].endswith("run-2_dwi.nii.gz")
    assert units["sub-01"]["bvec"].endswith("run-2_dwi.bvec")
    kinds = {f["file"].split("_")[-2]: f["severity"] for f in findings}
    assert kinds == {"run-1": "note", "run-3": "error"}
    assert units["sub-01"]["state"] == "paired"


def test_of_equal_runs_the_first_by_name_is_used(tmp_path):
    root = dataset(tmp_path / "ds")
    for direction in ("_dir-PA", "_dir-AP"):
        add_dwi(root, "sub-01", entities=direction)
    units, _ = judge(root, tmp_path)
    assert units["sub-01"]["dwi"].endswith("dir-AP_dwi.nii.gz")


def test_each_session_is_a_unit_and_shares_a_t1_without_session(tmp_path):
    root = dataset(tmp_path / "ds")
    shared = add_t1(root, "sub-01")
    own = add_t1(root, "sub-01", "ses-2")
    for session in ("ses-1", "ses-2"):
        add_dwi(root, "sub-01", session)
    units, findings = judge(root, tmp_path)
    assert [u["t1w"] for u in units.values()] == [str(shared), str(own)]
    assert [u["folder"] for u in units.values()] == ["sub-01/ses-1", "sub-01/ses-2"]
    assert findings == []


def test_scans_with_the_same_entities_are_both_left_out(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    write_image(root / "sub-02/anat/sub-02_T1w.nii", (4, 5, 6))
    units, findings = judge(root, tmp_path)
    assert units["sub-02"]["state"] == "dwi-only"
    assert {f["problem"] for f in findings} == {"duplicate subject: scans with the same entities"}
    assert all("sub-02_T1w.nii," in f["value"] for f in findings)


def test_the_same_image_under_two_names_is_noted(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02", "sub-03")
    (root / "sub-03" / "anat" / "sub-03_T1w.nii.gz").write_bytes(t1(root / "sub-02").read_bytes())
    units, findings = judge(root, tmp_path)
    assert {(f["unit"], f["severity"]) for f in findings} == {
        ("sub-02", "note"),
        ("sub-03", "note"),
    }
    assert {unit["state"] for unit in units.values()} == {"paired"}


def test_a_file_in_another_persons_folder_is_not_used(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    t1(root / "sub-02").rename(root / "sub-02" / "anat" / "sub-01_T1w.nii.gz")
    units, findings = judge(root, tmp_path)
    assert units["sub-01"]["state"] == "paired"
    assert units["sub-02"]["state"] == "dwi-only"
    assert "disagree" in findings[0]["problem"]


def test_a_label_that_bids_forbids_fails_its_unit_alone(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-2+2")
    units, findings = judge(root, tmp_path)
    assert units["sub-2+2"]["state"] == "failed"
    assert units["sub-01"]["state"] == "paired"
    assert "letters and digits" in findings[0]["problem"]


def test_a_mask_on_another_grid_is_left_out_and_its_scan_kept(tmp_path):
    root = dataset(tmp_path / "ds")
    for person, shape in (("sub-01", (4, 5, 6)), ("sub-02", (4, 5, 7))):
        add_t1(root, person, entities="_desc-preproc")
        write_image(root / person / "anat" / f"{person}_desc-brain_mask.nii.gz", shape)
    units, findings = judge(root, tmp_path)
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
        judge(root, tmp_path)
    assert len(read_table(tmp_path / "cohort_status.tsv")) == 2


def test_voxels_can_be_left_unread(tmp_path):
    root = dataset(tmp_path / "ds", "sub-02")
    one_bad_volume(root / "sub-02", np.nan)
    units, findings = judge(root, tmp_path, check_voxels=False)
    assert units["sub-02"]["state"] == "paired"
    assert findings == []


def test_two_processes_find_what_one_finds(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02", "sub-03")
    one_bad_volume(root / "sub-02", np.nan)
    bvecs_with(root / "sub-02", 4, 0)
    assert judge(root, tmp_path, threads=2) == judge(root, tmp_path, threads=1)


def test_oblique_and_flipped_affines_are_sound():
    turn = np.eye(4)
    c, s = np.cos(0.4), np.sin(0.4)
    turn[:2, :2] = [[c, -s], [s, c]]
    assert affine_problem(turn @ AFFINE, np.array([2.0, 2.0, 2.0])) == ""
    assert affine_problem(np.diag([1.7, 1.7, -5.2, 1]), np.array([1.7, 1.7, 5.2])) == ""


def test_opposite_directions_are_one():
    vectors = np.vstack([SIX, -SIX, SIX])
    assert len(distinct_directions(vectors)) == 6
    assert len(distinct_directions(vectors[:0])) == 0


def test_the_real_dataset_has_three_pairs(shared_data, tmp_path):
    root = shared_data / "bids"
    units, findings = judge(root, tmp_path, root / "participants.tsv")
    states = [unit["state"] for unit in units.values()]
    assert [states.count(s) for s in ("paired", "t1w-only", "dwi-only")] == [3, 6, 4]
    assert [name for name, u in units.items() if u["state"] == "paired"] == [
        "sub-DEC", "sub-IUB", "sub-UIB",
    ]  # fmt: skip
    assert sum(f["severity"] == "error" for f in findings) == 10
    assert json.dumps(findings).count("another DWI of this unit is used") == 2
