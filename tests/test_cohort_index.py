"""The index lists every scan of raw BIDS and of derivatives, with its gradients, sidecar and mask."""

import json
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from cohort_tree import (
    BVALS,
    BVECS,
    add_dwi,
    add_t1,
    dataset,
    index_and_validate,
    list_scans,
    write_image,
    write_numbers,
)

from m2m.cohort import index
from m2m.cohort.bidsignore import Ignored
from m2m.io.errors import DataError
from m2m.io.quoting import printable


def by_name(rows):
    return {Path(row["path"]).name: row for row in rows}


def taken(rows):
    return [row for row in rows if not row["left_out"]]


def test_sessions_runs_and_missing_files_each_have_their_row(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01")
    add_t1(root, "sub-02", "ses-a")
    add_dwi(root, "sub-02", "ses-b", "_dir-AP_run-02")
    rows = by_name(list_scans(root, tmp_path))
    assert len(rows) == 4
    t1, dwi = rows["sub-02_ses-a_T1w.nii.gz"], rows["sub-02_ses-b_dir-AP_run-02_dwi.nii.gz"]
    assert (t1["participant_id"], t1["session_id"], t1["suffix"]) == ("sub-02", "ses-a", "T1w")
    assert (dwi["session_id"], dwi["run"], dwi["direction"]) == ("ses-b", "02", "AP")
    assert Path(dwi["bval"]).name == "sub-02_ses-b_dir-AP_run-02_dwi.bval"


def test_paths_start_with_the_dataset_as_given(tmp_path, monkeypatch):
    dataset(tmp_path / "ds", "sub-01")
    monkeypatch.chdir(tmp_path)
    rows = list_scans(Path("ds"), tmp_path)
    assert {row["path"] for row in rows} == {
        "ds/sub-01/anat/sub-01_T1w.nii.gz",
        "ds/sub-01/dwi/sub-01_dwi.nii.gz",
    }


def test_gradients_higher_up_are_inherited_and_nearer_ones_are_preferred(tmp_path):
    root = dataset(tmp_path / "ds")
    add_dwi(root, "sub-01", bvals=None, bvecs=None)
    add_dwi(root, "sub-02")
    write_numbers(root / "dwi.bval", BVALS[None])
    write_numbers(root / "dwi.bvec", BVECS.T)
    (root / "dwi.json").write_text("{}")
    rows = by_name(list_scans(root, tmp_path))
    first, second = rows["sub-01_dwi.nii.gz"], rows["sub-02_dwi.nii.gz"]
    assert first["bval"] == str(root / "dwi.bval")
    assert first["bvec"] == str(root / "dwi.bvec")
    assert first["json"] == str(root / "dwi.json")
    assert second["bval"] == str(root / "sub-02/dwi/sub-02_dwi.bval")


def test_gradients_of_another_series_are_not_used(tmp_path):
    root = dataset(tmp_path / "ds")
    add_dwi(root, "sub-01", entities="_acq-x")
    add_dwi(root, "sub-01", bvals=None, bvecs=None)
    row = by_name(list_scans(root, tmp_path))["sub-01_dwi.nii.gz"]
    assert row["bval"] is None
    assert row["bvec"] is None


def test_folder_names_like_entities_above_the_dataset_are_ignored(tmp_path):
    root = dataset(tmp_path / "sub-99 ä" / "ses-9 run-3" / "data set", "sub-01")
    for row in list_scans(root, tmp_path):
        assert (row["participant_id"], row["session_id"], row["run"]) == ("sub-01", None, None)
        assert Path(row["path"]).is_file()


def test_only_magnitude_images_and_no_nested_derivatives_are_listed(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01")
    add_dwi(root, "sub-01", entities="_part-phase")
    add_t1(root / "derivatives" / "other", "sub-01")
    add_t1(root / "sourcedata", "sub-01")
    write_image(root / "sub-01/dwi/sub-01_sbref.nii.gz", (4, 5, 6))
    rows = list_scans(root, tmp_path)
    assert len(taken(rows)) == 2
    assert [row["left_out"] for row in rows if row["left_out"]] == ["part-phase is no magnitude image"]


@pytest.fixture
def derivatives(tmp_path):
    root = tmp_path / "qsiprep"
    dataset(root)
    (root / "dataset_description.json").write_text(
        json.dumps({"Name": "d", "BIDSVersion": "1.9.0", "DatasetType": "derivative"})
    )
    for space in ("", "_space-MNI152NLin2009cAsym"):
        add_t1(root, "sub-01", entities=f"{space}_desc-preproc")
        write_image(root / f"sub-01/anat/sub-01{space}_desc-brain_mask.nii.gz", (4, 5, 6))
    write_image(root / "sub-01/anat/sub-01_label-GM_probseg.nii.gz", (4, 5, 6))
    add_dwi(root, "sub-01", "ses-1", "_space-T1w_desc-preproc")
    folder = root / "sub-01/ses-1/dwi"
    write_image(folder / "sub-01_ses-1_space-T1w_desc-brain_mask.nii.gz", (4, 5, 6))
    return root


def test_derivatives_give_native_preprocessed_scans_with_their_masks(derivatives, tmp_path):
    every = list_scans(derivatives, tmp_path)
    assert [row["left_out"] for row in every if row["left_out"]] == [
        "space-MNI152NLin2009cAsym is not the participant's own"
    ]
    rows = by_name(taken(every))
    scans = {name: row for name, row in rows.items() if row["suffix"] != "mask"}
    t1 = scans.pop("sub-01_desc-preproc_T1w.nii.gz")
    dwi = scans.pop("sub-01_ses-1_space-T1w_desc-preproc_dwi.nii.gz")
    assert not scans
    assert Path(t1["mask"]).name == "sub-01_desc-brain_mask.nii.gz"
    assert Path(dwi["mask"]).name == "sub-01_ses-1_space-T1w_desc-brain_mask.nii.gz"
    assert Path(dwi["bvec"]).name == "sub-01_ses-1_space-T1w_desc-preproc_dwi.bvec"
    assert t1["description"] == dwi["description"] == "preproc"
    assert {row["suffix"] for row in rows.values()} == {"T1w", "dwi", "mask"}


def test_a_folder_without_scans_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match="no T1w and no DWI") as error:
        list_scans(dataset(tmp_path / "empty"), tmp_path)
    assert error.value.file == str(tmp_path / "empty")
    with pytest.raises(DataError, match="not a folder"):
        index.main(tmp_path / "nowhere", tmp_path / "manifest.tsv")


def test_the_real_dataset_has_thirteen_participants(shared_data, tmp_path):
    rows = list_scans(shared_data / "bids", tmp_path)
    assert len({row["participant_id"] for row in rows}) == 13
    assert sum(row["suffix"] == "T1w" for row in rows) == 9
    assert sum(row["suffix"] == "dwi" for row in rows) == 9
    assert all(row["bval"] and row["bvec"] for row in rows if row["suffix"] == "dwi")


def test_a_label_that_bids_forbids_is_reported_under_its_own_name(tmp_path):
    labels = [
        "a b",
        "a;b",
        "q'q",
        'd"d',
        "ü",
        "日本",
        "$(touch x)",
        "`x`",
        "*",
        "a_b",
        "n\nl",
        "t\tb",
        "",
    ]
    subjects = [f"sub-{label}" for label in labels]
    units, findings = index_and_validate(dataset(tmp_path / "ds", "sub-a", *subjects), tmp_path)
    assert units.pop("sub-a")["state"] == "paired"
    assert set(units) == set(map(printable, subjects)) == {f["unit"] for f in findings}
    assert {unit["state"] for unit in units.values()} == {"failed"}
    assert {f["problem"] for f in findings} == {"label has characters other than letters and digits"}


def test_a_path_with_shell_characters_is_listed_unchanged(tmp_path):
    root = dataset(tmp_path / "my $(touch x) 'q' \"d\" ünï {a}", "sub-01")
    units, findings = index_and_validate(root, tmp_path)
    assert units["sub-01"]["t1w"] == str(root / "sub-01/anat/sub-01_T1w.nii.gz")
    assert units["sub-01"]["state"] == "paired" and findings == []


def test_circular_links_are_not_followed(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    for link in ("loop", "sub-01/loop", "sub-01/anat/loop", "sub-02/ses-1", "sub-02/dwi/loop"):
        (root / link).symlink_to(root)
    units, findings = index_and_validate(root, tmp_path)
    assert {unit["state"] for unit in units.values()} == {"paired"}
    assert findings == []
    assert len(list_scans(root, tmp_path)) == 4


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("sub-02", True),
        ("/sub-02/", True),
        ("sub-02/**", True),
        ("**/sub-02_T1w.nii.gz", True),
        ("*_T1w.nii.gz\n!sub-01_T1w.nii.gz", True),
        ("sub-0[2-9]", True),
        ("sub-0[!1]/", True),
        ("# sub-02", False),
        ("anat", True),
        ("/anat", False),
        ("sub-0", False),
        ("sub-02/*_T1w.nii.gz", False),
        ("[", False),
    ],
)
def test_files_that_bidsignore_names_are_not_taken(tmp_path, pattern, named):
    root = dataset(tmp_path / "ds")
    (root / ".bidsignore").write_text(f"# pilot\n\n{pattern}\n")
    assert (PurePosixPath("sub-02/anat/sub-02_T1w.nii.gz") in Ignored(root)) == named


def test_a_pilot_in_bidsignore_is_no_participant_and_is_named(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-pilot")
    (root / ".bidsignore").write_text("sub-pilot/\n")
    units, findings = index_and_validate(root, tmp_path)
    assert list(units) == ["sub-01"]
    notes = {f["problem"]: (f["unit"], f["severity"], f["value"]) for f in findings}
    assert notes == {
        f"{name} that are not taken: each is listed in .bidsignore": ("cohort", "note", "1 scans")
        for name in ("T1w", "DWI")
    }
    (root / ".bidsignore").write_text("sub-*\n")
    with pytest.raises(DataError, match=r"no T1w and no DWI image that is taken.*listed in \.bidsignore"):
        list_scans(root, tmp_path)


def test_scans_of_designer_are_taken_and_other_preprocessing_is_named(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    add_dwi(root, "sub-01", entities="_desc-designer")
    add_dwi(root, "sub-02", entities="_desc-smoothed")
    units, findings = index_and_validate(root, tmp_path)
    assert units["sub-01"]["dwi"].endswith("sub-01_desc-designer_dwi.nii.gz")
    assert units["sub-02"]["dwi"].endswith("sub-02_dwi.nii.gz")
    assert {f["problem"] for f in findings} == {
        "DWI that are not taken: each desc-designer of this session is taken instead",
        "DWI that are not taken: each desc-smoothed is not known as preprocessed (known: preproc, designer)",
    }


def test_the_table_in_world_axes_is_taken_of_preprocessed_series_and_where_there_is_no_other(tmp_path):
    root = dataset(tmp_path / "ds")
    world = np.column_stack([BVECS, BVALS])
    for subject, entities, tables in (
        ("sub-01", "_desc-preproc", {}),
        ("sub-02", "", {}),
        ("sub-03", "", {"bvals": None}),
    ):
        path = add_dwi(root, subject, entities=entities, bvecs=BVECS if not tables else None, **tables)
        write_numbers(str(path).replace(".nii.gz", ".b"), world)
        add_t1(root, subject)
    rows = by_name(list_scans(root, tmp_path))
    found = {name: [Path(row[k]).suffix for k in ("bval", "bvec")] for name, row in rows.items() if row["bvec"]}
    assert found == {
        "sub-01_desc-preproc_dwi.nii.gz": [".bval", ".b"],
        "sub-02_dwi.nii.gz": [".bval", ".bvec"],
        "sub-03_dwi.nii.gz": [".b", ".b"],
    }
    units, findings = index_and_validate(root, tmp_path)
    assert {unit["state"] for unit in units.values()} == {"paired"} and findings == []
