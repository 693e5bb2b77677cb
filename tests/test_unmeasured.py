"""Samples that motion correction filled with zeros are not measured: the fit leaves them out."""

import numpy as np
import pytest
from cohort_tree import add_dwi, dataset, index_and_validate
from scipy.spatial.transform import Rotation

from m2m.diffusion import dti
from m2m.diffusion.unmeasured import completed, mean_of_measured, unmeasured_samples

EIGENVALUES = np.array([1.6, 0.5, 0.3]) * 1e-3
N = 34


@pytest.fixture
def series(rng):
    """Signals of one tensor, b-values and directions; the uppermost slices of some volumes are to be filled."""
    bvecs = rng.normal(size=(N, 3))
    bvecs /= np.linalg.norm(bvecs, axis=1)[:, None]
    bvecs[:2] = 0
    bvals = np.r_[0, 0, np.full(N - 2, 1000.0)]
    axes = Rotation.random(random_state=1).as_matrix()
    tensor = axes @ np.diag(EIGENVALUES) @ axes.T
    signal = 400 * np.exp(-bvals * np.einsum("ni,ij,nj->n", bvecs, tensor, bvecs))
    return np.tile(signal, (6, 7, 8, 1)), bvals, bvecs


def fit(data, bvals, bvecs, method="WLS"):
    lost = unmeasured_samples(data)
    return dti.fit_tensor(data, bvals, bvecs, np.ones(data.shape[:3], bool), method, lost)


@pytest.mark.parametrize("method", ["OLS", "WLS", "NLLS", "RESTORE"])
def test_the_tensor_of_a_filled_edge_is_that_of_the_measured_samples(series, method):
    data, bvals, bvecs = series
    whole = fit(data, bvals, bvecs, "WLS")
    cut = data.copy()
    cut[:, :, 6:, [5, 11, 23]] = 0
    maps = fit(cut, bvals, bvecs, method)
    np.testing.assert_allclose(maps.fa, whole.fa, atol=2e-3)
    np.testing.assert_allclose(maps.md, whole.md, rtol=2e-3)
    assert maps.n_partly_measured == 6 * 7 * 3  # a rim of one voxel is left out as well
    assert (maps.n_without_signal, maps.n_raised) == (0, 0)
    # As it was: zeros are fitted as full attenuation.
    naive = dti.fit_tensor(cut, bvals, bvecs, np.ones(data.shape[:3], bool), "WLS")
    assert np.abs(naive.fa - whole.fa)[:, :, 7].min() > 0.1


def test_a_voxel_with_too_few_measured_samples_or_no_signal_is_not_in_the_mask(series):
    data, bvals, bvecs = series
    data[:, :, 7, 2:20] = 0  # more than half of the directions
    data[:, :, 0] = 0  # beyond the signal
    maps = fit(data, bvals, bvecs)
    assert maps.n_without_signal == 2 * 6 * 7
    assert maps.fitted[:, :, 1:7].all() and not maps.fitted[:, :, [0, 7]].any()
    assert (maps.fa[~maps.fitted] == 0).all()


def test_a_measured_zero_inside_the_brain_is_a_sample(series):
    data, *_ = series
    data[3, 3, 3, 9] = 0
    assert not unmeasured_samples(data).any()


def test_background_that_is_zero_in_every_volume_has_no_rim(series):
    data, *_ = series
    data[:2] = 0
    assert not unmeasured_samples(data).any()


def test_means_and_completed_series_are_of_measured_samples(series):
    data, bvals, bvecs = series
    cut = data.copy()
    cut[:, :, 7, [0, 9]] = 0
    lost = unmeasured_samples(cut)
    np.testing.assert_allclose(mean_of_measured(cut[..., :2], lost[..., :2]), data[..., 1])
    tensor = fit(cut, bvals, bvecs).tensor
    np.testing.assert_allclose(completed(cut, bvals, bvecs, tensor, lost), data, rtol=1e-3)


@pytest.mark.parametrize(("entities", "usable"), [("_desc-preproc", True), ("", False)])
def test_an_empty_edge_slice_of_some_volumes_is_usable_in_a_preprocessed_series(tmp_path, entities, usable):
    root = dataset(tmp_path / "ds")
    data = np.random.default_rng(0).integers(1, 1000, (4, 5, 6, 7))
    data[:, :, -1, [2, 5]] = 0
    add_dwi(root, "sub-01", entities=entities, data=data)
    add_dwi(root, "sub-02", entities=entities)
    units, findings = index_and_validate(root, tmp_path)
    found = [f for f in findings if "slices" in f["problem"]]
    assert units["sub-01"]["state"] == ("dwi-only" if usable else "failed")
    assert [f["severity"] for f in found] == ["note" if usable else "error"]
    assert found[0]["value"] == "slices 5 (1 of 6) along axis 2 of volumes 2, 5 (2 of 7)"


def test_a_slice_between_others_is_missing_in_a_preprocessed_series_too(tmp_path):
    root = dataset(tmp_path / "ds")
    data = np.random.default_rng(0).integers(1, 1000, (4, 5, 6, 7))
    data[:, :, 2, 4] = 0
    add_dwi(root, "sub-01", entities="_desc-preproc", data=data)
    add_dwi(root, "sub-02")
    units, findings = index_and_validate(root, tmp_path)
    assert units["sub-01"]["state"] == "failed"
    assert any("slices are missing" in f["problem"] for f in findings)
