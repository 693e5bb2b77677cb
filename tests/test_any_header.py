"""Whatever a header or a gradient table holds, the checks do not crash, and accepted files can be loaded."""

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cohort_tree import AFFINE, BVALS, BVECS, SIX, write_numbers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from m2m.cohort.checks import check_scan
from m2m.cohort.gradients import check_gradients
from m2m.diffusion import dwi
from m2m.diffusion.gradient_tables import read_gradients
from m2m.io import volume
from m2m.io.bvalues import determine_tensor, distinct_directions

# The same examples on every machine and in every run.
settings.register_profile("m2m", derandomize=True, deadline=None, max_examples=80)
settings.load_profile("m2m")
HEADER_BYTES = 348
ANY_NUMBER = st.floats(width=32) | st.sampled_from([0.0, -1.0, 50.0, 1000.0])


def little_image():
    """Bytes of a NIfTI of four by five by six voxels."""
    data = np.random.default_rng(0).integers(1, 1000, (4, 5, 6)).astype(np.int16)
    image = nib.Nifti1Image(data, AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE, 1)
    return image.to_bytes()


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def require_findings(problems):
    for problem in problems:
        assert problem.problem and problem.file and problem.remedy
        assert len(str(problem)) < 2000


@given(st.dictionaries(st.integers(0, HEADER_BYTES - 1), st.integers(0, 255), max_size=6))
@example({42: 0, 43: 128})  # a negative number of voxels
@example({108: 0, 109: 0, 110: 128, 111: 127})  # voxels at infinity
@example({112: 0, 113: 0, 114: 192, 115: 127})  # a slope that is not a number
@example({116: 0, 117: 0, 118: 192, 119: 127})  # an intercept that is not a number
@example({327: 77})  # an origin a hundred kilometres away
@example({123: 255})
def test_any_header_is_checked_and_accepted_ones_are_loaded(folder, damage):
    content = bytearray(little_image())
    for place, value in damage.items():
        content[place] = value
    path = folder / "sub-01_T1w.nii"
    path.write_bytes(bytes(content))
    checked = check_scan("T1w", path)
    require_findings(checked.problems)
    if not checked.problems:
        loaded = volume.load(path)
        assert loaded.data.ndim == 3 and np.isfinite(loaded.data).all()
        assert np.isfinite(np.linalg.inv(loaded.affine)).all()


@given(st.binary(max_size=400))
def test_any_bytes_for_an_image_are_checked(folder, content):
    for name in ("sub-01_dwi.nii", "sub-01_dwi.nii.gz"):
        (folder / name).write_bytes(content)
        problems = check_scan("dwi", folder / name).problems
        assert problems
        require_findings(problems)


def write_gradients(folder, bvals, bvecs):
    return (
        write_numbers(folder / "x.bval", np.atleast_2d(bvals)),
        write_numbers(folder / "x.bvec", np.atleast_2d(bvecs)),
    )


def require_same_verdict(paths):
    n, problems = check_gradients(*paths, "x_dwi.nii", None)
    require_findings(problems)
    if not problems:
        bvals, bvecs = read_gradients(*paths)
        lengths = np.linalg.norm(bvecs, axis=1)
        assert n >= 6 and determine_tensor(distinct_directions(bvecs[bvals > 50]))
        assert (np.isclose(lengths, 1) | ((lengths == 0) & (bvals <= 50))).all()


@given(st.dictionaries(st.integers(0, 6), ANY_NUMBER), st.dictionaries(st.integers(0, 20), ANY_NUMBER))
@example({}, {0: 0.5})  # a vector of half the length at b = 0
@example({}, {3: -0.0})
def test_any_numbers_in_the_gradients_are_checked_as_the_fit_reads_them(folder, bvals, bvecs):
    values, vectors = BVALS.astype(float), BVECS.T.copy()
    values[list(bvals)] = list(bvals.values())
    vectors.flat[list(bvecs)] = list(bvecs.values())
    require_same_verdict(write_gradients(folder, values, vectors))


@pytest.mark.parametrize("length", [0.0, -0.0, 0.5, 2.0])
def test_a_vector_of_any_length_at_b0_is_accepted_as_the_fit_accepts_it(folder, length):
    vectors = BVECS.copy()
    vectors[0] = length, 0, 0
    paths = write_gradients(folder, BVALS, vectors.T)
    assert check_gradients(*paths, "x_dwi.nii", None) == (6, [])
    require_same_verdict(paths)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_direction_that_is_no_number_is_named_at_any_b(folder, value):
    for place in (0, 3):
        vectors = BVECS.copy()
        vectors[place, 1] = value
        n, (problem,) = check_gradients(*write_gradients(folder, BVALS, vectors.T), "x_dwi.nii", None)
        assert n == 0 and problem.problem == "b-vectors have NaN or infinity"
        assert problem.value == f"volumes {place} (1 of 7)"


@given(st.floats(0.9, 1.1))
def test_lengths_of_vectors_are_checked_as_the_fit_reads_them(folder, length):
    require_same_verdict(write_gradients(folder, BVALS, BVECS.T * length))


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_for_gradients_is_checked(folder, bval, bvec):
    paths = folder / "x.bval", folder / "x.bvec"
    for path, text in zip(paths, (bval, bvec), strict=True):
        path.write_text(text, encoding="utf-8")
    _, problems = check_gradients(*paths, "x_dwi.nii", None)
    assert problems
    require_findings(problems)


@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(0.5, 4)] * 3),
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
def test_directions_in_the_world_do_not_depend_on_the_grid(folder, degrees, sizes, order, signs):
    rotation = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    axes = rotation @ (np.eye(3)[list(order)] * signs)
    affine = np.eye(4)
    affine[:3, :3] = axes * sizes
    # FSL: along the voxels' axes, the first reversed where the storage is neurological.
    along = SIX @ axes * [-1 if np.linalg.det(axes) > 0 else 1, 1, 1]
    paths = write_gradients(folder, BVALS, np.vstack([np.zeros(3), along]).T)
    image = nib.Nifti1Image(np.ones((2, 2, 2, 7), np.int16), affine)
    image.set_sform(affine, 1)
    nib.save(image, folder / "x.nii")
    series = dwi.load(folder / "x.nii", *paths)
    np.testing.assert_allclose(series.bvecs[1:], SIX, atol=1e-4)
