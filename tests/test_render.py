"""Views of a field: known areas and optical depths, camera poses, colours of directions."""

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine
from PIL import Image

from m2m.diffusion import tensors
from m2m.diffusion.scales import density_of_log
from m2m.field.fit_field import fit_unit, read_field
from m2m.field.render import Camera, integrate
from m2m.field.render_views import medium_of, render_unit, view_image
from m2m.io.files import read_json
from m2m.io.volume import Volume, save
from m2m.options import Render, SliceField

SIZES_MM = torch.tensor([60.0, 40.0, 25.0])
FEW = SliceField(features=2, hidden=(16,), spacings=(1.3, 2.7), steps=200, batch_size=512)


def ellipsoid(points_mm):
    inside = ((points_mm - torch.tensor([5.0, -3, 2])) / SIZES_MM).square().sum(-1) < 1
    return 10.0 * inside, torch.ones_like(points_mm)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (90, 0), (0, 90), (35, 20)])
def test_an_ellipsoid_shows_its_known_area_within_one_percent(azimuth, elevation):
    camera = Camera(azimuth, elevation, width_mm=150, pixels=150)
    starts, into = camera.rays(np.zeros(3), 160)
    area = integrate(ellipsoid, starts, into, 160, 1.0).opacity.sum() * (150 / 150) ** 2
    a, b, c = SIZES_MM.tolist()
    known = np.pi * np.linalg.norm(np.array([b * c, a * c, a * b]) * camera.axes[2])
    assert float(area) == pytest.approx(known, rel=0.01)


def test_a_slab_absorbs_by_its_thickness_and_occludes_the_one_behind():
    red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])

    def slabs(points_mm):
        near = points_mm[:, 1] < 0
        extinction = torch.where(near, 0.05, 0.2) * (points_mm[:, 1].abs() < 10)
        return extinction, torch.where(near[:, None], red, blue)

    start = torch.tensor([[0.0, -20, 0]])
    view = integrate(slabs, start, torch.tensor([0.0, 1, 0]), 40, 0.5)
    assert float(view.depth[0]) == pytest.approx(10 * 0.05 + 10 * 0.2, rel=1e-5)
    assert float(view.opacity[0]) == pytest.approx(1 - np.exp(-2.5), rel=1e-5)
    expected = [1 - np.exp(-0.5), 0, np.exp(-0.5) * (1 - np.exp(-2))]
    assert view.colour[0].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_view_can_be_differentiated():
    density = torch.tensor(0.01, requires_grad=True)
    starts = torch.zeros(1, 3)
    view = integrate(
        lambda p: (density.expand(len(p)), torch.ones_like(p)),
        starts,
        torch.tensor([1.0, 0, 0]),
        50,
        1,
    )
    view.opacity.sum().backward()
    assert float(density.grad) == pytest.approx(50 * np.exp(-0.5), rel=1e-4)


@pytest.mark.parametrize(
    ("view", "right", "up", "into"),
    [
        ((0, 0), (1, 0, 0), (0, 0, 1), (0, 1, 0)),
        ((90, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0)),
        ((180, 0), (-1, 0, 0), (0, 0, 1), (0, -1, 0)),
        ((0, 90), (1, 0, 0), (0, 1, 0), (0, 0, -1)),
    ],
)
def test_the_camera_has_the_pose_of_its_angles(view, right, up, into):
    camera = Camera(*view, width_mm=10, pixels=2)
    assert np.allclose(camera.axes, [right, up, into], atol=1e-12)
    starts, direction = camera.rays(np.array([1.0, 2, 3]), 8)
    first = np.array([1, 2, 3]) - 4 * np.array(into) - 2.5 * np.array(right) + 2.5 * np.array(up)
    assert np.allclose(starts[0], first, atol=1e-5)  # top left
    assert np.allclose(direction, into)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A field of a ball whose fibres run from left to right."""
    folder = tmp_path_factory.mktemp("field")
    affine = np.diag([3.0, 3, 3, 1])
    points = apply_affine(affine, np.indices((14, 14, 14)).reshape(3, -1).T)
    ball = (np.linalg.norm(points - 19.5, axis=1) < 12).reshape(14, 14, 14)
    six = tensors.from_matrix(np.diag([1.7e-3, 0.2e-3, 0.2e-3]))
    save(folder / "tdi.nii.gz", Volume(density_of_log(ball * 1.0), affine))
    save(folder / "tensor.nii.gz", Volume(ball[..., None] * six, affine))
    save(folder / "mask.nii.gz", Volume(ball, affine), dtype=np.uint8)
    paths = folder / "field.safetensors", folder / "field.json"
    stacks = dict.fromkeys(("axial", "coronal"), folder / "tdi.nii.gz")
    fit_unit(*paths, folder / "mask.nii.gz", stacks, FEW, tensor=folder / "tensor.nii.gz", device="cpu")
    return paths


def test_fibres_from_left_to_right_are_red_and_fill_their_known_area(fitted):
    network, record = read_field(*fitted)
    assert record["channels"][0] == "tdi" and len(record["channels"]) == 7
    options = Render(width_mm=40, pixels=40, opacity_per_mm=5, step_mm=1, gamma=1)
    image = np.asarray(view_image(medium_of(network, options), network, (0, 0), options)) / 255
    visible = image.max(-1) > 0.5
    assert visible.sum() == pytest.approx(np.pi * 12**2, rel=0.25)  # voxels of 3 mm
    assert image[visible][:, 0].min() > 2 * image[visible][:, 1:].max(1).mean()
    assert not image[0].any()


def test_the_stage_writes_a_turntable_and_stills(fitted, tmp_path):
    out = {"turntable": tmp_path / "a.gif", "stills": tmp_path / "b.png"}
    options = {"pixels": 16, "frames": 3, "width_mm": 40, "step_mm": 3, "stills": [[0, 0], [90, 0]]}
    section = Render.model_validate(options)
    render_unit(*fitted, **out, section=section, status=tmp_path / "s.json", device="cpu")
    with Image.open(out["turntable"]) as animation:
        assert (animation.n_frames, animation.size) == (3, (16, 16))
    with Image.open(out["stills"]) as row:
        assert row.size == (32, 16)
        assert np.asarray(row).max() > 100
    assert read_json(tmp_path / "s.json")["n_frames"] == 3


def test_a_field_of_which_nothing_is_visible_is_a_finding(fitted, tmp_path):
    out = {"turntable": tmp_path / "a.gif", "stills": tmp_path / "b.png"}
    section = Render(threshold=50)
    render_unit(*fitted, **out, section=section, status=tmp_path / "s.json", device="cpu")
    finding = read_json(tmp_path / "s.json")["finding"]
    assert "no density above render.threshold, 50" in finding["problem"]
    assert finding["value"].endswith(" at most")
    assert not out["turntable"].stat().st_size and not out["stills"].stat().st_size
