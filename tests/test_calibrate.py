"""A model calibrated on measured pairs: the line to measured maps and the deviation of errors."""

import numpy as np
import pytest
from line_model import run, write_line
from nibabel.affines import from_matvec
from scipy.spatial.transform import Rotation

from m2m.diffusion import tensors
from m2m.io.bids import files_of
from m2m.io.files import file_digest, read_json, write_json
from m2m.io.modalities import MODALITIES
from m2m.io.tables import write_table
from m2m.io.volume import Volume, load, save
from m2m.models.record import load_model
from m2m.options.real_options import PAIR_COLUMNS, PAIRS
from m2m.translate.predict import Network, Subject, predict

SHAPE, AFFINE = (14, 16, 12), np.diag([3.0, 3, 3, 1])
NOISE = 0.05


@pytest.fixture
def pairs(tmp_path, rng):
    """Two pairs whose FA is .1 + .5 of the scaled T1, and noise; and one that failed."""
    root = tmp_path / "real"
    brain = np.zeros(SHAPE, bool)
    brain[2:-2, 2:-2, 2:-2] = True
    rows = []
    for unit in ("sub-1", "sub-2"):
        at, t1 = files_of(unit, root), np.where(brain, rng.random(SHAPE), 0)
        t1[3, 3, 3], t1[3, 3, 4] = 0, 1
        fa = np.where(brain, 0.1 + 0.5 * t1 + NOISE * rng.standard_normal(SHAPE), 0)
        target = brain.copy()
        target[:, :, :5] = False
        fa[~target] = 1  # not measured
        for kind, image in {"t1w": t1, "brain": brain, "target-mask": target, "fa": fa}.items():
            save(at(kind), Volume(image.astype(np.float32), AFFINE))
        write_json(at("anat-status"), {"status": "ok", "excluded": [], "grid_to_mni": np.eye(4).tolist()})
        rows.append({"unit": unit, "participant_id": unit, "folder": unit, "dwi": "dwi"})
    rows.append({"unit": "sub-3", "participant_id": "sub-3", "folder": "sub-3", "problem": "no brain"})
    write_table(root / PAIRS, rows, PAIR_COLUMNS)
    return tmp_path


def test_maps_are_on_the_line_of_measured_ones_and_their_deviation_is_that_of_the_errors(pairs):
    weights = write_line(pairs / "model", intercept=0.2, slope=0.9)
    result = run("calibrate", "--root", pairs, "--weights", weights, "--out", pairs / "out")
    assert result.exit_code == 0, result.output
    out = pairs / "out" / "model.safetensors"
    assert file_digest(out) == file_digest(weights), "the network is not changed"
    tensors, record = load_model(out, out.with_name("model.json"))
    assert record["calibration"]["slope"] == pytest.approx(0.5 / 0.9, abs=0.02)
    assert record["calibration"]["n_subjects"] == 2
    assert record["uncertainty"]["part"] == "pairs"
    assert record["uncertainty"]["factors"]["constant"] == pytest.approx(NOISE, rel=0.1)
    assert "2 participants outside the training" in out.with_name("model_card.md").read_text().replace("\n", " ")
    at = files_of("sub-1", pairs / "real")
    t1, brain = load(at("t1w")), load(at("brain"))
    subject = Subject(t1, Volume(brain.data > 0, AFFINE), np.eye(4))
    found = predict(subject, tensors, record, Network())
    inside = brain.data > 0
    np.testing.assert_allclose(found.image.data[inside], (0.1 + 0.5 * t1.data)[inside], atol=0.015)
    again = run("calibrate", "--root", pairs, "--weights", out, "--out", pairs / "again")
    assert again.exit_code == 0
    assert read_json(pairs / "again/model.json")["calibration"] == record["calibration"], "of the network, not on top"


def test_pairs_on_another_grid_and_maps_that_do_not_rise_are_refused(pairs):
    other = write_line(pairs / "other", spacing_mm=2.0)
    result = run("calibrate", "--root", pairs, "--weights", other, "--out", pairs / "out")
    assert result.exit_code == 1 and "trained at 2.0 mm" in result.output and "real.spacing_mm" in result.output
    falling = write_line(pairs / "falling", slope=-1.0)
    result = run("calibrate", "--root", pairs, "--weights", falling, "--out", pairs / "out")
    assert result.exit_code == 1 and "do not rise" in result.output
    assert not (pairs / "out").exists()
    result = run("calibrate", "--root", pairs / "none", "--weights", falling, "--out", pairs / "out")
    assert result.exit_code == 1 and "m2m translate-pairs" in result.output


def test_tensors_have_a_line_for_mean_diffusivity_and_a_factor_for_the_rest(pairs, rng):
    """Measured tensors on a grid that is oblique to the world; those of the network have their directions."""
    network = np.array([0.2, 0.3, -0.1, 0.5, 0.15, -0.4])  # log D - log 0.7e-3 per unit of T1, along the grid
    turn = Rotation.from_euler("xyz", [10, -20, 15], degrees=True).as_matrix()
    affine = AFFINE @ from_matvec(turn)
    mean, rest = tensors.isotropic_and_rest(network)
    for unit in ("sub-1", "sub-2"):
        at, into = files_of(unit, pairs / "real"), files_of(unit, pairs / "real-dti")
        for kind in ("t1w", "brain", "target-mask"):
            save(into(kind), Volume(load(at(kind)).data, affine))
        write_json(into("anat-status"), read_json(at("anat-status")))
        t1 = load(at("t1w")).data[..., None]
        log = tensors.of_parts(0.1 + 0.7 * mean * t1[..., 0], 0.6 * rest * t1)
        dti = MODALITIES["dti"]
        measured = dti.unscale(dti.to_world_axes(log, affine))
        measured[5, 5] = 0  # not measured
        save(into("tensor"), Volume(measured.astype(np.float32), affine))
    (pairs / "real-dti" / PAIRS).write_bytes((pairs / "real" / PAIRS).read_bytes())
    weights = write_line(pairs / "tensors", 0.0, network, target="dti", axes="grid")
    result = run("calibrate", "--root", pairs, "--weights", weights, "--out", pairs / "out")
    assert result.exit_code == 0, result.output
    tensors_of, record = load_model(pairs / "out/model.safetensors", pairs / "out/model.json")
    line = record["calibration"]
    assert (line["intercept"], line["slope"], line["anisotropy"]) == pytest.approx((0.1, 0.7, 0.6), abs=1e-3)
    assert "for mean log diffusivity, and 0.6" in (pairs / "out/model_card.md").read_text().replace("\n", " ")
    t1, brain = (load(files_of("sub-1", pairs / "real-dti")(kind)) for kind in ("t1w", "brain"))
    found = predict(Subject(t1, Volume(brain.data > 0, affine), np.eye(4)), tensors_of, record, Network())
    measured = load(files_of("sub-1", pairs / "real-dti")("tensor")).data
    inside = (brain.data > 0) & measured.any(-1)
    np.testing.assert_allclose(
        MODALITIES["dti"].unscale(found.image.data)[inside], measured[inside], rtol=5e-3, atol=1e-6
    )


def test_pairs_that_are_left_out_are_not_used_and_must_be_pairs(pairs):
    weights = write_line(pairs / "model", intercept=0.2, slope=0.9)
    flags = ("calibrate", "--root", pairs, "--weights", weights, "--out", pairs / "out")
    assert run(*flags, "--leave-out", "sub-2").exit_code == 0
    assert read_json(pairs / "out/model.json")["calibration"]["n_subjects"] == 1
    for given, problem in ((["sub-4"], "no pair (found sub-4)"), (["sub-1", "sub-2"], "no pair is left")):
        result = run(*flags, *(part for unit in given for part in ("--leave-out", unit)))
        assert result.exit_code == 1 and problem in result.output, result.output


def test_contrast_moves_the_slope_towards_equal_deviations_and_keeps_the_mean(pairs):
    weights = write_line(pairs / "model", intercept=0.2, slope=0.9)
    found = {}
    for contrast in (0, 0.5, 1):
        out = pairs / f"out{contrast}"
        result = run("calibrate", "--root", pairs, "--weights", weights, "--out", out, "--contrast", contrast)
        assert result.exit_code == 0, result.output
        found[contrast] = read_json(out / "model.json")["calibration"]
    deviations = np.hypot(0.5 / np.sqrt(12), NOISE) / (0.9 / np.sqrt(12))  # of .5 times a uniform T1, with noise
    assert found[1]["slope"] == pytest.approx(deviations, rel=0.02)
    assert found[0.5]["slope"] == pytest.approx((found[0]["slope"] + found[1]["slope"]) / 2, abs=1e-4)
    means = [one["intercept"] + one["slope"] * (0.2 + 0.9 * 0.5) for one in found.values()]
    np.testing.assert_allclose(means, 0.1 + 0.5 * 0.5, atol=0.01)
