"""Series that differ by shell only become one: the same signal, directions and b-values as measured at once."""

import json

import nibabel as nib
import numpy as np
import pytest
from cohort_tree import SIX

from m2m.diffusion import dwi, join_series
from m2m.diffusion.gradient_tables import fsl_axes
from m2m.io.bids import files_of
from m2m.io.files import read_json

AFFINES = [np.diag([s * 3.0, 3.0, 3.0, 1.0]) for s in (-1, 1)]


def write(folder, name, b, vectors, gain=1.0, affine=AFFINES[0], shape=(8, 9, 7)):
    """A series of one tensor in every voxel; vectors in world axes."""
    bvals = np.r_[0, np.full(len(vectors), b)]
    directions = np.vstack([np.zeros(3), vectors])
    signal = 800 * gain * np.exp(-bvals * (directions**2 @ [1.7e-3, 0.3e-3, 0.2e-3]))
    tissue = np.zeros(shape)
    tissue[2:6, 2:7, 1:6] = np.random.default_rng(0).uniform(0.8, 1.2, (4, 5, 5))
    image = nib.Nifti1Image((tissue[..., None] * signal).astype(np.float32), affine)
    image.set_sform(affine, 1)
    nib.save(image, folder / f"{name}.nii.gz")
    np.savetxt(folder / f"{name}.bval", bvals[None], fmt="%g")
    np.savetxt(folder / f"{name}.bvec", (directions @ fsl_axes(affine)).T, fmt="%.6f")
    return [folder / f"{name}.{suffix}" for suffix in ("nii.gz", "bval", "bvec")]


def joined(root, *series):
    """Join: the status, and the paths of the joined series."""
    options = dict(zip(("dwi_path", "bval", "bvec"), map(list, zip(*series, strict=True)), strict=True))
    join_series.main(root, "sub-01", **options)
    at = files_of("sub-01", root)
    return read_json(at("joined-status")), [at(f"joined-{kind}") for kind in ("dwi", "bval", "bvec")]


@pytest.mark.parametrize("affine", AFFINES, ids=["radiological", "neurological"])
def test_a_joined_series_is_that_measured_at_once(tmp_path, affine):
    others = SIX[:, [1, 2, 0]] * [1, -1, 1]
    first = write(tmp_path, "low", 700, SIX, affine=affine)
    second = write(tmp_path, "high", 1200, others, gain=2.5, affine=affine)
    status, paths = joined(tmp_path / "results", first, second)
    assert status["status"] == "ok" and status["scales"] == [1.0, pytest.approx(0.4)]
    series, (low, high) = dwi.load(*paths), (dwi.load(*files) for files in (first, second))
    np.testing.assert_array_equal(series.bvals, [0, *[700] * 6, 0, *[1200] * 6])
    np.testing.assert_allclose(series.bvecs[[*range(1, 7), *range(8, 14)]], np.vstack([SIX, others]), atol=1e-5)
    np.testing.assert_allclose(series.volume.data[..., :7], low.volume.data)
    np.testing.assert_allclose(series.volume.data[..., 7:], high.volume.data / 2.5, rtol=1e-5)
    assert dwi.volumes_to_fit(series.bvals, series.bvecs, 50, 1500).all()


def test_series_on_two_grids_are_a_finding_and_no_series(tmp_path):
    first = write(tmp_path, "low", 700, SIX)
    second = write(tmp_path, "high", 1200, SIX, shape=(8, 9, 8))
    status, paths = joined(tmp_path / "results", first, second)
    assert status["status"] == "failed" and status["finding"]["file"] == str(second[0])
    assert "another grid" in status["finding"]["problem"] and json.dumps(status)
    assert all(path.stat().st_size == 0 for path in paths)
