"""The index lists every scan of raw BIDS and of derivatives, with what belongs to it."""

import json
from pathlib import Path

import pytest
from cohort_tree import (
    BVALS,
    BVECS,
    add_dwi,
    add_t1,
    dataset,
    judge,
    list_scans,
    write_image,
    write_numbers,
)

from m2m.cohort import index
from m2m.io.errors import DataError


def by_name(rows):
    return {Path(row["path"]).name: row for row in rows}


def test_sessions_runs_and_missing_pieces_each_have_their_row(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01")
    add_t1(root, "sub-02", "ses-a")
    add_dwi(root, "sub-02", "ses-b", "_dir-AP_run-02")
    rows = by_name(list_scans(root, tmp_path))
    assert len(rows) == 4
    t1, dwi = rows["sub-02_ses-a_T1w.nii.gz"], rows["sub-02_ses-b_dir-AP_run-02_dwi.nii.gz"]
    assert (t1["participant_id"], t1["session_id"], t1["suffix"]) == ("sub-02", "ses-a", "T1w")
    assert (dwi["session_id"], dwi["run"], dwi["direction"]) == ("ses-b", "02", "AP")
    assert Path(dwi["bval"]).name == "sub-02_ses-b_dir-AP_run-02_dwi.bval"


def test_paths_are_as_the_dataset_was_given(tmp_path, monkeypatch):
    dataset(tmp_path / "ds", "sub-01")
    monkeypatch.chdir(tmp_path)
    rows = list_scans(Path("ds"), tmp_path)
    assert {row["path"] for row in rows} == {
        "ds/sub-01/anat/sub-01_T1w.nii.gz",
        "ds/sub-01/dwi/sub-01_dwi.nii.gz",
    }


def test_gradients_higher_up_are_inherited_and_nearer_ones_win(tmp_path):
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


def test_gradients_of_another_series_are_not_borrowed(tmp_path):
    root = dataset(tmp_path / "ds")
    add_dwi(root, "sub-01", entities="_acq-x")
    add_dwi(root, "sub-01", bvals=None, bvecs=None)
    row = by_name(list_scans(root, tmp_path))["sub-01_dwi.nii.gz"]
    assert row["bval"] is None
    assert row["bvec"] is None


def test_words_like_entities_above_the_dataset_mean_nothing(tmp_path):
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
    assert len(list_scans(root, tmp_path)) == 2


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
    rows = by_name(list_scans(derivatives, tmp_path))
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


def test_the_real_dataset_has_thirteen_people(shared_data, tmp_path):
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
    people = [f"sub-{label}" for label in labels]
    units, findings = judge(dataset(tmp_path / "ds", "sub-a", *people), tmp_path)
    assert units.pop("sub-a")["state"] == "paired"
    assert set(units) == set(people) == {f["unit"] for f in findings}
    assert {unit["state"] for unit in units.values()} == {"failed"}
    assert {f["problem"] for f in findings} == {"label has other than letters and digits"}


def test_a_path_with_shell_characters_is_listed_as_it_is(tmp_path):
    root = dataset(tmp_path / "my $(touch x) 'q' \"d\" ünï {a}", "sub-01")
    units, findings = judge(root, tmp_path)
    assert units["sub-01"]["t1w"] == str(root / "sub-01/anat/sub-01_T1w.nii.gz")
    assert units["sub-01"]["state"] == "paired" and findings == []


def test_links_that_lead_round_in_circles_are_not_followed(tmp_path):
    root = dataset(tmp_path / "ds", "sub-01", "sub-02")
    for link in ("loop", "sub-01/loop", "sub-01/anat/loop", "sub-02/ses-1", "sub-02/dwi/loop"):
        (root / link).symlink_to(root)
    units, findings = judge(root, tmp_path)
    assert {unit["state"] for unit in units.values()} == {"paired"}
    assert findings == []
    assert len(list_scans(root, tmp_path)) == 4
