"""Fibres of neighbouring voxels align only if the axes of the directions are right."""

import numpy as np
import pytest

from m2m.diffusion import dti, dwi
from m2m.diffusion.coherence import GIVEN, ORDERS, better_axes, count_aligned_neighbours
from m2m.diffusion.gradient_tables import fsl_axes
from m2m.options import Dti

STEPS = np.diag([2.0, 2.0, 2.5])


def tubes(shape=(40, 40, 40)):
    """Thin straight tubes in two directions: directions in mm, and FA."""
    along = STEPS @ [1, 1, 0] / np.linalg.norm(STEPS @ [1, 1, 0])
    x, y, z = np.indices(shape)
    # Two families, of which no order or sign of the axes but the right one fits both.
    first = (np.abs(x - y) % 10 < 1) & (z % 4 < 1)
    second = (np.abs(y + z) % 10 < 1) & (x % 4 == 2)
    other = STEPS @ [0, 1, -1] / np.linalg.norm(STEPS @ [0, 1, -1])
    return np.where(first[..., None], along, other), np.where(first | second, 0.7, 0.1)


def test_axial_directions_have_24_orders_and_signs():
    products = [np.kron(matrix, matrix) for matrix in ORDERS.values()]
    assert len(ORDERS) == 24 and next(iter(ORDERS)) == GIVEN
    assert all(not np.allclose(a, b) for i, a in enumerate(products) for b in products[:i])


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_and_the_signs_that_correct_the_table_are_named(name):
    direction, fa = tubes()
    count = count_aligned_neighbours(direction @ ORDERS[name], fa, STEPS)
    found = better_axes(count)
    assert found == (None if name == GIVEN else name)
    # What is named corrects the table: its rows, in that order and with these signs.
    corrected = direction @ ORDERS[name] @ ORDERS[found or GIVEN].T
    np.testing.assert_allclose(corrected, direction)


def test_the_count_does_not_depend_on_how_the_image_is_stored():
    direction, fa = tubes()
    stored = count_aligned_neighbours(direction[::-1], fa[::-1], STEPS * [-1, 1, 1])
    assert stored == pytest.approx(count_aligned_neighbours(direction, fa, STEPS))


@pytest.mark.parametrize("fa", [0.1, 0.7])
def test_noise_or_an_image_without_fibres_is_no_finding(fa, rng):
    direction = rng.normal(size=(20, 20, 20, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    assert better_axes(count_aligned_neighbours(direction, np.full((20, 20, 20), fa), np.eye(3))) is None


def test_a_pair_is_counted_once_and_weighted_by_its_mean_fa():
    fa, direction = np.zeros((3, 3, 3)), np.zeros((3, 3, 3, 3))
    direction[..., 0] = 1
    fa[0, 1, 1], fa[1, 1, 1], fa[1, 2, 1] = 0.9, 0.4, 0.4
    assert count_aligned_neighbours(direction, fa, np.eye(3))[GIVEN] == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["sub-UIB/dwi/sub-UIB_dir-AP_dwi", "sub-DEC/dwi/sub-DEC_dwi"])
def test_real_series_have_the_right_axes_and_each_other_order_is_found(shared_data, name):
    stem = shared_data / "bids" / name
    series = dwi.load(*(f"{stem}{suffix}" for suffix in (".nii.gz", ".bval", ".bvec")))
    weighted = series.bvals > Dti().b0_threshold_s_per_mm2
    data, affine = series.volume.data, series.volume.affine
    mask = dwi.brain_mask(dwi.mean_b0(series).data, data[..., weighted].mean(-1), affine, 3, 2)
    maps = dti.fit_tensor(data, series.bvals * weighted, series.bvecs, mask, "OLS")
    axes = fsl_axes(affine)
    steps = axes.T @ affine[:3, :3]
    for name, matrix in ORDERS.items():
        count = count_aligned_neighbours(maps.v1 @ axes @ matrix, maps.fa, steps)
        assert better_axes(count) == (None if name == GIVEN else name)
