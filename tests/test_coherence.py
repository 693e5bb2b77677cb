"""Fibres follow one another only if the axes of their directions are right."""

import numpy as np
import pytest

from m2m.diffusion import dti, dwi
from m2m.diffusion.coherence import GIVEN, SIGNS, joined, reversed_axis
from m2m.options import Dti

STEPS = np.diag([2.0, 2.0, 2.5])


def tubes(shape=(40, 40, 40)):
    """Thin straight tubes along the voxels' diagonal: directions in mm, and FA."""
    x, y, z = np.indices(shape)
    fa = np.where((np.abs(x - y) % 10 < 2) & (np.abs(y - z) % 10 < 2), 0.7, 0.1)
    direction = STEPS.sum(axis=1) / np.linalg.norm(STEPS.sum(axis=1))
    return np.broadcast_to(direction, (*shape, 3)), fa


@pytest.mark.parametrize("axis", SIGNS)
def test_the_reversed_axis_is_named(axis):
    direction, fa = tubes()
    count = joined(direction * SIGNS[axis], fa, STEPS)
    assert reversed_axis(count) == (None if axis == GIVEN else axis)


def test_an_image_stored_the_other_way_joins_the_same_neighbours():
    direction, fa = tubes()
    stored = joined(direction[::-1], fa[::-1], STEPS * [-1, 1, 1])
    assert stored == pytest.approx(joined(direction, fa, STEPS))


@pytest.mark.parametrize("fa", [0.1, 0.7])
def test_noise_or_no_fibres_accuse_nobody(fa, rng):
    direction = rng.normal(size=(20, 20, 20, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    assert reversed_axis(joined(direction, np.full((20, 20, 20), fa), np.eye(3))) is None


def test_a_pair_is_counted_once_with_its_strength():
    fa, direction = np.zeros((3, 3, 3)), np.zeros((3, 3, 3, 3))
    direction[..., 0] = 1
    fa[0, 1, 1], fa[1, 1, 1], fa[1, 2, 1] = 0.9, 0.4, 0.4
    assert joined(direction, fa, np.eye(3))[GIVEN] == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["sub-UIB/dwi/sub-UIB_dir-AP_dwi", "sub-DEC/dwi/sub-DEC_dwi"])
def test_real_series_fit_as_they_are_and_no_reversal_does(shared_data, name):
    stem = shared_data / "bids" / name
    series = dwi.load(*(f"{stem}{suffix}" for suffix in (".nii.gz", ".bval", ".bvec")))
    weighted = series.bvals > Dti().b0_threshold_s_per_mm2
    data, affine = series.volume.data, series.volume.affine
    mask = dwi.brain_mask(dwi.mean_b0(series).data, data[..., weighted].mean(-1), affine, 3, 2)
    maps = dti.fit_tensor(data, series.bvals * weighted, series.bvecs, mask, "OLS")
    axes = dwi.fsl_axes(affine)
    for axis, signs in SIGNS.items():
        count = joined(maps.v1 @ axes * signs, maps.fa, axes.T @ affine[:3, :3])
        assert reversed_axis(count) == (None if axis == GIVEN else axis)
