"""A continuous field: it fits a ramp, poses and profiles are right, corrupted slices count less."""

import numpy as np
import pytest
import torch
from nibabel.affines import apply_affine

from m2m.diffusion.scales import density_of_log, log_density
from m2m.evaluate.metrics import pearson, psnr
from m2m.field.fit import Profile, fit, weights
from m2m.field.fit_field import fit_unit, read_field
from m2m.field.network import DenseGrid, FieldNetwork, HashGrid
from m2m.field.sample import at_points, extent, on_grid
from m2m.field.slice_samples import Box, Slice, box_of, cut, gather
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.volume import Volume, load, save
from m2m.options import SliceField
from m2m.structural.slices import PLANES

FEW = SliceField(features=2, hidden=(16,), spacings=(2, 4, 8), steps=150, batch_size=1024)
AFFINE = np.array([[-2.0, 0, 0, 20], [0, 0, 2, -15], [0, 2, 0, -5], [0, 0, 0, 1]])  # LSA
BOX = Box(np.array([0.0, 0, 0]), np.array([30.0, 40, 20]))


def smooth_volume():
    """Two blobs on a grid of 2 mm, shape (16, 18, 14), values 0 to 1."""
    affine = np.diag([2.0, 2, 2, 1])
    points = apply_affine(affine, np.indices((16, 18, 14)).reshape(3, -1).T)
    blobs = [np.exp(-((points - c) ** 2).sum(1) / (2 * s**2)) for c, s in (((12, 14, 12), 6), ((22, 24, 16), 5))]
    return Volume(sum(blobs).reshape(16, 18, 14).astype(np.float32), affine)


def slices_of(volume, every):
    return [one for plane in PLANES for _, one in cut(volume, plane, every)]


@pytest.mark.parametrize("plane", PLANES)
def test_a_pixel_has_the_position_of_its_voxel_in_a_volume_of_any_orientation(plane, rng):
    indices = np.indices((5, 6, 7)).reshape(3, -1).T
    x, y, z = apply_affine(AFFINE, indices).T
    volume = Volume((x + 100 * y + 10_000 * z).reshape(5, 6, 7), AFFINE)
    found = cut(volume, plane)
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    assert len(found) == (5, 7, 6)[axis]  # of the volume in RAS+ orientation
    for _, one in found:
        assert np.linalg.norm(one.pose[:3, 2]) == pytest.approx(1)
        assert np.ptp(one.points_mm[:, axis]) == pytest.approx(0)
        values = one.points_mm @ [1, 100, 10_000]
        assert np.allclose(values, one.image.ravel(), atol=1e-2)


def test_every_third_slice_is_kept_from_the_middle_of_the_first_three():
    assert [index for index, _ in cut(smooth_volume(), "axial", 3)] == [1, 4, 7, 10, 13]


@pytest.mark.parametrize("kind", [DenseGrid, lambda shape, n: HashGrid(shape, n, 1 << 16)])
def test_a_grid_is_linear_between_its_nodes(kind):
    torch.manual_seed(0)
    grid = kind((3, 4, 5), 2)
    nodes = grid(torch.cartesian_prod(*[torch.linspace(0, 1, n) for n in (3, 4, 5)]))
    nodes = nodes.reshape(3, 4, 5, 2)
    middle = grid(torch.tensor([[0.25, 0.5, 0.875]]))  # half way, half way, half way
    assert torch.allclose(middle[0], nodes[:2, 1:3, 3:].mean((0, 1, 2)), atol=1e-6)
    assert nodes.std() > 0.005


def test_a_dense_grid_has_its_axes_in_the_order_of_the_world():
    grid = DenseGrid((3, 4, 5), 1)
    x, y, z = torch.meshgrid(*[torch.linspace(0, 1, n) for n in (3, 4, 5)], indexing="ij")
    grid.nodes.data = (x + 10 * y + 100 * z)[None, None]
    place = torch.rand(20, 3)
    assert torch.allclose(grid(place)[:, 0], place @ torch.tensor([1.0, 10, 100]), atol=1e-4)


def test_grids_with_more_nodes_than_rows_are_hashed():
    network = FieldNetwork(BOX, (2.0, 10.0), 2, (8,), 1, table_rows=500)
    assert [type(grid).__name__ for grid in network.grids] == ["HashGrid", "DenseGrid"]
    assert len(network.grids[0].table) == 500


def test_a_thick_slice_is_the_mean_over_its_profile():
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2 + np.eye(3))[0]
    thick, thin = (Slice(np.zeros((2, 2, 1), np.float32), pose, mm) for mm in (4.0, 0.0))
    normal = torch.tensor(pose[:3, 2], dtype=torch.float32)

    def square(points_mm):
        return (points_mm @ normal)[:, None] ** 2

    points = 3 * normal.expand(2, 3)
    found = Profile([thick, thin])(square, points, torch.tensor([0, 1]))
    variance = 4.0**2 / (8 * np.log(2))
    assert found[:, 0].tolist() == pytest.approx([9 + variance, 9], rel=1e-5)


def test_a_field_fitted_to_every_fourth_slice_reproduces_a_ramp():
    volume = smooth_volume()
    points = apply_affine(volume.affine, np.indices(volume.shape).reshape(3, -1).T)
    ramp = (points @ [0.01, 0.02, -0.01] + 0.2).reshape(volume.shape).astype(np.float32)
    box = box_of(Volume(np.ones(volume.shape), volume.affine))
    fitted = fit(slices_of(Volume(ramp, volume.affine), 4), box, FEW, quiet=True)
    found = on_grid(fitted.network, volume.affine, volume.shape).data[..., 0]
    error = np.abs(found - ramp)[2:-2, 2:-2, 2:-2]  # between the outermost slices
    assert error.max() < 0.05
    assert error.mean() < 0.01
    # An oblique slice between the given ones.
    pose = np.eye(4)
    pose[:3, :3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]
    pose[:3, 3] = [9, 7, 11.3]
    oblique = on_grid(fitted.network, pose, (8, 8, 1)).data[..., 0, 0]
    truth = Slice(np.zeros((8, 8, 1)), pose).points_mm @ [0.01, 0.02, -0.01] + 0.2
    assert np.abs(oblique.ravel() - truth).max() < 0.05


def test_slices_count_alike_unless_they_are_noisier_than_usual():
    found = weights(torch.tensor([0.1, 0.05, 0.15, 0.3, 0.1]))
    assert found.tolist() == pytest.approx([1, 1, 1, 1 / 16, 1])


@pytest.mark.parametrize("how", ["noise", "shift"])
def test_a_corrupted_slice_is_detected_and_costs_little(how, rng):
    volume = smooth_volume()
    slices = slices_of(volume, 2)
    image = slices[3].image
    corrupted = np.roll(image, (4, 3), (0, 1)) if how == "shift" else image + rng.normal(0, 0.3, image.shape)
    bad = [*slices[:3], slices[3]._replace(image=corrupted.astype(np.float32)), *slices[4:]]
    box = box_of(Volume(np.ones(volume.shape), volume.affine))
    inside = np.ones(volume.shape, bool)
    scores = []
    for given in (slices, bad):
        fitted = fit(given, box, FEW, quiet=True)
        found = on_grid(fitted.network, volume.affine, volume.shape).data[..., 0]
        scores.append(psnr(volume.data, found, inside))
    assert fitted.sds.argmax() == 3
    assert fitted.sds[3] > 2 * np.median(fitted.sds)
    assert scores[1] > scores[0] - 0.5


def image(fill=1.0, shape=(4, 5, 1), at=(0.0, 0, 0)):
    pose = np.eye(4)
    pose[:3, 3] = at
    return Slice(np.full(shape, fill, np.float32), pose)


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ([image()], "at least two slices"),
        ([image(), image(np.nan)], "slice 1 holds NaN"),
        ([image(), image(np.inf)], "slice 1 holds NaN or infinity"),
        ([image(), image(at=(0, 0, 90))], "slice 1 lies outside the box"),
        ([image(), image(shape=(4, 5, 2))], "another number of channels"),
        ([image(0.0), image(0.0)], "every slice is 0"),
    ],
)
def test_slices_that_do_not_define_a_field_are_refused(slices, message):
    with pytest.raises(DataError, match=message):
        gather(slices, BOX)


def test_pixels_outside_the_box_are_not_used():
    samples = gather([image(at=(-2, 0, 0)), image(2.0)], BOX)
    assert (samples.number == 0).sum() == 10 and (samples.number == 1).sum() == 20
    assert samples.values[samples.number == 1].min() == 2


def test_a_diverging_fit_stops():
    bad = [image(1e30), image(at=(0, 0, 5))]
    with pytest.raises(DataError, match="diverged at step 0"):
        fit(bad, BOX, FEW, quiet=True)


def test_outside_its_box_a_field_is_0_and_a_grid_is_refused():
    network = FieldNetwork(BOX, (10.0,), 2, (8,), 1, 1 << 10)
    values = at_points(network, np.array([[10.0, 10, 10], [31, 10, 10]]))
    assert values[0] != 0 and values[1] == 0
    with pytest.raises(DataError, match="outside the field's box"):
        on_grid(network, np.diag([1.0, 1, -1, 1]), (3, 3, 1)) and on_grid(network, AFFINE + 200, (3, 3, 1))


def test_a_field_s_own_box_gives_grids_of_the_same_shape_again(rng):
    for low in rng.uniform(-99, -1, 100):
        box = Box(np.full(3, low), np.full(3, low + 7 * 3.6))  # a multiple, but for rounding
        first = FieldNetwork(box, (3.6,), 1, (), 1, 1 << 12)
        again = FieldNetwork(extent(first), (3.6,), 1, (), 1, 1 << 12)
        assert again.grids[0].nodes.shape == first.grids[0].nodes.shape
        assert torch.equal(again.size_mm, first.size_mm)


def test_an_empty_mask_is_refused():
    with pytest.raises(DataError, match="0 everywhere"):
        box_of(Volume(np.zeros((3, 3, 3)), np.eye(4)))


def stage_inputs(folder):
    volume = smooth_volume()
    save(folder / "tdi.nii.gz", Volume(density_of_log(volume.data), volume.affine))
    save(folder / "mask.nii.gz", Volume(volume.data > 0.05, volume.affine), dtype=np.uint8)
    return folder / "tdi.nii.gz", folder / "mask.nii.gz"


def run(folder, tdi, mask, **options):
    names = {".safetensors": "field", ".json": "field", ".nii.gz": "sampled"}
    out = {suffix: folder / f"{name}{suffix}" for suffix, name in names.items()}
    fit_unit(
        weights=out[".safetensors"],
        record=out[".json"],
        out=out[".nii.gz"],
        mask=mask,
        stacks=dict.fromkeys(PLANES, tdi),
        unit="sub-1",
        status=folder / "status.json",
        device="cpu",
        section=FEW.model_copy(update=options),
    )
    return out, read_json(folder / "status.json")


def test_the_stage_writes_a_field_that_can_be_read_again(tmp_path):
    tdi, mask = stage_inputs(tmp_path)
    out, status = run(tmp_path, tdi, mask, every=2, steps=600)
    assert status["status"] == "ok" and status["n_slices"] == len(read_json(out[".json"])["slice_sds"])
    network, about = read_field(out[".safetensors"], out[".json"])
    fused, measured, inside = load(out[".nii.gz"]), load(tdi), load(mask).data > 0
    sampled = on_grid(network, fused.affine, fused.shape).data[..., 0]
    assert np.allclose(density_of_log(sampled.clip(0))[inside], fused.data[inside], rtol=1e-4)
    assert not fused.data[~inside].any()
    assert pearson(log_density(fused.data[inside]), log_density(measured.data[inside])) > 0.98
    assert about["channels"] == ["tdi"]


def test_bad_slices_end_in_a_record_and_no_field(tmp_path):
    tdi, mask = stage_inputs(tmp_path)
    out, status = run(tmp_path, tdi, mask, every=100)
    assert status["finding"]["problem"] == "a field needs at least two slices"
    assert str(tdi) in status["finding"]["file"]
    assert all(path.read_bytes() == b"" for path in out.values())
