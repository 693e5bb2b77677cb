"""Oblique T1s: V1 turns with the head, for every target with directions and every family that can learn it.

Participants here have one anatomy, with fibres along x, y or z of the head, and lie in the scanner at different angles;
the grid of each is along the head, as that of a real T1 is.
"""

import json

import numpy as np
import pytest
import torch
from line_model import run, write_line
from scipy import ndimage
from scipy.spatial.transform import Rotation
from small_cohort import AFFINE, SHAPE

from m2m.diffusion import dwi, tensors
from m2m.diffusion.scales import log_tensor, tensor_of_log, to_grid_axes, to_world_axes
from m2m.field.directions import as_tensors, directions
from m2m.io.bids import slice_files, unit_files
from m2m.io.errors import DataError
from m2m.io.files import digest, read_json, write_json
from m2m.io.modalities import MODALITIES
from m2m.io.tables import read_table, write_table
from m2m.io.volume import Volume, load, resample, save
from m2m.models import inference
from m2m.models.baselines import MeasuredMap, fit_mean_map, predict_mean_map
from m2m.models.record import load_model
from m2m.networks.slice_inputs import along_grid, grid_axes
from m2m.options.configured import split_of
from m2m.phantom.signal import fit_tensor
from m2m.structural.slices import PLANES, positions
from m2m.structural.slices import main as cut_slices
from m2m.train.dataset import find_subjects
from m2m.translate.export import usage
from m2m.translate.predict import Network, Subject, predict, predict_file, unscaled

DIRECTED = [name for name, modality in MODALITIES.items() if modality.target and modality.directed]
TURNS = {
    "pitch of 10 degrees": [10, 0, 0],
    "yaw of 15 degrees": [0, 0, 15],
    "27.6 degrees about all axes": 27.6 * np.array([1, 2, 3]) / np.sqrt(14),
}
FAMILIES = {
    "mean": {"family": "mean"},
    "t1": {"family": "t1"},
    "unet": {
        "family": "unet",
        "network": {"context": 1, "features": [8, 8, 8, 8, 8]},
        "ssim": 0,
        "training": {"steps": 80, "batch_size": 6, "validate_every": 80, "learning_rate": 0.01},
    },
    "macro2micro": {
        "family": "macro2micro",
        "network": {"widths": [6, 8], "context": 1, "prior": True},
        "discriminators": {"width": 4, "crops": 2, "crop_size": 8},
        "losses": {"adversarial": 0, "patch_adversarial": 0, "perceptual": 0},
        "training": {"steps": 40, "batch_size": 6, "validate_every": 40},
    },
}


def turn(degrees):
    """A rotation of the world, shape (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    return matrix


def head(seed):
    """T1, brain and tensors along the axes of the head: fibres along x, y or z, each with its intensity."""
    places = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    brain = sum(x**2 for x in places) < 0.7
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 1.5)
    kind = np.digitize(places[0] + 0.2 * texture / texture.std(), [-0.25, 0.25])
    along = np.array([tensors.from_matrix(np.diag(np.where(np.arange(3) == k, 1.5e-3, 0.4e-3))) for k in range(3)])
    return (0.2 + 0.3 * kind) * brain, brain, along[kind] * brain[..., None]


def lay(root, unit, seed, matrix):
    """Write a participant who lies turned in the scanner, on a grid along the head, and cut the slices."""
    t1, brain, six = head(seed)
    files, affine = unit_files(root, unit), matrix @ AFFINE
    volumes = {
        "t1w": 1000 * t1,
        "brain": brain,
        "fa": tensors.measures(six).fa,
        "target-mask": brain,
        "tensor": tensors.rotate(six, matrix[:3, :3]),
    }
    for kind, data in volumes.items():
        save(files[kind], Volume(np.float32(data), affine))
    status = {"status": "ok", "excluded": []}
    write_json(files["anat-status"], {**status, "grid_to_mni": np.linalg.inv(matrix).tolist()})
    write_json(files["grid-status"], status)
    cut_slices(root, unit, options="{}", maps=["fa", *DIRECTED])
    return files


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Four participants at different angles, models trained on three, and the files of the fourth."""
    root = tmp_path_factory.mktemp("oblique")
    angles = ([20, 0, 0], [0, -25, 0], [0, 0, 30], [-15, 10, 20])
    files = [lay(root, f"sub-{i}", i, turn(angle)) for i, angle in enumerate(angles)]
    rows = [{"participant_id": f"sub-{i}", "part": part} for i, part in enumerate(["train"] * 3 + ["test"])]
    table, record = split_of(root)
    write_table(table, rows, ["participant_id", "part"])
    write_json(record, {"hash": digest(read_table(table))})
    for target in DIRECTED:
        for name, options in FAMILIES.items():
            task = json.dumps({"source": "t1", "target": target})
            flags = ["--task", target, "--model", name, "--task-options", task, "--options", json.dumps(options)]
            result = run("train", "--root", root, *flags)
            assert result.exit_code == 0, result.output
    return root, files[-1], turn(angles[-1])


def predicted(root, target, name, files, matrix=None):
    """Measures of the predicted tensors of a participant, after turning the affine of the T1."""
    folder = root / "models" / target / name
    about = load_model(folder / "model.safetensors", folder / "model.json")
    if matrix is None:
        image, _ = predict_file(files["t1w"], files["brain"], files["anat-status"], *about, Network())
        return tensors.measures(image.data)
    t1, brain = load(files["t1w"]), load(files["brain"])
    affine = matrix @ t1.affine
    to_mni = np.array(read_json(files["anat-status"])["grid_to_mni"]) @ np.linalg.inv(matrix)
    inside = brain.data > 0
    found = predict(Subject(Volume(t1.data, affine), Volume(inside, affine), to_mni), *about, Network())
    return tensors.measures(unscaled(found.image, inside, about[1]).data)


def degrees_between(v1, other):
    return np.degrees(np.arccos(np.abs((v1 * other).sum(-1)).clip(0, 1)))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("target", DIRECTED)
def test_v1_turns_with_the_affine_of_the_t1(cohort, target, name):
    root, files, _ = cohort
    before = predicted(root, target, name, files)
    inside = before.fa > 0.05
    assert inside.sum() > 1000
    for how, angle in TURNS.items():
        matrix = turn(angle)
        after = predicted(root, target, name, files, matrix)
        off = degrees_between(after.v1, before.v1 @ matrix[:3, :3].T)[inside]
        assert np.percentile(off, 95) < 0.2, how
        np.testing.assert_allclose(after.fa, before.fa, atol=1e-3, err_msg=how)


@pytest.mark.parametrize(("name", "least"), [("mean", 0.6), ("unet", 0.5), ("macro2micro", 0.6)])
@pytest.mark.parametrize("target", DIRECTED)
def test_models_of_oblique_participants_find_the_fibres_of_one_at_another_angle(cohort, target, name, least):
    root, files, matrix = cohort
    found = predicted(root, target, name, files)
    true = tensors.measures(tensors.rotate(head(3)[2], matrix[:3, :3]))
    inside = ndimage.binary_erosion(true.fa > 0.3)
    right = degrees_between(found.v1, true.v1)[inside] < 15
    assert right.mean() > least, f"{right.mean():.2f}"


@pytest.mark.parametrize("target", DIRECTED)
def test_slices_hold_tensors_along_the_grid_and_the_same_for_every_angle(cohort, target):
    root, *_ = cohort
    train = find_subjects(root / "slices", {f"sub-{i}": "train" for i in range(4)}, "t1", target)[0]["train"]
    for i, subject in enumerate(train):
        expected = log_tensor(head(i)[2])
        np.testing.assert_allclose(subject.volume(target).data, expected, atol=2e-3)
        assert subject.record["axes"] == "grid"


def test_slices_and_models_of_tensors_along_world_axes_are_refused(cohort, tmp_path):
    _, files, _ = cohort
    record = slice_files(tmp_path, "sub-0", PLANES)[0]
    write_json(record, {"status": "ok", "excluded": [], "channels": ["t1", *MODALITIES["dti"].channels]})
    with pytest.raises(DataError, match="run `m2m slices` again"):
        find_subjects(tmp_path / "slices", {"sub-0": "train"}, "t1", "dti")
    weights = write_line(tmp_path, target="dti")
    given = ["--brain", files["brain"], "--anat-status", files["anat-status"]]
    spacing = {"spacing_mm": 6.0, "shape": list(SHAPE)}
    weights = write_line(tmp_path, target="dti", **spacing)
    result = run("translate", files["t1w"], "--weights", weights, "--out", tmp_path / "d.nii.gz", *given)
    assert result.exit_code == 1 and "train it again" in result.output
    result = run("export", "--weights", weights, "--out", tmp_path / "bundle")
    assert result.exit_code == 1 and "train it again" in result.output


def log_tensors(folder, name):
    """Scaled tensors of a real series, by least squares, 0 outside the head, and the affine."""
    path = folder / f"turned/sub-TRN/ses-{name}/dwi/sub-TRN_ses-{name}_dwi"
    series = dwi.load(*(path.with_suffix(suffix) for suffix in (".nii.gz", ".bval", ".bvec")))
    data, affine = series.volume.data, series.volume.affine
    inside = data[..., 0] > 0.25 * np.percentile(data[..., 0], 99)
    scaled = np.zeros((*inside.shape, 6), np.float32)
    scaled[inside] = log_tensor(fit_tensor(np.maximum(data[inside], 1), series.bvals, series.bvecs))
    return scaled, affine


@pytest.mark.parametrize("position", ("roll", "pitch", "yaw", "2axis"))
def test_v1_of_a_real_head_is_the_same_in_an_oblique_field_of_view_and_turns_along_its_grid(shared_data, position):
    """The head stayed where it was; the slices of the second series are oblique by 16 to 30 degrees."""
    (scaled, affine), (pitched, oblique) = (log_tensors(shared_data, name) for name in ("ortho", position))
    angles = {}
    for axes in ("world", "grid"):
        along = [(scaled, affine), (pitched, oblique)]
        if axes == "grid":
            along = [(to_grid_axes(data, grid), grid) for data, grid in along]
        back = resample(Volume(*along[1]), affine, scaled.shape[:3]).data
        both = (scaled != 0).all(-1) & ndimage.binary_erosion((back != 0).all(-1))
        one, other = (tensors.measures(tensor_of_log(data[both])) for data in (along[0][0], back))
        fibres = (one.fa > 0.5) & (other.fa > 0.5) & (one.fa < 0.95)
        assert fibres.sum() > 300
        angles[axes] = np.median(degrees_between(one.v1, other.v1)[fibres])
    assert angles["world"] < 4
    assert 8 < angles["grid"] < 30
    level, oblique_fa = (tensors.measures(tensor_of_log(data[(data != 0).all(-1)])).fa for data in (scaled, pitched))
    assert np.median(oblique_fa) == pytest.approx(np.median(level), abs=0.01)


# The parts


def test_rotation_to_the_grid_is_inverted_and_leaves_missing_tensors_at_0(rng):
    affine = turn([25, -10, 40]) @ np.diag([1.0, 1.2, 3.0, 1.0])
    scaled = rng.standard_normal((4, 5, 6, 6)).astype(np.float32)
    scaled[0] = 0
    along = to_grid_axes(scaled, affine)
    np.testing.assert_allclose(to_world_axes(along, affine), scaled, atol=1e-6)
    assert not along[0].any() and np.abs(along[1] - scaled[1]).max() > 0.1
    np.testing.assert_array_equal(to_grid_axes(scaled, AFFINE), scaled)
    fa = rng.random((4, 5, 6))
    assert MODALITIES["fa"].to_grid_axes(fa, affine) is fa


def test_deviations_of_rotated_elements_are_those_of_rotated_errors(rng):
    rotation = turn([20, 30, -10])[:3, :3]
    sds = np.array([0.1, 0.02, 0.05, 0.3, 0.01, 0.2])
    errors = sds * rng.standard_normal((200_000, 6))
    expected = tensors.rotate(errors, rotation).std(0)
    np.testing.assert_allclose(tensors.rotate_deviations(sds, rotation), expected, rtol=0.01)


def test_the_mean_map_of_grids_at_different_angles_is_that_of_the_template():
    known = np.array([1.6e-3, 2e-4, -1e-4, 4e-4, 1e-4, 3e-4], np.float32)

    def participant(angle):
        matrix = turn(angle)
        # Along the grid, which is along the head, the tensor is that of the template.
        field = np.broadcast_to(known, (*SHAPE, 6))
        return MeasuredMap(Volume(field, matrix @ AFFINE), np.ones(SHAPE, bool), np.linalg.inv(matrix))

    fitted = fit_mean_map((participant(angle) for angle in ([25, 0, 0], [0, -30, 0], [10, 10, 40])), 6.0)
    np.testing.assert_allclose(fitted["mean"][14, 16, 14], known, rtol=1e-3)
    assert fitted["sd"].max() < 1e-5
    # A grid that is not along the head: the same tensor along other axes.
    tilt = turn([0, 20, 0])
    found = predict_mean_map(fitted, tilt @ AFFINE, SHAPE, np.eye(4)).image
    np.testing.assert_allclose(found[12, 14, 12], tensors.rotate(known, tilt[:3, :3].T), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("plane", PLANES)
def test_the_axes_of_the_grid_follow_from_the_positions_of_a_slice(plane, mirrored):
    to_mni = turn([12, -8, 20]) @ np.diag([1.1, 1.1, 1.1, 1.0]) @ turn([0, 25, 10]) @ AFFINE
    expected = tensors.nearest_rotation(to_mni[:3, :3])
    if mirrored:
        to_mni, flip = inference.mirror_affine(to_mni, SHAPE[0]), np.diag([-1.0, 1, 1])
        expected = flip @ expected @ flip
    position = torch.from_numpy(positions(to_mni, SHAPE, plane, np.array([4, 9])))
    axes = grid_axes(position, torch.full((2,), PLANES.index(plane)))
    np.testing.assert_allclose(axes.numpy(), np.broadcast_to(expected, (2, 3, 3)), atol=1e-5)
    six = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(1))
    found = along_grid(six, axes[..., None, None])[1, :, 2, 3].numpy()
    np.testing.assert_allclose(found, tensors.rotate(six[1, :, 2, 3].numpy(), expected.T), atol=1e-5)


def test_a_sheared_affine_changes_the_axes_by_little():
    stretch = np.eye(4)
    stretch[:3, :3] += 0.02 * np.array([[1, 1, 0], [1, -1, 1], [0, 1, 0.5]])
    to_mni = stretch @ turn([15, 5, 0]) @ AFFINE
    expected = turn([15, 5, 0])[:3, :3]
    for number, plane in enumerate(PLANES):
        position = torch.from_numpy(positions(to_mni, SHAPE, plane, np.array([7])))
        axes = grid_axes(position, torch.tensor([number]))[0].numpy()
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
        assert np.degrees(Rotation.from_matrix(axes.T @ expected).magnitude()) < 2


def test_an_exported_network_of_tensors_says_along_which_axes_they_are():
    record = {"shape": [16, 20, 16], "task": "t", "model": "m", "weights": "w", "code_version": "0"}
    about = dict.fromkeys(("family", "source", "simulated", "uncertainty"), "")
    grid = {"spacing_mm": 3.0, "t1_range_percent": [1, 99]}
    for target, noted in (("dti", True), ("fa", False)):
        assert ("GDG'" in usage(record | about | grid | {"target": target}, 1)["outputs"]["image"]) == noted


def test_directions_of_a_field_turn_with_its_tensors(rng):
    """Fields are fitted to world axes, of one participant: interpolation commutes with rotation."""
    rotation = turn([20, -30, 10])[:3, :3]
    six = np.array([tensors.from_matrix(m @ m.T) for m in 0.02 * rng.standard_normal((2, 3, 3))])
    mean = directions(six).mean(0)
    rotated = directions(tensors.rotate(six, rotation)).mean(0)
    np.testing.assert_allclose(rotated, tensors.rotate(mean, rotation), atol=1e-6)
    a, b = tensors.measures(as_tensors(mean)).v1, tensors.measures(as_tensors(rotated)).v1
    assert degrees_between(rotation @ a, b) < 0.01
