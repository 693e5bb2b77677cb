"""The size of a label correction is measured against a known warp."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from small_cohort import (
    AFFINE,
    SHAPE,
    small_model,
    train_arguments,
    write_cohort,
    write_subject,
)
from small_cohort import subject as channels_of_subject
from typer.testing import CliRunner

from m2m.cli import app
from m2m.io.bids import unit_path
from m2m.io.files import read_json, write_json
from m2m.io.volume import Volume
from m2m.networks.correction import warp
from m2m.options import Correction, Phantom
from m2m.options.configured import split_of
from m2m.options.families.macro2micro import Macro2Micro
from m2m.phantom import brain, individuals
from m2m.phantom.anatomy import load_template
from m2m.phantom.simulate import COARSE_MM, grid
from m2m.structural.slices import PLANES, extract, in_plane
from m2m.train.dataset import Subject, find_subjects
from m2m.train.label_correction import correct_slices
from m2m.train.misalignment import (
    applied_misalignment,
    inverse_displacement,
    joint_misalignment,
    measure,
    measure_joint,
    misalignment,
    predict_misalignments,
    warp_volume,
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    write_subject(folder, "sub-01", channels_of_subject(0))
    return Subject("sub-01", "sub-01", folder, read_json(folder / "sub-01_slices.json"))


class ConstantCorrection(torch.nn.Module):
    """A correction by one shift in pixels: it predicts the opposite misalignment."""

    def __init__(self, rows: float, columns: float):
        super().__init__()
        self.context = 1
        self.displacement = torch.tensor([float(rows), float(columns)]).view(1, 2, 1, 1)

    def forward(self, beside, plane):
        return -self.displacement.expand(len(beside), 2, *beside.shape[-2:])


def constant_mm(vector_mm):
    return np.broadcast_to(np.array(vector_mm, float), (*SHAPE, 3))


def test_an_in_plane_displacement_inverts_that_of_the_volume(rng):
    """A map shows at x the content of x + m; its slices, sampled at x - m, show that of x."""
    truth = ndimage.gaussian_filter(rng.standard_normal((20, 22, 18)), 2)
    for plane, axes in zip(PLANES, ((0, 1), (0, 2), (1, 2)), strict=True):
        for axis in axes:
            shift = np.zeros(3)
            shift[axis] = 2
            shown = ndimage.shift(truth, -shift, order=1)  # at x: the content of x + shift
            misaligned = np.broadcast_to(shift, (*truth.shape, 3))
            rows, columns = (extract(part, plane) for part in in_plane(misaligned, plane))
            displacement = -torch.from_numpy(np.stack([rows, columns], axis=1)).float()
            slices = torch.from_numpy(np.ascontiguousarray(extract(shown, plane)))[:, None]
            found = warp(slices, displacement)[:, 0].numpy()[:, 3:-3, 3:-3]
            np.testing.assert_allclose(found, extract(truth, plane)[:, 3:-3, 3:-3], atol=1e-5)


@pytest.mark.parametrize(("plane", "correct"), [("axial", (1.0, 0.0)), ("sagittal", (0.0, -1.0))])
def test_the_exact_correction_recovers_the_whole_misalignment(subject, plane, correct):
    """Labels are shifted by a voxel (6 mm) along y: along rows, or along sagittal columns."""
    true_mm = constant_mm((0, 6, 0))

    def values(rows, columns):
        return measure(
            subject,
            plane,
            predict_misalignments(subject, plane, "t1", "fa", ConstantCorrection(rows, columns)),
            true_mm,
        )

    right = values(*correct)
    assert right["recovered"] == pytest.approx(1) and right["residual_rms_mm"] == pytest.approx(0)
    assert right["rms_mm"] == right["max_mm"] == pytest.approx(6)
    assert right["applied_rms_mm"] == pytest.approx(6) and right["folded"] == 0
    half = values(*(x / 2 for x in correct))
    assert half["recovered"] == pytest.approx(0.75)
    wrong = values(*(-x for x in correct))
    assert wrong["recovered"] == pytest.approx(-3)


def test_a_through_plane_misalignment_does_not_count(subject):
    found = predict_misalignments(subject, "coronal", "t1", "fa", ConstantCorrection(0, 0))
    values = measure(subject, "coronal", found, constant_mm((0, 6, 0)))
    assert values["applied_rms_mm"] == 0 and values["recovered"] is None


def test_without_ground_truth_only_the_displacement_is_given(subject):
    values = measure(subject, "axial", predict_misalignments(subject, "axial", "t1", "fa", ConstantCorrection(0, 0.5)))
    assert values == {"rms_mm": pytest.approx(3), "max_mm": pytest.approx(3), "folded": 0}


@pytest.mark.parametrize("slope", [-2, 2])
def test_a_displacement_that_folds_is_counted(subject, slope):
    """Also one so steep that the iteration does not find its inverse."""

    class Folding(ConstantCorrection):
        def forward(self, beside, plane):
            field = super().forward(beside, plane).clone()
            field[:, 0] += slope * torch.arange(beside.shape[-2])[:, None]
            return field

    values = measure(subject, "axial", predict_misalignments(subject, "axial", "t1", "fa", Folding(0, 0)))
    assert values["folded"] > 0.9


def test_misalignment_is_the_distortion_and_the_error_of_the_registration():
    field = Volume(np.broadcast_to(np.float32([0, 4, 0]), (*SHAPE, 3)), AFFINE)
    shifted = np.eye(4)
    shifted[:3, 3] = (1, 2, 0)
    inside = (slice(3, -3),) * 3
    exact = misalignment(field, shifted, np.linalg.inv(shifted), AFFINE, SHAPE)
    np.testing.assert_allclose(exact, constant_mm((0, 4, 0)), atol=1e-6)
    unregistered = misalignment(field, shifted, np.eye(4), AFFINE, SHAPE)[inside]
    np.testing.assert_allclose(unregistered, constant_mm((1, 6, 0))[inside], atol=1e-6)


def test_a_distorted_phantom_is_displaced_along_one_axis_within_the_limit():
    options = Phantom(distortion_mm=6)
    individual = individuals.draw(options, "0001")
    undistorted = brain.make_brain(individual, load_template(), options)
    axis = individual.pose.dwi_to_t1[:3, 1]
    affine, shape = grid(4.0)
    distorted = brain.distort(undistorted, axis, options, affine, shape)
    points = brain.grid_points(affine, shape)
    displacement = distorted.shown(points) - points
    along = displacement @ axis
    np.testing.assert_allclose(displacement, along[:, None] * axis, atol=1e-3)
    head = undistorted.tissue(points).sum(axis=1) > 0
    assert np.abs(along[head]).max() == pytest.approx(6, abs=1e-3)
    assert 1 < along[head].std() < 4
    # It shows the displaced tissue, and nothing is folded.
    np.testing.assert_allclose(distorted.tissue(points), undistorted.tissue(points + displacement), atol=1e-6)
    assert np.gradient(along.reshape(shape), 4.0, axis=1).min() > -0.9


def test_a_phantom_without_distortion_has_no_such_option():
    assert "distortion_mm" not in Phantom().model_dump_json()
    assert Phantom.model_validate_json(Phantom(distortion_mm=3).model_dump_json()).distortion_mm == 3


def test_the_ground_truth_of_a_simulated_participant_is_recovered(tmp_path):
    options = Phantom(distortion_mm=6, t1_spacing_mm=8, dwi_spacing_mm=6, n_directions=6, n_b0=1, motion_deg=20)
    where = "sub-0001", "sub-0001"
    path = Path(unit_path(tmp_path / "truth", "truth-displacement", *where))
    command = ["simulate", "--subject=sub-0001", f"--root={tmp_path}"]
    made = CliRunner().invoke(app, [*command, f"--options={options.model_dump_json()}"])
    assert made.exit_code == 0, made.output
    assert path.exists()
    individual = individuals.draw(options, "0001")
    affine, shape = grid(6.0)
    found = {"t1_to_dwi": np.linalg.inv(individual.pose.dwi_to_t1).tolist()}
    write_json(unit_path(tmp_path, "grid-status", *where), found)
    record = {"affine": affine.tolist(), "shape": list(shape)}
    found_mm = applied_misalignment(Subject(*where, tmp_path, record), tmp_path, tmp_path / "truth")

    undistorted = brain.make_brain(individual, load_template(), options)
    encoding = individual.pose.dwi_to_t1[:3, :3] @ individual.pose.dwi_axes[:, 1]
    distorted = brain.distort(undistorted, encoding, options, *grid(COARSE_MM, axes=individual.pose.t1_axes))
    points = brain.grid_points(affine, shape)
    head = undistorted.tissue(points).sum(axis=1) > 0
    true_mm = (distorted.shown(points) - points)[head]
    assert np.abs(true_mm).max() > 5
    np.testing.assert_allclose(found_mm.reshape(-1, 3)[head], true_mm, atol=0.3)


class ShiftAlongY(torch.nn.Module):
    """A correction that predicts one misalignment along y, in pixels, for every target."""

    def __init__(self, pixels):
        super().__init__()
        self.context = 1
        free = [np.abs(in_plane(np.array([0.0, 1, 0]), plane)) for plane in PLANES]
        self.free = torch.tensor(np.array(free, np.float32))
        self.pixels = pixels

    def forward(self, beside, plane):
        signs = in_plane(np.array([0.0, 1, 0]), PLANES[int(plane[0])])
        misaligned = torch.tensor([self.pixels * float(sign) for sign in signs]).view(1, 2, 1, 1)
        return misaligned.expand(len(beside), 2, *beside.shape[-2:])


def test_a_joint_field_is_the_mean_of_the_orientations(subject):
    joint = joint_misalignment(subject, "t1", "fa", PLANES, ShiftAlongY(1.0), smooth_mm=6.0)
    near = ndimage.binary_dilation(subject.mask(), iterations=2)
    np.testing.assert_allclose(joint[near], np.broadcast_to([0, 1, 0], joint[near].shape), atol=0.02)
    values = measure_joint(subject, joint, constant_mm((0, 6, 0)))
    assert values["recovered"] == pytest.approx(1, abs=1e-3) and values["folded"] == 0
    assert values["applied_rms_mm"] == values["rms_mm"] == pytest.approx(6, abs=0.1)
    across = measure_joint(subject, joint, constant_mm((6, 6, 0)))
    assert across["recovered"] == pytest.approx(0.5, abs=0.02)


def test_a_joint_field_has_less_noise_than_a_slice(subject, rng):
    """The noise of slices is independent; the common part stays."""

    class Noisy(ShiftAlongY):
        def forward(self, beside, plane):
            found = super().forward(beside, plane)
            noise = rng.standard_normal((len(beside), 1, 1, 1))
            return found + torch.from_numpy(noise.astype(np.float32)) * (found != 0)

    def left(smooth_mm):
        joint = joint_misalignment(subject, "t1", "fa", PLANES, Noisy(1.0), smooth_mm)
        return np.sqrt(((joint[..., 1] - 1)[subject.mask()] ** 2).mean())

    assert left(12.0) < 0.6 * left(0.0) < 0.6


def test_a_field_and_its_inverse_cancel():
    x = np.linspace(0, 2 * np.pi, 20)
    field = np.zeros((20, 22, 18, 3))
    field[..., 1] = 1.5 * np.sin(x)[:, None, None]
    displacement = inverse_displacement(field)
    np.testing.assert_allclose(displacement[..., 1], -field[..., 1], atol=1e-6)
    ramp = np.broadcast_to(np.arange(22.0)[None, :, None], (20, 22, 18))
    shown = warp_volume(ramp, field, "nearest")  # at x: the content of x + field
    back = warp_volume(shown, displacement, "nearest")[:, 4:-4]
    np.testing.assert_allclose(back, ramp[:, 4:-4], atol=1e-6)


def test_labels_are_corrected_for_the_training_part_only(tmp_path, monkeypatch):
    parts = write_cohort(tmp_path, n_train=2, n_validation=1)
    record = {
        "model": "first",
        "source": "t1",
        "target": "fa",
        "options": Macro2Micro(correct_labels=Correction(smooth_mm=3)).model_dump(mode="json"),
    }
    monkeypatch.setattr("m2m.train.label_correction.load_model", lambda *_: ({}, record))
    monkeypatch.setattr("m2m.train.label_correction.load_correction", lambda *_: ShiftAlongY(1.0))
    correct_slices(Path("w"), tmp_path / "slices", *split_of(tmp_path), tmp_path / "corrected")
    measured, _ = find_subjects(tmp_path / "slices", parts, "t1", "fa")
    found, _ = find_subjects(tmp_path / "slices", parts, "t1", "fa", labels_dir=tmp_path / "corrected")
    assert found["validation"] == measured["validation"]
    for before, after in zip(measured["train"], found["train"], strict=True):
        assert before.unit == after.unit and after.record["labels_from"] == "first"
        assert before.record["sha256"] != after.record["sha256"]
        np.testing.assert_array_equal(before.volume("t1").data, after.volume("t1").data)
        known = after.mask()
        assert 0.8 < known.sum() / before.mask().sum() < 1
        shown = np.roll(before.volume("fa").data, 1, axis=1)  # the content one voxel further back
        np.testing.assert_allclose(after.volume("fa").data[known], shown[known], atol=0.02)
        for plane in PLANES:
            places = after.places("fa")
            cut = extract(after.volume("fa").data, plane)
            np.testing.assert_array_equal(after.open(plane).read(0, len(cut), places)[:, 0], cut)


def test_a_model_of_corrected_labels_needs_their_folder_and_another_refuses_it(tmp_path):
    write_cohort(tmp_path, n_train=1, n_validation=1)
    plain = small_model(steps=1)
    of_corrected = plain.model_copy(update={"labels_from": "first"})
    for model, further in ((of_corrected, []), (plain, ["--labels-dir", str(tmp_path / "slices")])):
        result = CliRunner().invoke(app, train_arguments(tmp_path, tmp_path, model) + further)
        assert result.exit_code == 2 and "--labels-dir is for a model with" in result.output
