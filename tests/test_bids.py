"""Names of files: one pattern, as BIDS names."""

from pathlib import Path
from urllib.parse import unquote

import pytest
from line_model import run

from m2m.io import bids, dataset_links
from m2m.io.errors import DataError
from m2m.io.unit_status import recorded


def test_a_unit_is_a_participant_in_a_session():
    assert bids.unit_name("01") == "sub-01"
    assert bids.unit_name("sub-01", "1") == "sub-01_ses-1"


@pytest.mark.parametrize(("unit", "folder"), [("sub-01", "sub-01"), ("sub-01_ses-1", "sub-01/ses-1")])
def test_a_unit_has_its_own_folder(unit, folder):
    assert bids.unit_folder(unit) == folder


def test_entities_are_in_the_order_of_the_standard():
    name = bids.bids_name("dwimap", ".nii.gz", param="fa", model="tensor", desc="synth", space="T1w", sub="01")
    assert name == "sub-01_space-T1w_desc-synth_model-tensor_param-fa_dwimap.nii.gz"


def test_an_absent_entity_is_omitted():
    assert bids.bids_name("T1w", ".nii.gz", sub="01", ses=None) == "sub-01_T1w.nii.gz"


@pytest.mark.parametrize("label", ["a_b", "a-b", "a b", "", "../x", "ä", "1\n"])
def test_a_label_with_characters_other_than_letters_and_digits_is_refused(label):
    with pytest.raises(ValueError, match="letters and digits"):
        bids.bids_name(sub=label)


def test_an_unknown_entity_is_refused_by_name():
    with pytest.raises(ValueError, match="acquisition"):
        bids.bids_name(sub="01", acquisition="x")


def test_a_path_of_the_design_is_built_exactly():
    path = bids.unit_path("results/demo/synthetic/t1-fa/macro2micro", "synth-fa", "sub-01/ses-1", "sub-01_ses-1")
    assert path == (
        "results/demo/synthetic/t1-fa/macro2micro/sub-01/ses-1/dwi/"
        "sub-01_ses-1_space-T1w_desc-synth_model-tensor_param-fa_dwimap.nii.gz"
    )


def test_no_two_kinds_share_a_path():
    paths = [bids.unit_path("r", kind, "sub-01", "sub-01") for kind in bids.KINDS]
    assert len(set(paths)) == len(paths)


def test_the_defaults_give_a_pattern_that_fills_to_the_path():
    pattern = bids.unit_path("r", "fa")
    assert pattern.format(folder="sub-1", unit="sub-1") == bids.unit_path("r", "fa", "sub-1", "sub-1")


def test_a_source_is_named_by_a_bids_uri_and_never_by_a_path_of_this_machine():
    root = "results/tiny"
    sidecar = bids.unit_path(root, "fa", "sub-01/ses-2", "sub-01_ses-2")
    simulated = f"{root}/rawdata/sub-01/anat/sub-01_T1w.nii.gz"
    raw = "/data/raw/sub-01/anat/sub-01_T1w.nii.gz"
    assert dataset_links.uri(simulated, sidecar) == "bids::rawdata/sub-01/anat/sub-01_T1w.nii.gz"
    assert dataset_links.uri(raw, sidecar) == "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
    synthetic = bids.unit_path(f"{root}/synthetic/t1-fa/mean", "synth-fa", "sub-01", "sub-01")
    grid, weights = bids.unit_path(root, "t1w", "sub-01", "sub-01"), f"{root}/models/t1-fa/mean/model.safetensors"
    assert dataset_links.uri(grid, synthetic) == "bids:results:sub-01/anat/sub-01_space-T1w_desc-preproc_T1w.nii.gz"
    assert dataset_links.uri(weights, synthetic) == "bids:results:models/t1-fa/mean/model.safetensors"
    assert dataset_links.uri("/data/me/model.safetensors", synthetic) == "model.safetensors"
    assert dataset_links.uri("/data/me/t1.nii.gz", "fa.nii.gz") == "t1.nii.gz"
    assert dataset_links.uri("/d/a study/sub-1/x y.nii", sidecar) == "bids:raw:sub-1/x%20y.nii"


def test_links_lead_to_the_datasets_that_uris_name(tmp_path):
    raw, root = tmp_path / "my data" / "raw", tmp_path / "results" / "tiny"
    raw.mkdir(parents=True)
    for folder in (root, root / "synthetic" / "t1-fa" / "mean"):
        folder.mkdir(parents=True)
        found = {name: folder / unquote(link) for name, link in dataset_links.links(folder, str(raw)).items()}
        assert found.pop("raw").resolve() == raw
        assert [path.resolve() for path in found.values()] == [root] * (folder != root)
    assert dataset_links.links(root, "https://openneuro.org/ds1") == {"raw": "https://openneuro.org/ds1"}


@pytest.mark.parametrize(("session", "unit"), [(None, "sub-01"), ("ses-1", "sub-01_ses-1")])
def test_a_stage_names_its_unit_by_subject_and_session(session, unit):
    assert bids.unit_of("sub-01", session) == unit


@pytest.mark.parametrize("labels", [("01",), ("sub-01_ses-1",), ("sub-01", "1"), ("sub-0/1",)])
def test_an_invalid_label_is_refused(labels):
    with pytest.raises(DataError, match="not a subject and session"):
        bids.unit_of(*labels)


@pytest.mark.parametrize("kind", ["dwi-3", "dwi", "fa-2", "dwi-2/../..", ""])
def test_a_name_that_is_not_a_low_resolution_has_no_factor(kind):
    assert bids.low_res_factor("dwi-2") == 2
    with pytest.raises(DataError, match="dwi-2 or map-4"):
        bids.low_res_factor(kind)
    with pytest.raises(DataError, match="dwi-2 or map-4"):
        bids.low_res_root("results/tiny", kind)


# Names that would lead out of a folder, or that are no names.
BAD_UNITS = (
    *("", ".", "..", "/", "/etc", "sub-", "sub-..", "sub-1/..", "sub-1_..", "sub-1_ses-", "sub-1_ses-..", "01"),
    *("sub-x_.._.._.._tmp", "sub-1_ses-1_ses-2", "sub-1\n", "sub-ä", "sub-1 ", "sub-{x}", "ses-1", "sub-1_run-1"),
)


@pytest.mark.parametrize("unit", BAD_UNITS)
def test_no_path_is_made_from_a_name_that_is_not_a_unit(unit):
    assert not bids.is_unit(unit)
    with pytest.raises(DataError, match="not a name of a participant"):
        bids.unit_folder(unit)
    for make in (bids.unit_path, bids.slices_path):
        for folder in (unit, "sub-1"):
            with pytest.raises(DataError):
                make("results/tiny", "t1w", folder, unit)
    with pytest.raises(DataError):
        bids.files_of(unit, "results/tiny")("t1w")


@pytest.mark.parametrize("folder", ["..", "/tmp", "sub-2", "sub-1/ses-1", "sub-1/..", ""])
def test_no_path_is_made_from_a_folder_of_another_unit(folder):
    with pytest.raises(DataError, match="not the folder of sub-1"):
        bids.unit_path("results/tiny", "t1w", folder, "sub-1")


@pytest.mark.parametrize("name", ["", "..", "a/b", "/a", "-a", "a_b", "a b", "$a", "%a", "a\n", "{a}", "ä"])
def test_a_name_of_a_task_or_model_has_letters_digits_and_hyphens(name):
    assert bids.require_name("t1-fa", "task") == "t1-fa"
    with pytest.raises(DataError, match="not a name of a task"):
        bids.require_name(name, "task")
    command = (
        "synthesise",
        "--root",
        "r",
        "--subject",
        "sub-1",
        "--model",
        "mean",
        "--config",
        "c.json",
        "--task",
        name,
    )
    result = run(*command)
    assert result.exit_code == 1 and "not a name of a task" in result.output


def test_an_output_stays_below_its_dataset_whatever_a_link_leads_to(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "results"
    outside.mkdir()
    (root / "sub-1").mkdir(parents=True)
    (root / "sub-1" / "dwi").symlink_to(outside)
    status = Path(bids.unit_path(root, "dti-status", "sub-1", "sub-1"))
    with pytest.raises(DataError, match="outside of"), recorded("dti", "sub-1", status, []):
        pass
    assert not list(outside.iterdir())
    inside = Path(bids.unit_path(root, "anat-status", "sub-1", "sub-1"))
    with recorded("anat", "sub-1", inside, []):
        pass
    assert inside.exists()
    # A link in the place of the file itself is replaced.
    secret = outside / "secret.json"
    secret.write_text("mine")
    inside.unlink()
    inside.symlink_to(secret)
    with recorded("anat", "sub-1", inside, []):
        pass
    assert secret.read_text() == "mine" and not inside.is_symlink()
