"""Masks at one half, everywhere, and one tolerance for the grids of image and mask."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from m2m.io.errors import DataError
from m2m.io.masks import in_mask, supplied_mask
from m2m.io.volume import Volume, resample_inside, same_grid, same_space
from m2m.options import Anat
from m2m.structural import slices
from m2m.structural.anat import prepare
from m2m.structural.template import load_template

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def softened(mask, times=2):
    """A mask blurred over a voxel or two."""
    soft = mask.astype(np.float32)
    for _ in range(times):
        for axis in range(3):
            soft = (np.roll(soft, 1, axis) + 2 * soft + np.roll(soft, -1, axis)) / 4
    return soft


def test_the_brain_of_a_soft_mask_is_that_of_the_binary_one():
    t1, brain = load_template("t1", 4.0), load_template("brain", 4.0)
    mask = brain.data > 0
    soft = softened(mask)
    scalp = np.where((soft > 0) & ~mask, 0.9, t1.data)  # bright where the soft mask is above 0 only
    head = Volume(scalp.astype(np.float32), t1.affine)
    found = prepare(head, Volume(soft, t1.affine), Anat(spacing_mm=5, shape=(40, 48, 40)))
    litres = mask.sum() * 0.064
    assert (soft > 0).sum() * 0.064 > 1.25 * litres  # what it was
    assert found.brain_volume_l == pytest.approx(litres / 1000, rel=0.05)


def test_a_voxel_is_inside_from_one_half():
    np.testing.assert_array_equal(in_mask(np.array([0, 0.49, 0.5, 1, 255])), [False, False, True, True, True])
    np.testing.assert_array_equal(in_mask(np.array([True, False])), [True, False])


@pytest.mark.parametrize("top", [1, 255, 1000])
def test_any_one_value_inside_is_a_mask(top):
    np.testing.assert_array_equal(supplied_mask(np.array([0.0, top, 0])), [False, True, False])


@pytest.mark.parametrize("values", [[0, 1, 2], [0, 50, 100], [-3, 0, 1], [0.0, 0.3], [3, 4, 5]])
def test_what_is_no_mask_is_refused(values):
    with pytest.raises(DataError, match="mask") as caught:
        supplied_mask(np.array(values, float), "brain.nii.gz")
    assert caught.value.file == "brain.nii.gz" and caught.value.value and caught.value.remedy


def test_fractions_below_one_half_are_outside_in_slices_and_resampling():
    data = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    mask = np.full((4, 4, 4), 0.3, np.float32)
    mask[1:3, 1:3, 1:3] = 0.7
    scaled, _ = slices.normalise(data, mask, (0, 100))
    assert (scaled[mask < 0.5] == 0).all() and scaled[mask > 0.5].max() == 1
    _, inside = resample_inside(Volume(data, AFFINE), Volume(mask, AFFINE), AFFINE, (4, 4, 4))
    np.testing.assert_array_equal(inside.data, mask > 0.5)


def rotated(degrees):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    return affine @ AFFINE


@pytest.mark.parametrize(
    "other, same",
    [
        (AFFINE.astype(np.float32), True),
        (AFFINE + np.array([[0, 0, 0, 0.1]] + [[0] * 4] * 3), True),  # a twentieth of a voxel
        (AFFINE + np.array([[0, 0, 0, 1.0]] + [[0] * 4] * 3), False),  # half a voxel
        (rotated(0.01), True),
        (rotated(0.5), False),  # corners of a hundred voxels are more than half a voxel apart
        (AFFINE * 1.005, False),  # as are those of other voxel sizes
    ],
)
def test_grids_are_one_where_their_corners_are_within_a_tenth_of_a_voxel(other, same):
    shape = (100, 100, 100)
    assert same_space(AFFINE, other, shape) == same
    image = np.zeros(shape, np.uint8)
    assert same_grid(Volume(image, AFFINE), Volume(image, other)) == same
