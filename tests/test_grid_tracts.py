"""Tensors and streamlines meet the common grid: directions, counts, and what is refused."""

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
# Stored leftwards, other voxels, another place: the head moved between the scans.
DWI_AFFINE = np.array([[-2.5, 0, 0, 36], [0, 2.5, 0, -38], [0, 0, 2.5, -34], [0, 0, 0, 1]])
DWI_SHAPE = (30, 32, 28)
MOVED = np.eye(4)
MOVED[:3, :3] = Rotation.from_euler("xyz", (10, -15, 25), degrees=True).as_matrix()
MOVED[:3, 3] = (2, -1, 3)


@pytest.fixture
def carried():
    target = np.zeros(SHAPE, bool)
    target[6:14, 7:15, 6:12] = True
    fa = Volume(np.where(target, 0.5, 0).astype(np.float32), T1_AFFINE)
    registration = Registration(MOVED, 0.1, 0.2, "registered")
    return coregistration.Carried(fa, Volume(target, T1_AFFINE), registration)


def test_a_tensor_points_where_the_tissue_points_in_the_t1(carried):
    along_t1 = np.array([0.6, 0.0, 0.8])
    along_dwi = MOVED[:3, :3] @ along_t1
    tensor = from_matrix(3e-4 * np.eye(3) + 1.2e-3 * np.outer(along_dwi, along_dwi))
    field = np.broadcast_to(tensor, (*DWI_SHAPE, 6)).astype(np.float32)
    mask = Volume(np.ones(DWI_SHAPE), DWI_AFFINE)
    found = coregistration.carry_tensor(Volume(field, DWI_AFFINE), mask, carried).data
    inside = carried.target.data
    assert not found[~inside].any()
    fa, md, v1 = measures(found[inside])
    assert np.abs(v1 @ along_t1).min() > 1 - 1e-5
    assert np.allclose(md, 7e-4, rtol=1e-3) and np.ptp(fa) < 1e-3


def test_a_voxel_without_a_fit_is_isotropic_and_no_hole(carried):
    field = np.zeros((*DWI_SHAPE, 6), np.float32)
    mask = Volume(np.ones(DWI_SHAPE), DWI_AFFINE)
    found = coregistration.carry_tensor(Volume(field, DWI_AFFINE), mask, carried).data
    fa, md, _ = measures(found[carried.target.data])
    assert fa.max() < 1e-3 and np.allclose(md, 0.7e-3, rtol=1e-3)


def line(*ends, n=40):
    """A straight streamline through voxels of the common grid, in DWI world mm."""
    voxels = np.linspace(*np.asarray(ends, float), n)
    return apply_affine(MOVED @ T1_AFFINE, voxels).astype(np.float32)


@pytest.mark.parametrize("method", ["dipy", "tckmap"])
def test_streamlines_are_counted_where_they_lie_in_the_t1(carried, method, needs_tool):
    if method == "tckmap":
        needs_tool("tckmap")
    streamlines = ArraySequence([line((2, 10, 8), (18, 10, 8)), line((9, 10, 8), (9, 10, 16))])
    tdi, count = coregistration.carry_density(streamlines, 4, 2 * 27.0, carried, method)
    expected = np.zeros(SHAPE, int)
    expected[6:14, 10, 8] += 1
    expected[9, 10, 8:12] += 1
    np.testing.assert_array_equal(count.data, expected)
    # Four seeds in the volume of two voxels: two for each voxel.
    np.testing.assert_allclose(tdi.data, expected / 2)


def test_streamlines_beside_the_brain_are_bad_data(carried):
    with pytest.raises(DataError, match="no streamline meets the brain"):
        coregistration.carry_density(
            ArraySequence([line((0, 0, 0), (4, 0, 0))]), 1, 27.0, carried, "dipy"
        )


def test_a_tckmap_that_is_not_there_is_bad_data_that_says_so(carried, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DataError, match="tckmap is not on PATH"):
        coregistration.carry_density(
            ArraySequence([line((2, 10, 8), (18, 10, 8))]), 1, 27.0, carried, "tckmap"
        )
