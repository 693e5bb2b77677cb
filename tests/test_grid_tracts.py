"""Tensors and streamlines on the common grid: directions, counts, and bad data."""

import numpy as np
import pytest
from nibabel.affines import apply_affine
from nibabel.streamlines import ArraySequence
from scipy.spatial.transform import Rotation

from m2m.diffusion.tensors import from_matrix, measures
from m2m.io.errors import DataError
from m2m.io.volume import Volume
from m2m.structural import coregistration
from m2m.structural.register import Registration

SHAPE = (20, 22, 18)
T1_AFFINE = np.array([[3.0, 0, 0, -30], [0, 3, 0, -33], [0, 0, 3, -27], [0, 0, 0, 1]])
# Stored leftwards, with other voxels and another origin; the head moved between the scans.
DWI_AFFINE = np.array([[-2.5, 0, 0, 36], [0, 2.5, 0, -38], [0, 0, 2.5, -34], [0, 0, 0, 1]])
DWI_SHAPE = (30, 32, 28)
T1_TO_DWI = np.eye(4)
T1_TO_DWI[:3, :3] = Rotation.from_euler("xyz", (10, -15, 25), degrees=True).as_matrix()
T1_TO_DWI[:3, 3] = (2, -1, 3)


@pytest.fixture
def resampled():
    target = np.zeros(SHAPE, bool)
    target[6:14, 7:15, 6:12] = True
    fa = Volume(np.where(target, 0.5, 0).astype(np.float32), T1_AFFINE)
    registration = Registration(T1_TO_DWI, 0.1, 0.2, "registered")
    return coregistration.Resampled(fa, Volume(target, T1_AFFINE), registration)


def test_tensors_are_rotated_to_the_t1(resampled):
    along_t1 = np.array([0.6, 0.0, 0.8])
    along_dwi = T1_TO_DWI[:3, :3] @ along_t1
    tensor = from_matrix(3e-4 * np.eye(3) + 1.2e-3 * np.outer(along_dwi, along_dwi))
    field = np.broadcast_to(tensor, (*DWI_SHAPE, 6)).astype(np.float32)
    mask = Volume(np.ones(DWI_SHAPE), DWI_AFFINE)
    found = coregistration.resample_tensor(Volume(field, DWI_AFFINE), mask, resampled).data
    inside = resampled.target.data
    assert not found[~inside].any()
    fa, md, v1 = measures(found[inside])
    assert np.abs(v1 @ along_t1).min() > 1 - 1e-5
    assert np.allclose(md, 7e-4, rtol=1e-3) and np.ptp(fa) < 1e-3


def test_a_voxel_without_a_fit_is_isotropic(resampled):
    field = np.zeros((*DWI_SHAPE, 6), np.float32)
    mask = Volume(np.ones(DWI_SHAPE), DWI_AFFINE)
    found = coregistration.resample_tensor(Volume(field, DWI_AFFINE), mask, resampled).data
    fa, md, _ = measures(found[resampled.target.data])
    assert fa.max() < 1e-3 and np.allclose(md, 0.7e-3, rtol=1e-3)


def line(*ends, n=40):
    """A straight streamline through voxels of the common grid, in DWI world mm."""
    voxels = np.linspace(*np.asarray(ends, float), n)
    return apply_affine(T1_TO_DWI @ T1_AFFINE, voxels).astype(np.float32)


@pytest.mark.parametrize("method", ["dipy", "tckmap"])
def test_streamlines_are_counted_at_their_position_in_the_t1(resampled, method, needs_tool):
    if method == "tckmap":
        needs_tool("tckmap")
    streamlines = ArraySequence([line((2, 10, 8), (18, 10, 8)), line((9, 10, 8), (9, 10, 16))])
    tdi, count = coregistration.resample_density(streamlines, 4, 2 * 27.0, resampled, method)
    expected = np.zeros(SHAPE, int)
    expected[6:14, 10, 8] += 1
    expected[9, 10, 8:12] += 1
    np.testing.assert_array_equal(count.data, expected)
    # Four seeds in the volume of two voxels: two for each voxel.
    np.testing.assert_allclose(tdi.data, expected / 2)


def test_streamlines_outside_the_brain_are_bad_data(resampled):
    with pytest.raises(DataError, match="no streamline crosses the brain"):
        coregistration.resample_density(ArraySequence([line((0, 0, 0), (4, 0, 0))]), 1, 27.0, resampled, "dipy")


def test_a_missing_tckmap_is_bad_data_and_named(resampled, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DataError, match="tckmap is not on PATH"):
        coregistration.resample_density(ArraySequence([line((2, 10, 8), (18, 10, 8))]), 1, 27.0, resampled, "tckmap")
