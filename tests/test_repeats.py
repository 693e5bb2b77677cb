"""Several T1s of a participant and session: their maps compared."""

import json

import numpy as np
import pandas as pd
import pytest
from line_model import run, write_line
from nibabel.affines import from_matvec
from scipy import ndimage
from scipy.spatial.transform import Rotation

from m2m.io.volume import Volume, load, resample, resample_inside, save
from m2m.structural.template import load_template
from m2m.translate import SOME_FAILED
from m2m.translate.repeats import Translated, compare_repeat


@pytest.fixture(scope="module")
def twice():
    """The template's T1, and where its points lie in that of the head turned by 7 degrees and shifted by 5 mm."""
    t1 = load_template("t1", 3.0)
    turn = from_matvec(Rotation.from_rotvec([0, 7, 0], degrees=True).as_matrix(), [3, 0, 4])
    return Volume(1000 * t1.data, t1.affine), turn


def test_maps_of_a_turned_head_differ_by_what_was_added(tmp_path, twice):
    t1, turn = twice
    brain = Volume(load_template("brain", 3.0).data > 0.5, t1.affine)
    grid = t1.affine, t1.shape, turn
    smooth = ndimage.gaussian_filter(load_template("wm", 3.0).data, 2)  # so that interpolation changes it little
    maps = {"T1": t1, "FA": Volume(0.2 + 0.3 * smooth, t1.affine)}
    for kind, image in maps.items():
        there, covered = resample_inside(image, brain, *grid)
        added = 0.02 if kind == "FA" else 0
        save(tmp_path / f"a_{kind}.nii.gz", Volume(np.where(brain.data, image.data, 0), t1.affine))
        save(tmp_path / f"b_{kind}.nii.gz", Volume(np.where(covered.data, there.data + added, 0), t1.affine))
    first, second = (Translated(*(tmp_path / f"{one}_{kind}.nii.gz" for kind in maps)) for one in "ab")
    found = compare_repeat(first, second, "fa", 3.0)
    assert found["rotation_deg"] == pytest.approx(7, abs=0.5)
    assert found["bias"] == pytest.approx(0.02, abs=0.002)
    assert found["pearson"] > 0.98 and 0.02 <= found["mae"] < 0.03
    assert found["sd_within"] == pytest.approx(0.02 / np.sqrt(2), rel=0.1)
    itself = compare_repeat(first, first, "fa", 3.0)
    assert itself["pearson"] == pytest.approx(1) and itself["mae"] == itself["bias"] == 0


def test_every_further_t1_of_a_session_is_compared_with_the_first(tmp_path, twice):
    t1, turn = twice
    root, weights = tmp_path / "bids", write_line(tmp_path / "line", slope=0.5, spacing_mm=6.0, shape=[32, 40, 36])
    root.mkdir()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "twice", "BIDSVersion": "1.10.0"}))
    scans = {
        "sub-01/anat/sub-01_run-1_T1w.nii.gz": t1.data,
        "sub-01/anat/sub-01_run-2_T1w.nii.gz": resample(t1, t1.affine, t1.shape, turn).data,
        "sub-01/anat/sub-01_run-3_T1w.nii.gz": np.where(np.arange(t1.shape[2]) < 8, t1.data, 0),  # of no whole brain
        "sub-01/anat/sub-01_ce-gd_T1w.nii.gz": t1.data,
        "sub-02/anat/sub-02_T1w.nii.gz": t1.data,
    }
    for name, data in scans.items():
        save(root / name, Volume(data.astype(np.float32), t1.affine))
    result = run("translate", root, "--repeats", "--out", tmp_path / "out", "--weights", weights)
    assert result.exit_code == SOME_FAILED and "1 of 2 repeated T1s compared, 1 not" in result.output, result.output
    table = pd.read_csv(tmp_path / "out/repeats.tsv", sep="\t")
    good, bad = table.to_dict("records")
    assert good["second"].endswith("run-2_T1w.nii.gz") and bad["second"].endswith("run-3_T1w.nii.gz")
    assert good["pearson"] > 0.9 and good["rotation_deg"] == pytest.approx(7, abs=1.5)
    assert np.isnan(bad["pearson"]) and "run-3" in bad["problem"]
    name = "sub-01_run-2_space-T1w_desc-synth_model-tensor_param-fa_dwimap.nii.gz"
    assert load(tmp_path / "out/sub-01/dwi" / name).shape == t1.shape
    assert not list((tmp_path / "out").rglob("*sub-02*"))


def test_a_folder_without_repeats_is_refused(tmp_path, twice):
    root, weights = tmp_path / "bids", write_line(tmp_path / "line")
    save(root / "sub-01/anat/sub-01_T1w.nii.gz", twice[0])
    (root / "dataset_description.json").write_text(json.dumps({"Name": "once", "BIDSVersion": "1.10.0"}))
    result = run("translate", root, "--repeats", "--out", tmp_path / "out", "--weights", weights)
    assert result.exit_code == 1 and "no participant has two T1s" in result.output and not (tmp_path / "out").exists()
    for source, flags in ((root / "sub-01/anat/sub-01_T1w.nii.gz", []), (root, ["--bundles"])):
        result = run("translate", source, "--repeats", *flags, "--out", tmp_path / "out.nii.gz", "--weights", weights)
        assert result.exit_code == 2 and "--repeats takes a BIDS folder" in " ".join(result.output.split())
