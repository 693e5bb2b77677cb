"""Translation of whole volumes: the output is on the grid of the input."""

import json
import pickle

import numpy as np
import pytest
import torch
from line_model import SHAPE, UNCERTAINTY, run, write_line
from small_cohort import small_model, train_arguments, write_cohort

from m2m.diffusion.scales import log_density, log_tensor, to_grid_axes
from m2m.diffusion.tensors import to_matrix
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.volume import Volume, load, resample, same_grid, save
from m2m.models.record import Fit, load_model, save_model
from m2m.models.torch_engine import choose_device
from m2m.structural import anat
from m2m.train.dataset import find_subjects
from m2m.translate import native, parse_planes
from m2m.translate.predict import Network, Subject, predict

PLANES = ("axial", "coronal", "sagittal")
# Voxels run right to left and front to back, and axes are swapped, as from scanners.
FLIPPED = np.array([[0, -3.0, 0, 40], [-3.0, 0, 0, 36], [0, 0, 3.0, -30], [0, 0, 0, 1]])


def volume(shape=SHAPE, affine=FLIPPED):
    data = np.random.default_rng(0).random(shape).astype(np.float32)
    return Volume(data, affine)


def write_grid_participant(folder, t1, brain):
    """A T1 on the common grid, its brain mask, and the status of anat."""
    paths = folder / "t1.nii.gz", folder / "brain.nii.gz", folder / "anat.json"
    save(paths[0], t1)
    save(paths[1], Volume(brain, t1.affine), dtype=np.uint8)
    write_json(
        paths[2], {"unit": "sub-1", "stage": "anat", "status": "ok", "excluded": [], "grid_to_mni": np.eye(4).tolist()}
    )
    return paths


@pytest.fixture
def brain():
    mask = np.zeros(SHAPE, bool)
    mask[3:-3, 4:-4, 2:-2] = True
    return mask


def test_predictions_are_fractions_inside_the_brain_and_zero_outside(tmp_path, brain):
    tensors, record = load_model(write_line(tmp_path, -0.5, 2.0), tmp_path / "model.json")
    subject = Subject(volume(), Volume(brain, FLIPPED), np.eye(4))
    found = predict(subject, tensors, record, Network()).image.data
    assert not found[~brain].any()
    source = subject.source(record)
    assert np.allclose(found[brain], (2 * source[brain] - 0.5).clip(0, 1), atol=1e-6)
    assert found.min() == 0 and found.max() == 1


def test_the_workflow_s_volume_stays_on_its_grid(tmp_path, brain):
    t1 = volume()
    paths = write_grid_participant(tmp_path, t1, brain)
    out, status = tmp_path / "out" / "fa.nii.gz", tmp_path / "out" / "status.json"
    result = run(
        "translate",
        paths[0],
        "--brain",
        paths[1],
        "--anat-status",
        paths[2],
        "--weights",
        write_line(tmp_path),
        "--unit",
        "sub-1",
        "--out",
        out,
        "--status",
        status,
    )
    assert result.exit_code == 0, result.output
    found = load(out)
    assert same_grid(found, t1)
    inside = t1.data[brain]
    expected = (inside - inside.min()) / np.ptp(inside)
    assert np.allclose(found.data[brain], expected, atol=1e-5) and not found.data[~brain].any()
    assert read_json(status)["status"] == "ok"
    sidecar = read_json(tmp_path / "out" / "fa.json")
    assert sidecar["WeightsSHA256"] == read_json(tmp_path / "model.json")["weights"]
    assert sidecar["TrainedOnSimulatedParticipants"] is False and len(sidecar["Sources"]) == 3


def translate_grid(folder, image, brain, *further, **record):
    """Translate a map on the common grid by a line; the result."""
    paths = write_grid_participant(folder, image, brain)
    return run(
        "translate",
        paths[0],
        "--brain",
        paths[1],
        "--anat-status",
        paths[2],
        "--weights",
        write_line(folder, **record),
        "--out",
        folder / "out.nii.gz",
        *further,
    )


def test_fa_becomes_density_in_its_own_unit(tmp_path, brain):
    fa = volume()
    result = translate_grid(tmp_path, fa, brain, intercept=-0.1, source="fa", target="tdi")
    assert result.exit_code == 0, result.output
    found = load(tmp_path / "out.nii.gz").data
    assert np.allclose(log_density(found)[brain], (fa.data - 0.1).clip(0)[brain], atol=1e-5)
    assert not found[~brain].any() and found.max() > 10


def test_a_map_that_is_not_fa_is_refused_as_fa(tmp_path, brain):
    tensor = Volume(3 * volume().data, FLIPPED)
    result = translate_grid(tmp_path, tensor, brain, source="fa", target="tdi")
    assert result.exit_code == 1 and "values are not in 0 to 1" in result.output


def test_the_failure_of_the_source_is_recorded(tmp_path, brain):
    finding = {"problem": "no streamline is left", "file": "", "value": "", "remedy": ""}
    earlier = tmp_path / "earlier.json"
    write_json(earlier, {"stage": "translate", "status": "failed", "finding": finding})
    status = tmp_path / "status.json"
    result = translate_grid(
        tmp_path,
        volume(),
        brain,
        "--require",
        earlier,
        "--status",
        status,
        "--unit",
        "sub-1",
        source="fa",
        target="tdi",
    )
    assert result.exit_code == 0 and (tmp_path / "out.nii.gz").read_bytes() == b""
    assert read_json(status)["finding"]["problem"].endswith("no streamline is left")


def test_predicted_tensors_are_positive_definite(tmp_path, brain):
    slopes = np.array([0.5, 0.2, -0.1, -0.3, 0.1, -0.4])
    t1 = volume()
    paths = write_grid_participant(tmp_path, t1, brain)
    record = read_json(write_line(tmp_path).with_name("model.json")) | {"target": "dti", "axes": "grid"}
    fit = Fit({"intercept": np.full(6, 0.05), "slope": slopes}, None, UNCERTAINTY)
    save_model(fit, record, tmp_path / "model.safetensors", tmp_path / "model.json", tmp_path / "model_card.md")
    weights, out = tmp_path / "model.safetensors", tmp_path / "t.nii.gz"
    result = run(
        "translate", paths[0], "--brain", paths[1], "--anat-status", paths[2], "--weights", weights, "--out", out
    )
    assert result.exit_code == 0, result.output
    found = load(out).data
    assert found.shape == (*SHAPE, 6) and not found[~brain].any()
    evals = np.linalg.eigvalsh(to_matrix(found[brain].astype(np.float64)))
    assert evals.min() > 0
    source = Subject(t1, Volume(brain, FLIPPED), np.eye(4)).source(record)[brain]
    along_voxels = to_grid_axes(log_tensor(found)[brain], FLIPPED)
    assert np.allclose(along_voxels, 0.05 + source[:, None] * slopes, atol=1e-4)


def test_a_model_of_fa_does_not_take_a_t1(tmp_path):
    save(tmp_path / "t1.nii.gz", volume())
    weights = write_line(tmp_path, source="fa", target="tdi")
    t1, out = tmp_path / "t1.nii.gz", tmp_path / "out.nii.gz"
    result = run("translate", t1, "--weights", weights, "--out", out)
    assert result.exit_code == 1 and "translates FA, not a T1" in result.output


def test_a_native_volume_is_returned_on_its_own_voxels(tmp_path, monkeypatch):
    """Registration is replaced by a stub; orientation, spacing and resampling back are real."""
    where = np.moveaxis(np.indices((40, 46, 30)), 0, -1)
    affine = np.array([[-2.0, 0, 0, 40], [0, 0, -3.2, 45], [0, 2.0, 0, -50], [0, 0, 0, 1]])
    x, y, z = np.moveaxis(where @ affine[:3, :3].T + affine[:3, 3], -1, 0)
    inside = (x**2 + y**2 + (z + 5) ** 2) < 32**2
    t1 = Volume(((200 + x + 2 * y - z) * inside).astype(np.float32), affine)
    grid = np.array([[3.0, 0, 0, -42], [0, 3, 0, -42], [0, 0, 3, -42], [0, 0, 0, 1]])

    def prepare(t1, mask, options):
        assert options.spacing_mm == 3 and options.shape == (29, 29, 29)
        brain = resample(Volume((t1.data > 0).astype(np.float32), t1.affine), grid, options.shape)
        on_grid, brain = resample(t1, grid, options.shape), Volume(brain.data > 0.99, grid)
        return anat.Anatomy(on_grid, brain, brain, np.eye(4), 1.0, 0.0, 0.0, [])

    tissues = dict.fromkeys(("FluidOverWhite", "DeepOverWhite"), 0.5)
    tissues |= {"GreyOverWhite": 0.8, "CoveredBrain": 1.0}
    monkeypatch.setattr(native, "prepare", prepare)
    monkeypatch.setattr(native, "contrast", lambda *_: tissues)
    save(tmp_path / "t1.nii.gz", t1)
    weights = write_line(tmp_path, shape=[29, 29, 29])
    result = run("translate", tmp_path / "t1.nii.gz", "--weights", weights, "--out", tmp_path / "fa.nii.gz")
    assert result.exit_code == 0, result.output
    found = load(tmp_path / "fa.nii.gz")
    assert same_grid(found, t1)
    assert not found.data[~inside].any()
    shared = found.data > 0
    assert shared.sum() > 0.7 * inside.sum()
    assert np.corrcoef(found.data[shared], t1.data[shared])[0, 1] > 0.995


def test_a_real_t1_is_translated_on_its_own_voxels(shared_data, tmp_path):
    path = shared_data / "bids" / "sub-IXI012" / "anat" / "sub-IXI012_T1w.nii.gz"
    weights = write_line(tmp_path, 0.05, 0.4, shape=[64, 80, 64], t1_range_percent=[1, 99])
    result = run("translate", path, "--weights", weights, "--out", tmp_path / "fa.nii.gz")
    assert result.exit_code == 0, result.output
    t1, found = load(path), load(tmp_path / "fa.nii.gz")
    assert same_grid(found, t1)
    litres = (found.data > 0).sum() * np.prod(t1.spacing_mm) / 1e6
    assert 1.0 < litres < 2.0, "a brain's volume"
    inside = found.data > 0
    assert np.corrcoef(found.data[inside], t1.data[inside])[0, 1] > 0.9


def test_a_trained_network_translates_from_its_files(tmp_path):
    write_cohort(tmp_path, n_train=2, n_validation=1)
    assert run(*train_arguments(tmp_path, tmp_path, small_model(steps=2))).exit_code == 0
    t1 = volume(affine=np.diag([6.0, 6, 6, 1]))
    paths = write_grid_participant(tmp_path, t1, np.ones(SHAPE, bool))
    translate = [
        "translate",
        paths[0],
        "--brain",
        paths[1],
        "--anat-status",
        paths[2],
        "--weights",
        tmp_path / "model.safetensors",
        "--device",
        "cpu",
    ]
    outs = [tmp_path / f"{name}.nii.gz" for name in ("all", "batches", "axial")]
    for out, how in zip(outs, ([], ["--batch-size", 3], ["--planes", "axial"]), strict=True):
        result = run(*translate, "--out", out, *how)
        assert result.exit_code == 0, result.output
    every, batches, axial = (load(out).data for out in outs)
    assert np.allclose(every, batches, atol=1e-5) and not np.allclose(every, axial, atol=1e-3)


@pytest.mark.parametrize("family", ["mean", "t1"])
def test_a_baseline_is_trained_and_translates_from_its_files(tmp_path, family):
    write_cohort(tmp_path, n_train=2, n_validation=1)
    options = json.dumps({"family": family})
    result = run(*train_arguments(tmp_path, tmp_path, options, family), "--simulated")
    assert result.exit_code == 0, result.output
    record = read_json(tmp_path / "model.json")
    assert record["family"] == family and 0 < record["validation"]["value"] < 0.2
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        {"step": None, "split": "validation", "brain_mae": record["validation"]["value"]}
    ]
    subject = find_subjects(tmp_path / "slices", {"sub-02": "validation"}, "t1", "fa")[0]["validation"][0]
    paths = write_grid_participant(tmp_path, subject.volume("t1"), subject.mask())
    out = tmp_path / "fa.nii.gz"
    result = run(
        "translate",
        paths[0],
        "--brain",
        paths[1],
        "--anat-status",
        paths[2],
        "--weights",
        tmp_path / "model.safetensors",
        "--out",
        out,
    )
    assert result.exit_code == 0, result.output
    inside = subject.mask()
    error = np.abs(load(out).data - subject.volume("fa").data)[inside].mean()
    assert error == pytest.approx(record["validation"]["value"], rel=0.15)
    assert read_json(tmp_path / "fa.json")["TrainedOnSimulatedParticipants"] is True


def test_the_standard_deviation_is_written_with_the_map(tmp_path, brain):
    paths = write_grid_participant(tmp_path, volume(), brain)
    out, out_sd = tmp_path / "fa.nii.gz", tmp_path / "sd.nii.gz"
    result = run(
        "translate",
        paths[0],
        "--brain",
        paths[1],
        "--anat-status",
        paths[2],
        "--weights",
        write_line(tmp_path),
        "--out",
        out,
        "--out-sd",
        out_sd,
    )
    assert result.exit_code == 0, result.output
    sd = load(out_sd)
    assert same_grid(sd, load(out))
    assert np.allclose(sd.data[brain], 0.07) and not sd.data[~brain].any()
    assert read_json(tmp_path / "sd.json")["Uncertainty"]["method"] == "constant"


def test_a_pickle_is_refused(tmp_path):
    weights = write_line(tmp_path)
    weights.write_bytes(pickle.dumps({"slope": 1}))
    result = run("translate", "t1.nii.gz", "--weights", weights, "--out", tmp_path / "fa.nii.gz")
    assert result.exit_code == 1
    assert "is not a safetensors file" in result.output and "can run code" in result.output
    torch.save({"slope": torch.ones(1)}, weights)
    with pytest.raises(DataError, match="is not a safetensors file"):
        load_model(weights, tmp_path / "model.json")


def test_a_record_of_other_weights_is_refused(tmp_path):
    weights = write_line(tmp_path)
    record = (tmp_path / "model.json").read_text()
    write_line(tmp_path, slope=2.0)
    (tmp_path / "model.json").write_text(record)
    with pytest.raises(DataError, match="belongs to other weights"):
        load_model(weights, tmp_path / "model.json")


def test_the_failure_of_an_earlier_stage_is_recorded(tmp_path, brain):
    paths = write_grid_participant(tmp_path, volume(), brain)
    finding = {"problem": "no brain is found", "file": "t1.nii.gz", "value": "", "remedy": "look"}
    write_json(paths[2], {"stage": "anat", "status": "failed", "finding": finding})
    out, status = tmp_path / "fa.nii.gz", tmp_path / "status.json"
    result = run(
        "translate",
        paths[0],
        "--brain",
        paths[1],
        "--anat-status",
        paths[2],
        "--weights",
        write_line(tmp_path),
        "--unit",
        "sub-1",
        "--out",
        out,
        "--status",
        status,
    )
    assert result.exit_code == 0
    assert out.read_bytes() == b""
    assert read_json(status)["finding"]["problem"] == "stage anat failed: no brain is found"


def test_a_grid_of_another_spacing_is_refused(tmp_path, brain):
    paths = write_grid_participant(tmp_path, volume(), brain)
    weights = write_line(tmp_path, spacing_mm=1.25)
    result = run(
        "translate",
        paths[0],
        "--brain",
        paths[1],
        "--anat-status",
        paths[2],
        "--weights",
        weights,
        "--out",
        tmp_path / "fa.nii.gz",
    )
    assert result.exit_code == 1 and "trained at 1.25 mm" in result.output


def test_an_unknown_orientation_is_named():
    assert parse_planes("axial,sagittal") == ("axial", "sagittal") and parse_planes("") == ()
    result = run("translate", "t1.nii", "--weights", "w", "--out", "o", "--planes", "axal")
    assert result.exit_code == 2 and "axal" in result.output


def test_the_requested_device_is_used_or_refused():
    assert choose_device("cpu") == "cpu"
    with pytest.raises(DataError, match=r"does not have the device .*gpu.*cpu"):
        choose_device("gpu")
    assert choose_device() in ("cpu", "cuda", "mps")
