"""Outputs are never inputs: refused before anything is written."""

import json
import os

import nibabel as nib
import numpy as np
import pytest
import yaml
from cohort_tree import AFFINE, add_t1, dataset
from line_model import run, write_line
from workflow import snakemake

from m2m.cohort import describe
from m2m.io.errors import DataError
from m2m.io.overwriting import require_apart, require_outside, sidecar_of
from m2m.io.volume import Volume, load, save


def contents(folder):
    """Bytes of every file, and the target of every link."""
    return {p: p.readlink() if p.is_symlink() else p.read_bytes() for p in folder.rglob("*") if not p.is_dir()}


@pytest.fixture
def t1(tmp_path):
    """A T1 with its sidecar, a mask, and a model, in one folder."""
    root = tmp_path / "scans"
    path = add_t1(root, "sub-01").rename(root / "T1.nii.gz")
    (root / "T1.json").write_text('{"Manufacturer": "Example"}')
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), AFFINE), root / "brain.nii.gz")
    write_line(root)
    return path


def links(t1):
    """Other names of the T1."""
    (t1.parent / "link.nii.gz").symlink_to(t1.name)
    os.link(t1, t1.parent / "hard.nii.gz")
    (t1.parent / "again").symlink_to(".")


@pytest.mark.parametrize(
    "options",
    [
        ["--out", "T1.nii.gz"],
        ["--out", "again/T1.nii.gz"],
        ["--out", "link.nii.gz"],
        ["--out", "hard.nii.gz"],
        ["--out", "./sub-01/../T1.nii.gz"],
        ["--out", "T1.nii"],  # its sidecar is the T1's
        ["--out", "brain.nii.gz", "--brain", "brain.nii.gz"],
        ["--out", "model.nii.gz"],  # its sidecar is the model's record
        ["--out", "FA.nii.gz", "--out-sd", "T1.nii.gz"],
        ["--out", "FA.nii.gz", "--figure", "T1.json"],
        ["--out", "FA.nii.gz", "--status", "T1.json"],
        ["--out", "FA.nii.gz", "--out-sd", "FA.nii.gz"],
        ["--out", "FA.nii.gz", "--status", "FA.json"],
    ],
)
def test_a_t1_is_not_translated_onto_an_input_or_two_outputs_onto_each_other(t1, monkeypatch, options):
    links(t1)
    monkeypatch.chdir(t1.parent)
    before = contents(t1.parent)
    result = run("translate", "T1.nii.gz", "--weights", "model.safetensors", *options)
    assert result.exit_code == 2, result.output
    assert "output" in result.output
    assert contents(t1.parent) == before


@pytest.mark.parametrize("out", ["ds", "ds/", "link", "ds/maps", "ds/sub-01", ".", "ds/derivatives/../maps"])
def test_a_folder_is_not_translated_into_itself(tmp_path, monkeypatch, out):
    root = dataset(tmp_path / "ds", "sub-01")
    description = {"Name": "Raw", "BIDSVersion": "1.9.0", "Authors": ["A. Example"]}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / ".bidsignore").write_text("extra/")
    (tmp_path / "link").symlink_to("ds")
    (tmp_path / "model").mkdir()
    weights = write_line(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    result = run("translate", "ds", "--weights", weights, "--out", out)
    assert result.exit_code == 2, result.output
    assert contents(tmp_path) == before


def test_results_may_lie_beside_a_dataset_or_below_its_derivatives(tmp_path):
    (tmp_path / "ds").mkdir()
    for out in ("ds-maps", "maps", "ds/derivatives/m2m"):
        require_outside(tmp_path / out, tmp_path / "ds")


@pytest.mark.parametrize("results, name", [(".", "ds"), ("ds", "m2m"), ("link", "m2m"), (".", "around")])
def test_the_workflow_does_not_start_with_results_in_the_dataset(tmp_path, results, name):
    root = dataset(tmp_path / "around/raw" if name == "around" else tmp_path / "ds", "sub-01")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    config = {"dataset": name, "results": str(tmp_path / results), "models": {"mean": {"family": "mean"}}}
    config |= {"cohort": {"source": "bids", "bids_dir": str(root)}, "tasks": {"t1-fa": {"models": ["mean"]}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    before = contents(root)
    (tmp_path / "elsewhere").mkdir()
    call = snakemake(tmp_path / "elsewhere", "--cores", "1", "cohort", configfile=str(tmp_path / "config.yaml"))
    assert call.returncode != 0 and "raw data must not be written to" in call.stdout
    assert contents(root) == before


def test_no_volume_is_saved_onto_a_source(tmp_path):
    volume = Volume(np.ones((2, 2, 2), np.float32), AFFINE)
    save(tmp_path / "a.nii.gz", volume)
    (tmp_path / "b.nii.gz").symlink_to("a.nii.gz")
    with pytest.raises(DataError, match="output is an input"):
        save(tmp_path / "a.nii.gz", Volume(2 * volume.data, AFFINE), [tmp_path / "b.nii.gz"])
    assert load(tmp_path / "a.nii.gz").data.max() == 1


def test_a_dataset_is_not_described_as_its_own_results(tmp_path):
    root = dataset(tmp_path / "ds")
    before = contents(root)
    with pytest.raises(DataError, match="own folder"):
        describe.main(root, str(root))
    assert contents(root) == before


def test_a_link_to_itself_is_no_endless_search(tmp_path):
    (tmp_path / "loop.nii.gz").symlink_to("loop.nii.gz")
    require_apart([tmp_path / "out.nii.gz"], [tmp_path / "loop.nii.gz"])
    with pytest.raises(DataError, match="output is an input"):
        require_apart([tmp_path / "loop.nii.gz"], [tmp_path / "loop.nii.gz"])


def test_names_of_sidecars(tmp_path):
    for name in ("a.nii.gz", "a.nii", "a.mgz", "a.img", "a.safetensors"):
        assert sidecar_of(tmp_path / name) == tmp_path / "a.json"
    require_apart([tmp_path / "out"], [tmp_path / "in"])
