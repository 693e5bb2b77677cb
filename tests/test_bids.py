"""Names of files: one pattern, in BIDS words."""

import pytest

from m2m.io import bids


def test_a_unit_is_a_participant_in_a_session():
    assert bids.unit_name("01") == "sub-01"
    assert bids.unit_name("sub-01", "1") == "sub-01_ses-1"


@pytest.mark.parametrize(
    ("unit", "folder"), [("sub-01", "sub-01"), ("sub-01_ses-1", "sub-01/ses-1")]
)
def test_a_unit_has_its_own_folder(unit, folder):
    assert bids.unit_folder(unit) == folder


def test_entities_stand_in_the_order_of_the_standard():
    name = bids.bids_name(
        "dwimap", ".nii.gz", param="fa", model="tensor", desc="synth", space="T1w", sub="01"
    )
    assert name == "sub-01_space-T1w_desc-synth_model-tensor_param-fa_dwimap.nii.gz"


def test_an_absent_entity_leaves_no_trace():
    assert bids.bids_name("T1w", ".nii.gz", sub="01", ses=None) == "sub-01_T1w.nii.gz"


@pytest.mark.parametrize("label", ["a_b", "a-b", "a b", "", "../x", "ä", "1\n"])
def test_a_label_with_other_than_letters_and_digits_is_refused(label):
    with pytest.raises(ValueError, match="letters and digits"):
        bids.bids_name(sub=label)


def test_an_unknown_entity_is_refused_by_name():
    with pytest.raises(ValueError, match="acquisition"):
        bids.bids_name(sub="01", acquisition="x")


def test_a_path_of_the_design_is_built_word_for_word():
    path = bids.unit_path(
        "results/demo/synthetic/t1-fa/macro2micro", "synth-fa", "sub-01/ses-1", "sub-01_ses-1"
    )
    assert path == (
        "results/demo/synthetic/t1-fa/macro2micro/sub-01/ses-1/dwi/"
        "sub-01_ses-1_space-T1w_desc-synth_model-tensor_param-fa_dwimap.nii.gz"
    )


def test_no_two_kinds_share_a_path():
    paths = [bids.unit_path("r", kind, "sub-01", "sub-01") for kind in bids.KINDS]
    assert len(set(paths)) == len(paths)


def test_the_defaults_give_a_pattern_that_fills_to_the_path():
    pattern = bids.unit_path("r", "fa")
    assert pattern.format(folder="sub-1", unit="sub-1") == bids.unit_path(
        "r", "fa", "sub-1", "sub-1"
    )


def test_a_source_in_the_dataset_is_named_from_its_root_and_another_by_its_path():
    root = "results/tiny"
    beside = bids.unit_path(root, "fa", "sub-01/ses-2", "sub-01_ses-2")
    raw = f"{root}/rawdata/sub-01/anat/sub-01_T1w.nii.gz"
    assert bids.uri(raw, beside) == "bids::rawdata/sub-01/anat/sub-01_T1w.nii.gz"
    assert bids.uri("/data/raw/sub-01/a.nii", beside) == "/data/raw/sub-01/a.nii"
    synthetic = bids.unit_path(f"{root}/synthetic/t1-fa/mean", "synth-fa", "sub-01", "sub-01")
    assert bids.uri(raw, synthetic) == raw
    assert bids.uri("t1.nii.gz", "fa.nii.gz") == "t1.nii.gz"


@pytest.mark.parametrize(("session", "unit"), [(None, "sub-01"), ("ses-1", "sub-01_ses-1")])
def test_a_stage_names_its_unit_by_subject_and_session(session, unit):
    assert bids.unit_of("sub-01", session) == unit


@pytest.mark.parametrize("given", [("01",), ("sub-01_ses-1",), ("sub-01", "1"), ("sub-0/1",)])
def test_what_is_no_label_names_no_unit(given):
    with pytest.raises(ValueError, match="not a subject and session"):
        bids.unit_of(*given)
