"""Slices: cutting and normalising are exactly invertible, with the record."""

import json

import numpy as np
import pytest
from nibabel.affines import apply_affine

from m2m.diffusion.scales import density_of_log, tensor_of_log
from m2m.diffusion.tensors import from_matrix, to_matrix
from m2m.io.bids import unit_files
from m2m.io.errors import DataError
from m2m.io.files import read_json, write_json
from m2m.io.modalities import MODALITIES
from m2m.io.volume import Volume, save
from m2m.options import Slices
from m2m.structural import slices

SHAPE = (5, 8, 7)
AFFINE = np.array([[3.0, 0, 0, -7], [0, 3, 0, -10], [0, 0, 3, -9], [0, 0, 0, 1]])


@pytest.mark.parametrize("plane", slices.PLANES)
@pytest.mark.parametrize("shape", [(5, 8, 7), (4, 4, 4), (1, 3, 2)])
def test_assembled_slices_are_the_volume(rng, plane, shape):
    volume = rng.random(shape)
    np.testing.assert_array_equal(slices.assemble(slices.extract(volume, plane), plane), volume)


def test_slices_show_anterior_or_superior_at_the_top_and_left_at_the_left():
    front, top, right = (np.zeros(SHAPE) for _ in range(3))
    front[:, -1], top[:, :, -1], right[-1] = 1, 1, 1
    assert (slices.extract(front, "axial")[:, 0] == 1).all()
    assert (slices.extract(top, "coronal")[:, 0] == 1).all()
    assert (slices.extract(top, "sagittal")[:, 0] == 1).all()
    assert (slices.extract(right, "axial")[:, :, -1] == 1).all()
    assert (slices.extract(right, "coronal")[:, :, -1] == 1).all()
    assert (slices.extract(front, "sagittal")[:, :, -1] == 1).all()


def test_slice_k_of_a_plane_cuts_index_k_of_its_axis(rng):
    volume = rng.random(SHAPE)
    for plane, axis in (("sagittal", 0), ("coronal", 1), ("axial", 2)):
        for k, image in enumerate(slices.extract(volume, plane)):
            assert sorted(image.ravel()) == sorted(np.take(volume, k, axis).ravel())


@pytest.mark.parametrize("plane", slices.PLANES)
def test_positions_are_the_slices_of_the_volume_of_coordinates(rng, plane):
    matrix = np.vstack([rng.normal(size=(3, 4)), [0, 0, 0, 1]])
    voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
    coordinates = apply_affine(matrix, voxels)  # (X, Y, Z, 3)
    expected = np.stack([slices.extract(coordinates[..., i], plane) for i in range(3)], axis=1)
    indices = np.array([2, 0])
    found = slices.positions(matrix, SHAPE, plane, indices)
    np.testing.assert_allclose(found, expected[indices], rtol=1e-5, atol=1e-5)


def test_normalisation_is_invertible_and_does_not_clip(rng):
    volume = rng.normal(500, 200, (20, 20, 20))
    mask = rng.random(volume.shape) > 0.4
    normal, limits = slices.normalise(volume, mask, (5.0, 95.0))
    assert normal[mask].max() > 1.1 and normal[mask].min() < -0.1
    back = slices.denormalise(normal, mask, limits)
    np.testing.assert_allclose(back[mask], volume[mask], rtol=1e-5, atol=1e-3)
    assert (back[~mask] == 0).all() and (normal[~mask] == 0).all()


def test_normalisation_ignores_scale_offset_and_voxels_outside_the_mask(rng):
    volume, mask = rng.random((12, 12, 12)), np.zeros((12, 12, 12), bool)
    mask[3:9, 3:9, 3:9] = True
    normal, limits = slices.normalise(volume, mask, (1.0, 99.0))
    assert limits == pytest.approx(tuple(np.percentile(volume[mask], [1, 99])))
    scaled, _ = slices.normalise(np.where(mask, 250 * volume + 40, 1e6), mask, (1.0, 99.0))
    np.testing.assert_allclose(scaled, normal, atol=1e-5)


@pytest.mark.parametrize("mask", [np.zeros((4, 4, 4)), np.ones((4, 4, 4))])
def test_a_constant_or_maskless_image_is_bad_data(mask):
    with pytest.raises(DataError, match="does not vary"):
        slices.normalise(np.full((4, 4, 4), 3.0), mask, (1.0, 99.0))


@pytest.fixture
def unit(tmp_path, rng):
    """A unit's volumes on the grid, its files, and a function that runs the stage."""
    brain = np.zeros(SHAPE, bool)
    brain[1:-1, 1:-1, 1:-1] = True
    target = brain.copy()
    target[:, :, :3] = False
    volumes = {
        "t1w": np.where(brain, rng.normal(600, 90, SHAPE), 0),
        "brain": brain,
        "fa": np.where(target, rng.random(SHAPE), 0),
        "target-mask": target,
    }
    files = unit_files(tmp_path, "sub-01_ses-1")
    for name, data in volumes.items():
        save(files[name], Volume(np.float32(data), AFFINE))
    write_json(
        files["anat-status"],
        {"status": "ok", "excluded": [], "grid_to_mni": np.eye(4).tolist()},
    )
    write_json(files["grid-status"], {"status": "ok", "excluded": []})
    folder = tmp_path / "slices" / "sub-01" / "ses-1"
    names = {plane: f"{plane}.npy" for plane in slices.PLANES} | {"record": "slices.json"}
    files |= {key: folder / f"sub-01_ses-1_{name}" for key, name in names.items()}

    def call(*maps):
        slices.main(tmp_path, "sub-01", "ses-1", options="{}", maps=list(maps) or None)

    return volumes, files, call


def test_slices_and_record_give_the_volumes_again(unit):
    volumes, files, call = unit
    call()
    record = read_json(files["record"])
    assert record["channels"] == ["t1", "fa", "brain", "target_mask"]
    assert record["status"] == "ok" and record["excluded"] == []
    assert record["spacing_mm"] == 3 and record["shape"] == list(SHAPE)
    assert record["t1_range_percent"] == list(Slices().t1_range_percent)
    np.testing.assert_allclose(record["affine"], AFFINE)
    for plane in slices.PLANES:
        stored = slices.open_slices(files[plane], plane, record["box"], record["shape"])
        assert stored.inside.dtype == np.float16
        array = stored.read(0, stored.shape[0], range(4))
        t1, fa, brain, target = (slices.assemble(array[:, c], plane) for c in range(4))
        np.testing.assert_array_equal(brain, volumes["brain"])
        np.testing.assert_array_equal(target, volumes["target-mask"])
        np.testing.assert_allclose(fa, volumes["fa"], atol=1e-3)
        back = slices.denormalise(t1.astype(float), brain, record["t1_range"])
        np.testing.assert_allclose(back, volumes["t1w"], atol=0.5)


@pytest.mark.parametrize("plane", slices.PLANES)
def test_what_is_0_around_the_brain_is_not_stored_and_read_as_0(tmp_path, plane):
    shape, rng = (30, 26, 34), np.random.default_rng(4)
    volumes = {name: np.zeros(shape) for name in ("a", "b", "nothing")}
    volumes["a"][5:14, 7:19, 9:30] = rng.random((9, 12, 21))
    volumes["b"][12:16, 3:8, 20] = 1
    found = slices.write_slices(volumes, {name: tmp_path / f"{name}.npy" for name in slices.PLANES})
    assert found["box"] == [[5, 16], [3, 19], [9, 30]]
    stored = slices.open_slices(tmp_path / f"{plane}.npy", plane, found["box"], shape)
    assert stored.inside[:, 0].size == 11 * 16 * 21
    for channel, volume in enumerate(volumes.values()):
        whole = slices.extract(volume.astype(np.float16), plane)
        padded = np.pad(whole, ((2, 2), (0, 0), (0, 0)))
        np.testing.assert_array_equal(stored.read(-2, len(whole) + 2, [channel])[:, 0], padded)
        np.testing.assert_array_equal(stored.filled(channel), np.flatnonzero(whole.any(axis=(1, 2))))


def test_slices_that_are_0_everywhere_can_be_read(tmp_path):
    found = slices.write_slices({"a": np.zeros((4, 5, 6))}, {"axial": tmp_path / "axial.npy"})
    stored = slices.open_slices(tmp_path / "axial.npy", "axial", found["box"], (4, 5, 6))
    assert not stored.read(0, 6, [0]).any() and stored.filled(0).size == 0


def test_two_runs_have_one_hash_and_another_image_has_another(unit):
    volumes, files, call = unit
    hashes = []
    for shift in (0, 0, 1):
        data = np.roll(volumes["fa"], shift, 0) * volumes["target-mask"]
        save(files["fa"], Volume(np.float32(data), AFFINE))
        call("fa")
        hashes.append(read_json(files["record"])["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_scales_of_density_and_tensors_are_invertible(unit, rng):
    volumes, files, call = unit
    target = volumes["target-mask"]
    density = np.where(target, rng.gamma(1.0, 8.0, SHAPE), 0)
    root = rng.normal(0, 0.005, (*SHAPE, 3, 3)) + 0.03 * np.eye(3)
    six = np.where(target[..., None], from_matrix(root @ np.swapaxes(root, -1, -2)), 0)
    for name, data in (("tdi", density), ("tensor", six)):
        save(files[name], Volume(np.float32(data), AFFINE))
    call("fa", "tdi", "dti")
    record = read_json(files["record"])
    names = record["channels"]
    assert names[1:3] == ["fa", "tdi"] and names[3:9] == list(MODALITIES["dti"].channels)
    stored = slices.open_slices(files["coronal"], "coronal", record["box"], record["shape"])
    array = stored.read(0, stored.shape[0], range(len(names))).astype(np.float64)
    channels = [slices.assemble(array[:, c], "coronal") for c in range(len(names))]
    np.testing.assert_allclose(density_of_log(channels[2]), density, rtol=0.01, atol=0.01)
    assert channels[2][~target].max() == 0
    scaled = np.stack(channels[3:9], axis=-1)[target]
    found, expected = tensor_of_log(scaled), six[target]
    assert np.linalg.eigvalsh(to_matrix(found)).min() > 0
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=3e-5)


def test_an_excluded_participant_has_the_reason_and_no_slices(unit):
    _, files, call = unit
    write_json(files["grid-status"], {"status": "ok", "excluded": ["mean FA 0.05"]})
    call()
    assert read_json(files["record"])["excluded"] == ["mean FA 0.05"]
    assert all(files[plane].stat().st_size == 0 for plane in slices.PLANES)


def test_the_failure_of_an_earlier_stage_is_reported(unit):
    _, files, call = unit
    finding = {"problem": "has no b0", "file": "x_dwi.nii.gz", "value": "", "remedy": "scan again"}
    write_json(files["grid-status"], {"status": "failed", "stage": "dti", "finding": finding})
    call()
    record = json.loads(files["record"].read_text())
    assert record["status"] == "failed"
    assert record["finding"]["problem"] == "stage dti failed: has no b0"
    assert all(files[plane].stat().st_size == 0 for plane in slices.PLANES)
