"""Low resolution is the centre of k-space and keeps the scale; maps on other grids are refused by name."""

import numpy as np
import pytest
from nibabel.affines import apply_affine

from m2m.diffusion.lowres import crop_kspace, enlarge, low_res_grid
from m2m.io.errors import DataError
from m2m.io.volume import Volume

AFFINE = np.array([[-3.0, 0, 0, 40], [0, 3, 0, -50], [0, 0, 3, -30], [0, 0, 0, 1]])
SHAPE = (16, 24, 12)


def waves(affine, shape, cycles):
    """Cosine waves with a number of cycles over the full grid along each axis."""
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    voxels = apply_affine(np.linalg.inv(AFFINE), points)
    parts = [np.cos(2 * np.pi * n * voxels[..., i] / SHAPE[i] + i) for i, n in enumerate(cycles)]
    return (0.5 + 0.1 * sum(parts)).astype(np.float32)


def hill(affine, shape):
    """Smooth waves that are 0 at the edges of the full grid, as a brain is."""
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    position = (apply_affine(np.linalg.inv(AFFINE), points) + 0.5) / SHAPE
    window = np.where((position > 0) & (position < 1), np.sin(np.pi * position) ** 2, 0).prod(-1)
    return (waves(affine, shape, (1, 1, 0)) * window).astype(np.float32)


def rotation_about_z(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@pytest.mark.parametrize("factor", [2, 4])
def test_low_frequencies_are_kept_at_the_centres_of_the_blocks(factor):
    low = crop_kspace(Volume(waves(AFFINE, SHAPE, (1, 2, 1)), AFFINE), factor)
    affine, shape = low_res_grid(AFFINE, SHAPE, factor)
    assert low.shape == shape == tuple(n // factor for n in SHAPE)
    np.testing.assert_allclose(low.affine, affine)
    np.testing.assert_allclose(low.data, waves(affine, shape, (1, 2, 1)), atol=1e-5)


def test_high_frequencies_are_removed_and_the_scale_is_kept():
    image = waves(AFFINE, SHAPE, (6, 9, 5))
    low = crop_kspace(Volume(image, AFFINE), 4)
    np.testing.assert_allclose(low.data, 0.5, atol=1e-5)
    assert low.data.mean() == pytest.approx(image.mean(), abs=1e-5)


def test_all_volumes_of_a_series_are_cropped_alike():
    image = waves(AFFINE, SHAPE, (1, 1, 1))
    series = crop_kspace(Volume(np.stack([image, 2 * image], -1), AFFINE), 2)
    np.testing.assert_allclose(series.data[..., 1], 2 * series.data[..., 0], rtol=1e-4)


def test_the_blocks_of_a_grid_cover_the_same_space():
    affine, shape = low_res_grid(AFFINE, (15, 24, 12), 4)
    assert shape == (4, 6, 3)
    corner = apply_affine(AFFINE, [-0.5, -0.5, -0.5])
    np.testing.assert_allclose(apply_affine(affine, [-0.5, -0.5, -0.5]), corner)


def test_an_enlarged_smooth_map_is_the_original():
    image = hill(AFFINE, SHAPE)
    like = Volume(image, AFFINE)
    back = enlarge(crop_kspace(like, 2), like, 2)
    assert image.max() > 0.3
    np.testing.assert_allclose(back.data, image, atol=0.02)
    np.testing.assert_allclose(back.affine, AFFINE)


def test_a_low_resolution_of_another_factor_or_grid_is_refused_with_both_grids():
    like = Volume(waves(AFFINE, SHAPE, (1, 1, 1)), AFFINE)
    low = crop_kspace(like, 4)
    with pytest.raises(DataError) as caught:
        enlarge(low, like, 2)
    text = str(caught.value)
    assert "factor of 2" in text and "4 times those of the common grid" in text
    assert "8 x 12 x 6 voxels of 6 x 6 x 6 mm" in text  # wanted
    assert "4 x 6 x 3 voxels of 12 x 12 x 12 mm" in text  # found
    mirrored = Volume(low.data[::-1], low.affine @ np.diag([-1, 1, 1, 1]))
    with pytest.raises(DataError, match=r"is not on the low-resolution grid .* 180\.0 deg") as caught:
        enlarge(mirrored, like, 4)
    text = str(caught.value)
    assert "mm along LAS, the first at (35.5, -45.5, -25.5) mm" in text  # wanted
    assert "mm along RAS, the first at" in text  # found
    oblique = Volume(low.data, low.affine.copy())
    oblique.affine[:3, :3] = rotation_about_z(5) @ oblique.affine[:3, :3]
    with pytest.raises(DataError, match=r"4 times those .* rotated by 5\.0 degrees"):
        enlarge(oblique, like, 4)


def test_a_shift_beyond_a_voxel_is_refused_and_a_smaller_one_is_corrected():
    image = hill(AFFINE, SHAPE)
    like = Volume(image, AFFINE)
    far = crop_kspace(like, 2)
    far.affine[:3, 3] += (0, 7, 0)
    with pytest.raises(DataError, match=r"shifted by 7\.0 mm, more than a voxel") as caught:
        enlarge(far, like, 2)
    assert "the first at (38.5, -48.5, -28.5)" in str(caught.value)  # wanted
    assert "the first at (38.5, -41.5, -28.5)" in str(caught.value)  # found
    shift = np.eye(4)
    shift[1, 3] = 3
    near = crop_kspace(Volume(hill(shift @ AFFINE, SHAPE), shift @ AFFINE), 2)
    np.testing.assert_allclose(enlarge(near, like, 2).data, image, atol=0.02)
