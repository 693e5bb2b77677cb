"""A field written on any grid: slices in any pose, tensors, and streamlines along them."""

import json

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from typer.testing import CliRunner

from m2m.cli import app
from m2m.diffusion import tensors
from m2m.diffusion.scales import log_density
from m2m.diffusion.tractography.tracking import track
from m2m.diffusion.tractography.tracks import Field
from m2m.field.directions import DIRECTIONS, as_tensors, directions
from m2m.field.fit import Fitted, network_of
from m2m.field.fit_field import write_field
from m2m.field.slice_samples import Box
from m2m.io.volume import Volume, load, same_grid, save
from m2m.options import SliceField, Tractography

BOX = Box(np.array([0.0, 0, 0]), np.array([30.0, 40, 20]))
# One grid with nodes at the box's corners, and no hidden layer: linear in x.
LINEAR = SliceField(spacings=(50,), features=1, hidden=())
FA = 0.8


def rotation():
    """A rotation about an axis that is not a world axis."""
    return np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2 + np.eye(3))[0]


@pytest.fixture
def field(tmp_path):
    """Paths of a field: density x / 30, fibres along x with an FA of 0.8."""
    names = ["tdi", *DIRECTIONS]
    network = network_of(BOX, LINEAR, 1.0, len(names))
    (grid,), (linear,) = network.grids, network.perceptron
    grid.nodes.data[:] = grid.nodes.data.new_tensor([0.0, 1.0])[:, None, None]
    linear.weight.data[:] = 0
    linear.weight.data[0] = 1
    linear.bias.data[:] = 0
    linear.bias.data[1] = FA
    paths = tmp_path / "a.safetensors", tmp_path / "a.json"
    about = {"modality": "tdi", "channels": names, "options": LINEAR.model_dump(mode="json")}
    about |= {"unit": "sub-1", "affine": np.eye(4).tolist(), "shape": [20, 20, 20]}
    write_field(Fitted(network, np.zeros(0), 1.0), [], about, *paths)
    return paths


def sample(*arguments):
    return CliRunner().invoke(app, ["sample", *map(str, arguments)])


def test_an_oblique_slice_between_the_given_ones_has_the_right_values(field, tmp_path):
    pose = np.eye(4)
    pose[:3, :3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]
    pose[:3, 3] = [9, 7, 11.3]
    like = Volume(np.ones((30, 12, 1)), pose)
    save(tmp_path / "like.nii.gz", like)
    out, six = tmp_path / "out.nii.gz", tmp_path / "tensor.nii.gz"
    result = sample("--weights", field[0], "--like", tmp_path / "like.nii.gz", "--out", out, "--tensor", six)
    assert result.exit_code == 0, result.output
    found = load(out)
    assert same_grid(found, like)
    points = apply_affine(pose, np.moveaxis(np.indices(like.shape), 0, -1))
    inside = BOX.holds(points)
    assert inside.any() and not inside.all()
    assert np.allclose(log_density(found.data)[inside], points[inside][:, 0] / 30, atol=1e-4)
    assert not found.data[~inside].any()
    measured = tensors.measures(load(six).data)
    assert np.allclose(measured.fa[inside], FA, atol=1e-4)
    assert np.allclose(np.abs(measured.v1[inside]), [1, 0, 0], atol=1e-4)
    assert not load(six).data[~inside].any()
    assert json.loads((tmp_path / "out.json").read_text())["Sources"][0] == field[0].name


@pytest.mark.parametrize(
    ("shape", "shift", "message"),
    [((3, 3, 1), 500, "outside the field's box"), ((3, 3), 0, "has two axes only")],
)
def test_a_grid_without_a_position_in_the_field_is_refused(field, tmp_path, shape, shift, message):
    affine = np.eye(4)
    affine[:3, 3] += shift
    like, out = tmp_path / "like.nii.gz", tmp_path / "out.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), affine), like)
    result = sample("--weights", field[0], "--like", like, "--out", out)
    assert result.exit_code == 1
    assert message in result.output and str(like) in result.output
    assert not out.exists()


def test_tensors_of_a_field_without_directions_are_refused(field, tmp_path):
    about = json.loads(field[1].read_text()) | {"channels": ["tdi"]}
    network = network_of(BOX, LINEAR, 1.0, 1)
    write_field(Fitted(network, np.zeros(0), 1.0), [], about, *field)
    save(tmp_path / "like.nii.gz", Volume(np.ones((3, 3, 3)), np.eye(4)))
    result = sample(
        "--weights",
        field[0],
        "--like",
        tmp_path / "like.nii.gz",
        "--out",
        tmp_path / "out.nii.gz",
        "--tensor",
        tmp_path / "six.nii.gz",
    )
    assert result.exit_code == 1 and "has no directions" in result.output


def test_directions_become_tensors_with_the_same_v1_and_fa():
    axes = rotation()
    evals = np.array([[1.7e-3, 0.3e-3, 0.3e-3], [0.9e-3, 0.6e-3, 0.6e-3], [1e-3, 1e-3, 1e-3]])
    six = tensors.from_matrix(axes @ (evals[:, :, None] * axes.T))
    wanted, found = tensors.measures(six), tensors.measures(as_tensors(directions(six)))
    assert np.allclose(found.fa, wanted.fa, atol=1e-6)
    assert np.allclose(np.abs((found.v1 * wanted.v1).sum(-1))[:2], 1)
    assert not as_tensors(np.zeros((2, 6))).any()


def test_where_directions_cross_their_mean_is_less_anisotropic():
    along_x, along_y = np.eye(6)[0], np.eye(6)[3]
    mean = FA * (0.6 * along_x + 0.4 * along_y)
    found = tensors.measures(as_tensors(mean))
    assert found.fa == pytest.approx(0.6 * FA, abs=1e-6)
    assert np.allclose(np.abs(found.v1), [1, 0, 0])


def test_streamlines_follow_the_directions_of_a_field():
    v1 = rotation()[:, 0]
    one = FA * v1[list(tensors.ROWS)] * v1[list(tensors.COLUMNS)]
    mask = np.zeros((16, 16, 16), bool)
    mask[2:-2, 2:-2, 2:-2] = True
    six = as_tensors(np.where(mask[..., None], one, 0))
    found = track(
        Field(six, mask, np.diag([2.0, 2, 2, 1])),
        Tractography(seeds_per_voxel=1, length_mm=(5, 100)),
    )
    steps = np.concatenate([np.diff(line, axis=0) for line in found.streamlines])
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    assert len(found.streamlines) > 100
    assert np.abs(steps @ v1).min() > 0.98
