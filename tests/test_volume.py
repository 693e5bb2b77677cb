"""Volumes on disk and on grids: known coordinates, round trips, bad files."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import m2m
from m2m.io.errors import DataError
from m2m.io.files import read_json
from m2m.io.volume import (
    Volume,
    blur_to,
    coarsen,
    crop,
    isotropic_grid,
    load,
    require_same_grid,
    resample,
    resample_inside,
    save,
    to_ras,
)


def oblique(spacing=(2.0, 2.5, 3.0), degrees=20.0):
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", [degrees, -degrees / 2, degrees / 3], degrees=True)
    affine[:3, :3] = rotation.as_matrix() * spacing
    affine[:3, 3] = (-30, 12, 7)
    return affine


@pytest.fixture
def blobs():
    data = np.random.default_rng(1).random((9, 10, 11)).astype(np.float32)
    return Volume(data, oblique())


def world(volume):
    """World coordinates of every voxel, shape (X, Y, Z, 3)."""
    points = np.moveaxis(np.indices(volume.shape), 0, -1)
    return nib.affines.apply_affine(volume.affine, points)


def test_save_and_load_keep_data_and_affine(blobs, tmp_path):
    save(tmp_path / "a.nii.gz", blobs, sources=["x.nii.gz"], Description="noise")
    again = load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(again.data, blobs.data)
    np.testing.assert_allclose(again.affine, blobs.affine, atol=1e-5)
    assert '"Description": "noise"' in (tmp_path / "a.json").read_text()


def test_a_sidecar_names_the_program_and_its_version_as_bids_has_it(blobs, tmp_path):
    save(tmp_path / "a.nii.gz", blobs, Description="blobs")
    written = read_json(tmp_path / "a.json")
    assert written["GeneratedBy"] == [{"Name": "m2m", "Version": m2m.__version__}]
    assert written["Description"] == "blobs"


def test_boolean_masks_survive_a_round_trip(blobs, tmp_path):
    mask = Volume(blobs.data > 0.5, blobs.affine)
    save(tmp_path / "m.nii.gz", mask, dtype=np.uint8)
    np.testing.assert_array_equal(load(tmp_path / "m.nii.gz").data > 0, mask.data)
    np.testing.assert_array_equal(to_ras(mask).data, mask.data)


def test_the_same_volume_gives_the_same_bytes(blobs, tmp_path):
    save(tmp_path / "a.nii.gz", blobs)
    save(tmp_path / "b.nii.gz", blobs)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_map_with_nan_is_refused_and_leaves_no_file(blobs, tmp_path):
    blobs.data[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"a\.nii\.gz"):
        save(tmp_path / "a.nii.gz", blobs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "garbled", "nan", "singular"])
def test_a_bad_file_is_named(blobs, tmp_path, damage):
    path = tmp_path / "bad.nii.gz"
    image = nib.Nifti1Image(blobs.data, blobs.affine)
    if damage == "nan":
        image = nib.Nifti1Image(np.full((3, 3, 3), np.nan, np.float32), np.eye(4))
    if damage != "missing":
        nib.save(image, path)
    content = path.read_bytes() if path.exists() else b""
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    if damage == "garbled":
        path.write_bytes(content[:200] + bytes(200) + content[400:])
    if damage == "singular":
        plain = bytearray(gzip.decompress(content))
        plain[280:296] = plain[296:312]  # the first row of the affine becomes the second
        path.write_bytes(gzip.compress(bytes(plain)))
    with pytest.raises(DataError, match=r"bad\.nii\.gz"):
        load(path)


def test_resampling_to_the_same_grid_is_the_identity(blobs):
    for order in (0, 1, 3):
        same = resample(blobs, blobs.affine, blobs.shape, order=order)
        np.testing.assert_array_equal(same.data, blobs.data)


@pytest.mark.parametrize("order", [0, 1])
def test_a_flipped_and_rotated_copy_resampled_back_is_the_original(blobs, order):
    # Axes permuted and two of them reversed; the affine has the same change, so world coordinates stay.
    permuted = np.flip(np.transpose(blobs.data, (2, 0, 1)), (0, 2))
    index = np.zeros((4, 4))
    index[[2, 0, 1, 3], [0, 1, 2, 3]] = (-1, 1, -1, 1)
    index[2, 3], index[1, 3] = permuted.shape[0] - 1, permuted.shape[2] - 1
    copy = Volume(permuted, blobs.affine @ index)
    back = resample(copy, blobs.affine, blobs.shape, order=order)
    np.testing.assert_allclose(back.data, blobs.data, atol=1e-5)


def test_edge_voxels_survive_rounding_of_the_affine(blobs):
    nearly = blobs.affine.copy()
    nearly[:3, 3] -= 1e-4
    back = resample(blobs, nearly, blobs.shape)
    np.testing.assert_allclose(back.data, blobs.data, atol=1e-3)


def test_a_ramp_in_world_millimetres_stays_one_on_any_grid():
    fine = Volume(np.zeros((30, 28, 26)), oblique((2, 2, 2)))
    ramp = Volume(world(fine)[..., 0], fine.affine)
    centre = world(fine).reshape(-1, 3).mean(0)
    affine, shape = isotropic_grid(ramp, 3.1, (9, 8, 7), centre)
    coarse = resample(ramp, affine, shape)
    np.testing.assert_allclose(coarse.data, world(coarse)[..., 0], atol=1e-4)


def test_a_transform_and_a_displacement_of_the_same_shift_agree(blobs):
    shift = np.eye(4)
    shift[:3, 3] = (1.3, -2.1, 0.7)
    by_transform = resample(blobs, blobs.affine, blobs.shape, shift)
    everywhere = np.broadcast_to(shift[:3, 3], (*blobs.shape, 3))
    by_field = resample(blobs, blobs.affine, blobs.shape, displacement=everywhere)
    np.testing.assert_allclose(by_field.data, by_transform.data, atol=1e-5)
    assert np.abs(by_field.data - blobs.data).max() > 0.1


def test_to_ras_keeps_the_coordinates_of_every_voxel(blobs):
    rotated = Volume(blobs.data, blobs.affine @ np.array([[0, 0, -1, 8], [-1, 0, 0, 9], [0, 1, 0, 0], [0, 0, 0, 1.0]]))
    ras = to_ras(rotated)
    assert nib.aff2axcodes(ras.affine) == ("R", "A", "S")
    want = dict(zip(rotated.data.ravel(), world(rotated).reshape(-1, 3), strict=True))
    for value, point in zip(ras.data.ravel()[::97], world(ras).reshape(-1, 3)[::97], strict=True):
        np.testing.assert_allclose(point, want[value], atol=1e-6)


def test_an_isotropic_grid_is_orthogonal_and_centred_even_for_a_sheared_affine():
    sheared = oblique()
    sheared[:3, 1] += 0.2 * sheared[:3, 0]
    affine, shape = isotropic_grid(Volume(np.zeros((4, 4, 4)), sheared), 2.0, (5, 6, 7), [1, 2, 3])
    np.testing.assert_allclose(affine[:3, :3].T @ affine[:3, :3], 4 * np.eye(3), atol=1e-9)
    np.testing.assert_allclose(nib.affines.apply_affine(affine, [2, 2.5, 3]), [1, 2, 3])
    assert shape == (5, 6, 7)


def test_blurring_to_a_coarser_grid_adds_the_missing_width():
    point = Volume(np.zeros((41, 41, 41)), np.diag([1.0, 1.0, 4.0, 1]))
    point.data[20, 20, 20] = 1
    blurred = blur_to(point, 4.0).data
    sigma_mm = np.sqrt((blurred.sum((1, 2)) * (np.arange(41) - 20) ** 2).sum() / blurred.sum())
    assert sigma_mm == pytest.approx(np.sqrt(15) / 2.3548, rel=0.03)
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert blurred[:, :, 20].sum() == pytest.approx(1, abs=1e-5)  # already 4 mm along z


def test_resampling_inside_a_mask_never_uses_voxels_outside():
    affine = np.diag([1.0, 1.0, 1.0, 1])
    inside = np.zeros((24, 24, 24), bool)
    inside[5:18, 5:18, 5:18] = True
    volume = Volume(np.where(inside, 7.0, -1000.0), affine)
    grid, shape = isotropic_grid(volume, 2.5, (9, 9, 9), [11, 11, 11])
    resampled, mask = resample_inside(volume, Volume(inside, affine), grid, shape)
    np.testing.assert_allclose(resampled.data[mask.data], 7, atol=1e-5)
    assert (resampled.data[~mask.data] == 0).all()
    litres = mask.data.sum() * 2.5**3
    assert litres == pytest.approx(13**3, rel=0.25)


def test_cropping_and_coarsening_keep_the_coordinates(blobs):
    ramp = Volume(world(blobs)[..., 2].astype(np.float32), blobs.affine)
    part = crop(ramp, world(blobs)[3:6, 4:7, 5:7].reshape(-1, 3), 0.1)
    assert part.data.size < ramp.data.size
    np.testing.assert_allclose(part.data, world(part)[..., 2], atol=1e-4)
    coarse = coarsen(Volume(ramp.data, ramp.affine), 4.0)
    middle = (slice(2, -2),) * 3
    np.testing.assert_allclose(coarse.data[middle], world(coarse)[..., 2][middle], atol=0.6)


def test_volumes_on_two_grids_cannot_be_combined(blobs):
    other = Volume(blobs.data, np.eye(4))
    require_same_grid(blobs, blobs, "twice the same")
    with pytest.raises(ValueError, match="T1 and mask: grids differ"):
        require_same_grid(blobs, other, "T1 and mask")


def test_no_text_of_the_input_reaches_the_output(blobs, tmp_path):
    image = nib.Nifti1Image(blobs.data, blobs.affine)
    image.header["descrip"] = b"JOHN DOE"
    nib.save(image, tmp_path / "in.nii.gz")
    save(tmp_path / "out.nii.gz", load(tmp_path / "in.nii.gz"))
    assert b"JOHN DOE" not in gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
