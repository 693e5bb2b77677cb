"""How far labels were moved is measured against a warp that is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from small_cohort import (
    AFFINE,
    SHAPE,
    person,
    small_model,
    train_arguments,
    write_cohort,
    write_subject,
)
from typer.testing import CliRunner

from m2m.cli import app
from m2m.io.bids import unit_path
from m2m.io.files import read_json, write_json
from m2m.io.volume import Volume
from m2m.networks.correction import warp
from m2m.options import Correction, Phantom
from m2m.options.configured import split_of
from m2m.options.families.macro2micro import Macro2Micro
from m2m.phantom import brain, people
from m2m.phantom.anatomy import load_template
from m2m.phantom.simulate import COARSE_MM, grid
from m2m.structural.slices import PLANES, extract, in_plane
from m2m.train.dataset import Subject, find_subjects
from m2m.train.labels import (
    correct_slices,
    found_in,
    joint_misalignment,
    measure,
    measure_joint,
    misalignment,
    moved,
    true_misalignment,
    undoing,
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slices")
    write_subject(folder, "sub-01", person(0))
    return Subject("sub-01", "sub-01", folder, read_json(folder / "sub-01_slices.json"))


class Known(torch.nn.Module):
    """A correction that moves everything alike, by pixels: it finds the opposite misalignment."""

    def __init__(self, rows: float, columns: float):
        super().__init__()
        self.context = 1
        self.displacement = torch.tensor([float(rows), float(columns)]).view(1, 2, 1, 1)

    def forward(self, beside, plane):
        return -self.displacement.expand(len(beside), 2, *beside.shape[-2:])


def off_by(vector_mm):
    return np.broadcast_to(np.array(vector_mm, float), (*SHAPE, 3))


def test_a_displacement_in_the_plane_undoes_that_of_the_volume(rng):
    """A map shows at x what is at x + m; its slices, read at x - m, show what is at x."""
    truth = ndimage.gaussian_filter(rng.standard_normal((20, 22, 18)), 2)
    for plane, axes in zip(PLANES, ((0, 1), (0, 2), (1, 2)), strict=True):
        for axis in axes:
            shift = np.zeros(3)
            shift[axis] = 2
            shown = ndimage.shift(truth, -shift, order=1)  # at x it shows what is at x + shift
            off = np.broadcast_to(shift, (*truth.shape, 3))
            rows, columns = (extract(part, plane) for part in in_plane(off, plane))
            move = -torch.from_numpy(np.stack([rows, columns], axis=1)).float()
            slices = torch.from_numpy(np.ascontiguousarray(extract(shown, plane)))[:, None]
            found = warp(slices, move)[:, 0].numpy()[:, 3:-3, 3:-3]
            np.testing.assert_allclose(found, extract(truth, plane)[:, 3:-3, 3:-3], atol=1e-5)


@pytest.mark.parametrize(("plane", "correct"), [("axial", (1.0, 0.0)), ("sagittal", (0.0, -1.0))])
def test_a_correction_that_is_right_recovers_everything(subject, plane, correct):
    """Labels are off by a voxel (6 mm) along y: up the rows, or along sagittal columns."""
    off_mm = off_by((0, 6, 0))

    def values(rows, columns):
        return measure(
            subject, plane, found_in(subject, plane, "t1", "fa", Known(rows, columns)), off_mm
        )

    right = values(*correct)
    assert right["recovered"] == pytest.approx(1) and right["left_rms_mm"] == pytest.approx(0)
    assert right["rms_mm"] == right["max_mm"] == pytest.approx(6)
    assert right["true_rms_mm"] == pytest.approx(6) and right["folded"] == 0
    half = values(*(x / 2 for x in correct))
    assert half["recovered"] == pytest.approx(0.75)
    wrong = values(*(-x for x in correct))
    assert wrong["recovered"] == pytest.approx(-3)


def test_what_lies_across_the_plane_does_not_count(subject):
    found = found_in(subject, "coronal", "t1", "fa", Known(0, 0))
    values = measure(subject, "coronal", found, off_by((0, 6, 0)))
    assert values["true_rms_mm"] == 0 and values["recovered"] is None


def test_without_a_truth_only_the_displacement_is_told(subject):
    values = measure(subject, "axial", found_in(subject, "axial", "t1", "fa", Known(0, 0.5)))
    assert values == {"rms_mm": pytest.approx(3), "max_mm": pytest.approx(3), "folded": 0}


@pytest.mark.parametrize("slope", [-2, 2])
def test_a_displacement_that_turns_pixels_over_is_counted_as_folded(subject, slope):
    """Or so steep that what was to undo it does not."""

    class Folding(Known):
        def forward(self, beside, plane):
            move = super().forward(beside, plane).clone()
            move[:, 0] += slope * torch.arange(beside.shape[-2])[:, None]
            return move

    values = measure(subject, "axial", found_in(subject, "axial", "t1", "fa", Folding(0, 0)))
    assert values["folded"] > 0.9


def test_misalignment_is_the_distortion_and_what_the_registration_left_open():
    field = Volume(np.broadcast_to(np.float32([0, 4, 0]), (*SHAPE, 3)), AFFINE)
    moved = np.eye(4)
    moved[:3, 3] = (1, 2, 0)
    inside = (slice(3, -3),) * 3
    exact = misalignment(field, moved, np.linalg.inv(moved), AFFINE, SHAPE)
    np.testing.assert_allclose(exact, off_by((0, 4, 0)), atol=1e-6)
    open_left = misalignment(field, moved, np.eye(4), AFFINE, SHAPE)[inside]
    np.testing.assert_allclose(open_left, off_by((1, 6, 0))[inside], atol=1e-6)


def test_a_distorted_phantom_is_moved_along_one_axis_by_at_most_so_much():
    options = Phantom(distortion_mm=6)
    someone = people.draw(options, "0001")
    still = brain.make_brain(someone, load_template(), options)
    axis = someone.dwi_to_t1[:3, 1]
    affine, shape = grid(4.0)
    seen = brain.distort(still, axis, options, affine, shape)
    points = brain.grid_points(affine, shape)
    moved = seen.shown(points) - points
    along = moved @ axis
    np.testing.assert_allclose(moved, along[:, None] * axis, atol=1e-3)
    head = still.tissue(points).sum(axis=1) > 0
    assert np.abs(along[head]).max() == pytest.approx(6, abs=1e-3)
    assert 1 < along[head].std() < 4
    # It shows what is there, and nothing is folded.
    np.testing.assert_allclose(seen.tissue(points), still.tissue(points + moved), atol=1e-6)
    assert np.gradient(along.reshape(shape), 4.0, axis=1).min() > -0.9


def test_a_phantom_without_distortion_has_the_options_that_it_had():
    assert "distortion_mm" not in Phantom().model_dump_json()
    assert (
        Phantom.model_validate_json(Phantom(distortion_mm=3).model_dump_json()).distortion_mm == 3
    )


def test_the_truth_of_a_simulated_person_is_found_again(tmp_path):
    options = Phantom(
        distortion_mm=6, t1_spacing_mm=8, dwi_spacing_mm=6, n_directions=6, n_b0=1, motion_deg=20
    )
    where = "sub-0001", "sub-0001"
    path = Path(unit_path(tmp_path / "truth", "truth-displacement", *where))
    command = ["simulate", "--subject=sub-0001", f"--root={tmp_path}"]
    made = CliRunner().invoke(app, [*command, f"--options={options.model_dump_json()}"])
    assert made.exit_code == 0, made.output
    assert path.exists()
    someone = people.draw(options, "0001")
    affine, shape = grid(6.0)
    found = {"t1_to_dwi": np.linalg.inv(someone.dwi_to_t1).tolist()}
    write_json(unit_path(tmp_path, "grid-status", *where), found)
    record = {"affine": affine.tolist(), "shape": list(shape)}
    off = true_misalignment(Subject(*where, tmp_path, record), tmp_path, tmp_path / "truth")

    still = brain.make_brain(someone, load_template(), options)
    seen = brain.distort(still, someone.dwi_to_t1[:3, 1], options, *grid(COARSE_MM))
    points = brain.grid_points(affine, shape)
    head = still.tissue(points).sum(axis=1) > 0
    true = (seen.shown(points) - points)[head]
    assert np.abs(true).max() > 5
    np.testing.assert_allclose(off.reshape(-1, 3)[head], true, atol=0.3)


class Off(torch.nn.Module):
    """A correction that finds every target off by so many pixels along y."""

    def __init__(self, pixels):
        super().__init__()
        self.context = 1
        free = [np.abs(in_plane(np.array([0.0, 1, 0]), plane)) for plane in PLANES]
        self.free = torch.tensor(np.array(free, np.float32))
        self.pixels = pixels

    def forward(self, beside, plane):
        signs = in_plane(np.array([0.0, 1, 0]), PLANES[int(plane[0])])
        off = torch.tensor([self.pixels * float(sign) for sign in signs]).view(1, 2, 1, 1)
        return off.expand(len(beside), 2, *beside.shape[-2:])


def test_a_joint_field_is_what_every_orientation_found(subject):
    joint = joint_misalignment(subject, "t1", "fa", PLANES, Off(1.0), smooth_mm=6.0)
    near = ndimage.binary_dilation(subject.mask(), iterations=2)
    np.testing.assert_allclose(
        joint[near], np.broadcast_to([0, 1, 0], joint[near].shape), atol=0.02
    )
    values = measure_joint(subject, joint, off_by((0, 6, 0)))
    assert values["recovered"] == pytest.approx(1, abs=1e-3) and values["folded"] == 0
    assert values["true_rms_mm"] == values["rms_mm"] == pytest.approx(6, abs=0.1)
    across = measure_joint(subject, joint, off_by((6, 6, 0)))
    assert across["recovered"] == pytest.approx(0.5, abs=0.02)


def test_a_joint_field_leaves_less_noise_than_a_slice(subject, rng):
    """Each slice errs by itself; what they share stays."""

    class Noisy(Off):
        def forward(self, beside, plane):
            found = super().forward(beside, plane)
            noise = rng.standard_normal((len(beside), 1, 1, 1))
            return found + torch.from_numpy(noise.astype(np.float32)) * (found != 0)

    def left(smooth_mm):
        joint = joint_misalignment(subject, "t1", "fa", PLANES, Noisy(1.0), smooth_mm)
        return np.sqrt(((joint[..., 1] - 1)[subject.mask()] ** 2).mean())

    assert left(12.0) < 0.6 * left(0.0) < 0.6


def test_an_undone_field_leads_back():
    x = np.linspace(0, 2 * np.pi, 20)
    field = np.zeros((20, 22, 18, 3))
    field[..., 1] = 1.5 * np.sin(x)[:, None, None]
    displacement = undoing(field)
    np.testing.assert_allclose(displacement[..., 1], -field[..., 1], atol=1e-6)
    ramp = np.broadcast_to(np.arange(22.0)[None, :, None], (20, 22, 18))
    shown = moved(ramp, field, "nearest")  # at x it shows what is at x + field
    back = moved(shown, displacement, "nearest")[:, 4:-4]
    np.testing.assert_allclose(back, ramp[:, 4:-4], atol=1e-6)


def test_labels_are_moved_for_the_training_part_alone(tmp_path, monkeypatch):
    parts = write_cohort(tmp_path, n_train=2, n_validation=1)
    record = {
        "model": "first", "source": "t1", "target": "fa",
        "options": Macro2Micro(correct_labels=Correction(smooth_mm=3)).model_dump(mode="json"),
    }  # fmt: skip
    monkeypatch.setattr("m2m.train.labels.load_model", lambda *_: ({}, record))
    monkeypatch.setattr("m2m.train.labels.load_correction", lambda *_: Off(1.0))
    correct_slices(Path("w"), tmp_path / "slices", *split_of(tmp_path), tmp_path / "moved")
    measured, _ = find_subjects(tmp_path / "slices", parts, "t1", "fa")
    found, _ = find_subjects(tmp_path / "slices", parts, "t1", "fa", labels_dir=tmp_path / "moved")
    assert found["validation"] == measured["validation"]
    for before, after in zip(measured["train"], found["train"], strict=True):
        assert before.unit == after.unit and after.record["labels_from"] == "first"
        assert before.record["sha256"] != after.record["sha256"]
        np.testing.assert_array_equal(before.volume("t1").data, after.volume("t1").data)
        known = after.mask()
        assert 0.8 < known.sum() / before.mask().sum() < 1
        shown = np.roll(before.volume("fa").data, 1, axis=1)  # what lay a voxel further back
        np.testing.assert_allclose(after.volume("fa").data[known], shown[known], atol=0.02)
        for plane in PLANES:
            places = after.places("fa")
            cut = extract(after.volume("fa").data, plane)
            np.testing.assert_array_equal(after.open(plane)[:, places[0]].astype(np.float32), cut)


def test_a_model_of_moved_labels_needs_their_folder_and_another_refuses_it(tmp_path):
    write_cohort(tmp_path, n_train=1, n_validation=1)
    plain = small_model(steps=1)
    of_moved = plain.model_copy(update={"labels_from": "first"})
    for model, further in ((of_moved, []), (plain, ["--labels-dir", str(tmp_path / "slices")])):
        result = CliRunner().invoke(app, train_arguments(tmp_path, tmp_path, model) + further)
        assert result.exit_code == 2 and "--labels-dir is for a model with" in result.output
