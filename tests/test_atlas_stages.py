"""The family that deforms a map, through its stages: training, translation of the workflow, refusals."""

import numpy as np
import pytest
from line_model import run
from small_cohort import AFFINE, SHAPE, subject, train_arguments, write_cohort

from m2m.io.bids import files_of
from m2m.io.files import read_json, write_json
from m2m.io.volume import Volume, load, save
from m2m.models.baselines import MeasuredMap, fit_mean_map, predict_mean_map
from m2m.models.record import load_model
from m2m.options import FAMILIES, Config, Deformation
from m2m.structural.slices import positions, slices_at
from m2m.translate.predict import Network, Subject, predict
from m2m.translate.subject import main as synthesise

OPTIONS = Deformation(radius=3).model_dump(mode="json")
# Displacement of each participant, the same everywhere: as an affine could have it, too.
SHIFTS = {f"sub-{i:02d}": np.array(shift) for i, shift in enumerate([(6, 0, 0), (0, -12, 3), (4, 4, 0), (-6, 0, 9)])}
QUIET = {"adversarial": 0, "patch_adversarial": 0}
NAMES = {"task": "t1-fa", "model": "atlas"}


def translation(shift):
    matrix = np.eye(4)
    matrix[:3, 3] = shift
    return matrix


def write_deformation(root, unit, **status):
    """Files of the stages anat and deform."""
    at, shift = files_of(unit, root), np.broadcast_to(SHIFTS[unit], (*SHAPE, 3))
    t1, _, brain, _ = subject(int(unit[-2:]))
    save(at("t1w"), Volume(t1, AFFINE))
    save(at("brain"), Volume(brain, AFFINE), dtype=np.uint8)
    write_json(at("anat-status"), {"status": "ok", "excluded": [], "grid_to_mni": np.eye(4).tolist()})
    save(at("deformation"), Volume(shift, AFFINE))
    save(at("inverse-deformation"), Volume(-shift, AFFINE))
    write_json(at("deform-status"), {"status": "ok", "options": OPTIONS, "sha256": unit} | status)


@pytest.fixture
def root(tmp_path):
    write_cohort(tmp_path, n_train=2, n_validation=1)
    for unit in SHIFTS:
        write_deformation(tmp_path, unit)
    config = {"dataset": "d", "models": {"atlas": {"family": "atlas"}}, "tasks": {"t1-fa": {"models": ["atlas"]}}}
    (tmp_path / "config.json").write_text(Config.model_validate(config).model_dump_json())
    return tmp_path


def train(root):
    out = root / "models/t1-fa/atlas"
    result = run(*train_arguments(root, out, FAMILIES["atlas"].SECTION(), "atlas"))
    return result, out


def test_training_and_translation_use_each_participant_s_displacements(root):
    result, out = train(root)
    assert result.exit_code == 0, result.output
    tensors, record = load_model(out / "model.safetensors", out / "model.json")
    assert record["deformation"] == OPTIONS and record["family"] == "atlas"
    jacobian = record["validation_range"]["jacobian_p99"]
    assert jacobian["n_subjects"] == 3 and jacobian["low"] == pytest.approx(1, abs=0.01), "all are moved, not stretched"

    def measured(seed):
        _, fa, _, mask = subject(seed).astype(np.float16).astype(np.float32)
        return MeasuredMap(Volume(fa, AFFINE), mask > 0, translation(SHIFTS[f"sub-{seed:02d}"]))

    expected = fit_mean_map((measured(seed) for seed in range(2)), 6.0)
    np.testing.assert_allclose(tensors["mean"], expected["mean"], atol=2e-3)
    synthesise(root, "sub-03", **NAMES, config=root / "config.json")
    at = files_of("sub-03", root / "synthetic/t1-fa/atlas")
    found, inside = load(at("synth-fa")).data, load(files_of("sub-03", root)("brain")).data > 0
    image = predict_mean_map(expected, AFFINE, SHAPE, translation(SHIFTS["sub-03"])).image
    np.testing.assert_allclose(found[inside], image[inside], atol=2e-3)
    unmoved = predict_mean_map(expected, AFFINE, SHAPE, np.eye(4)).image
    assert np.abs(found - unmoved)[inside].mean() > 0.01, "the displacement matters"


def test_a_network_averaged_with_the_deformed_mean_map(root):
    small = {"features": (4, 4, 4, 4, 4), "context": 1, "prior": True}
    section = FAMILIES["unet"].SECTION.model_validate(
        {"network": small, "training": {"steps": 2, "batch_size": 2}, "atlas_share": 0.75}
    )
    config = {"dataset": "d", "models": {"atlas": section}, "tasks": {"t1-fa": {"models": ["atlas"]}}}
    (root / "config.json").write_text(Config.model_validate(config).model_dump_json())
    out = root / "models/t1-fa/atlas"
    result = run(*train_arguments(root, out, section, "atlas"))
    assert result.exit_code == 0, result.output
    tensors, record = load_model(out / "model.safetensors", out / "model.json")
    assert record["deformation"] == OPTIONS and "difference" in record["uncertainty"]["factors"]
    at = files_of("sub-03", root)
    brain = Volume(load(at("brain")).data > 0, AFFINE)
    shift = load(at("deformation")).data
    subject = Subject(load(at("t1w")), brain, np.eye(4), displacement=shift)
    options = {key: value for key, value in record["options"].items() if key != "atlas_share"}
    alone = predict(subject, tensors, record | {"options": options}, Network()).image.data

    prior = {"mean": tensors["inputs.prior.values"][0], "affine": np.linalg.inv(tensors["inputs.prior.to_voxel"])}
    prior |= {"sd": prior["mean"]}
    deformed = predict_mean_map(prior, AFFINE, SHAPE, translation(SHIFTS["sub-03"])).image
    synthesise(root, "sub-03", **NAMES, config=root / "config.json")
    found = load(files_of("sub-03", root / "synthetic/t1-fa/atlas")("synth-fa")).data
    inside = brain.data & (alone > 0) & (alone < 1)  # unclipped
    assert np.abs(deformed - alone)[inside].mean() > 0.02
    np.testing.assert_allclose(found[inside], (0.25 * alone + 0.75 * deformed)[inside], atol=2e-3)


def test_a_network_s_inputs_follow_the_deformation_as_they_follow_the_same_affine(root):
    small = {"widths": [6, 8], "context": 1, "position": True, "deformed": True, "residual": True}
    section = FAMILIES["macro2micro"].SECTION.model_validate(
        {"network": small, "losses": QUIET, "training": {"steps": 4, "batch_size": 2}}
    )
    config = {"dataset": "d", "models": {"atlas": section}, "tasks": {"t1-fa": {"models": ["atlas"]}}}
    (root / "config.json").write_text(Config.model_validate(config).model_dump_json())
    out = root / "models/t1-fa/atlas"
    result = run(*train_arguments(root, out, section, "atlas"))
    assert result.exit_code == 0, result.output
    tensors, record = load_model(out / "model.safetensors", out / "model.json")
    assert record["deformation"] == OPTIONS
    (places,) = (np.load(path) for path in out.glob("training/*/places/sub-01_places.npy"))
    expected = positions(translation(SHIFTS["sub-01"]) @ AFFINE, SHAPE, "axial", np.arange(SHAPE[2]))
    np.testing.assert_allclose(slices_at(places, "axial", np.arange(SHAPE[2])), expected, atol=1e-3)

    at = files_of("sub-03", root)
    brain = Volume(load(at("brain")).data > 0, AFFINE)
    by_affine = Subject(
        load(at("t1w")), brain, translation(SHIFTS["sub-03"]), displacement=np.zeros((*SHAPE, 3), np.float32)
    )
    expected = predict(by_affine, tensors, record, Network()).image.data
    synthesise(root, "sub-03", **NAMES, config=root / "config.json")
    found = load(files_of("sub-03", root / "synthetic/t1-fa/atlas")("synth-fa")).data
    np.testing.assert_allclose(found, expected, atol=2e-3)
    unmoved = predict(by_affine._replace(to_mni=np.eye(4)), tensors, record, Network()).image.data
    assert np.abs(found - unmoved)[brain.data].mean() > 0.01, "the displacement matters"


def test_a_failed_deformation_fails_the_translation_and_leaves_a_participant_out_of_training(root):
    finding = {"problem": "no template", "file": "", "value": "", "remedy": "look"}
    failed = {"status": "failed", "stage": "deform", "finding": finding}
    write_deformation(root, "sub-01", **failed)
    result, out = train(root)
    assert result.exit_code == 0, result.output
    record = read_json(out / "model.json")
    assert record["train_participants"] == ["sub-00"] and record["skipped"]["failed"] == 1
    write_deformation(root, "sub-03", **failed)
    synthesise(root, "sub-03", **NAMES, config=root / "config.json")
    at = files_of("sub-03", root / "synthetic/t1-fa/atlas")
    assert at("synth-fa").stat().st_size == 0


def test_another_deformation_is_another_fingerprint(root):
    before = read_json(train(root)[1] / "model.json")["fingerprint"]
    write_deformation(root, "sub-00", sha256="changed")
    assert read_json(train(root)[1] / "model.json")["fingerprint"] != before


def test_a_missing_deformation_is_named_with_its_stage(root):
    files_of("sub-01", root)("deform-status").unlink()
    result, _ = train(root)
    assert result.exit_code == 1 and "sub-01_desc-deform_status.json" in result.output
    assert "m2m deform" in result.output
