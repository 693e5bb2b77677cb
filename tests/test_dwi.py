import stat
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from m2m.diffusion import dwi
from m2m.diffusion.gradient_tables import fsl_axes, read_gradients
from m2m.io.errors import DataError
from m2m.io.programs import ProgramError
from m2m.io.volume import Volume

TILT = Rotation.from_euler("xyz", [12, -20, 33], degrees=True).as_matrix()
SPREAD = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, -1, 0]], dtype=float)
DIRECTIONS = SPREAD / np.linalg.norm(SPREAD, axis=1)[:, None]


def affine_of(linear):
    affine = np.eye(4)
    affine[:3, :3] = linear
    return affine


def write_gradients(folder, bvals, bvecs):
    np.savetxt(folder / "x.bval", np.atleast_2d(bvals))
    np.savetxt(folder / "x.bvec", bvecs)
    return folder / "x.bval", folder / "x.bvec"


@pytest.fixture
def gradients(tmp_path):
    bvecs = np.vstack([np.zeros(3), DIRECTIONS]).T
    return write_gradients(tmp_path, [0] + [1000] * 7, bvecs)


def test_fsl_directions_are_the_same_in_the_world_however_the_image_is_stored():
    radiological = fsl_axes(affine_of(np.diag([-2.0, 3.0, 4.0])))
    neurological = fsl_axes(affine_of(np.diag([2.0, 3.0, 4.0])))
    np.testing.assert_allclose(radiological, np.diag([-1, 1, 1]))
    np.testing.assert_allclose(neurological, np.diag([-1, 1, 1]))


def test_fsl_directions_rotate_with_an_oblique_affine():
    straight, voxel = np.diag([-1.0, 1.0, 1.0]), np.diag([2.0, 2.0, 3.5])
    axes = fsl_axes(affine_of(TILT @ straight @ voxel))
    np.testing.assert_allclose(axes, TILT @ straight, atol=1e-12)


def test_fsl_axes_of_a_sheared_affine_are_orthonormal():
    shear = np.eye(3)
    shear[0, 1] = 0.05
    axes = fsl_axes(affine_of(shear))
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)


def test_world_directions_are_those_of_mrtrix3(shared_data):
    oracle = shared_data / "oracle_mrtrix"
    series = dwi.load(oracle / "dwi.nii.gz", oracle / "dwi.bval", oracle / "dwi.bvec")
    scanner = np.loadtxt(oracle / "dwi_mrtrix_scanner.b")
    np.testing.assert_allclose(series.bvecs, scanner[:, :3], atol=2e-6)
    np.testing.assert_allclose(series.bvals, scanner[:, 3])


def test_directions_are_read_as_rows_of_the_result(gradients):
    bvals, bvecs = read_gradients(*gradients)
    np.testing.assert_allclose(bvals, [0] + [1000] * 7)
    np.testing.assert_allclose(bvecs[1:], DIRECTIONS)


@pytest.mark.parametrize(
    ("bvals", "bvecs", "problem", "value"),
    [
        ([0] + [1000] * 6, DIRECTIONS, "three rows", "7 x 3"),
        ([0] + [1000] * 5, DIRECTIONS.T, "three rows of 6", "3 x 7"),
        ([0] + [1000] * 6, DIRECTIONS.T * [1, 1, 1, 1, 0.5, 1, 1], "unit", "volume 4"),
        ([0] + [1000] * 6, np.full((3, 7), np.nan), "NaN", ""),
        ([-5] + [1000] * 6, DIRECTIONS.T, "negative", "-5"),
    ],
)
def test_unusable_gradients_are_named_with_their_value(tmp_path, bvals, bvecs, problem, value):
    paths = write_gradients(tmp_path, bvals, bvecs)
    with pytest.raises(DataError, match=problem) as caught:
        read_gradients(*paths)
    assert value in caught.value.value
    assert caught.value.file
    assert caught.value.remedy


def test_gradients_that_are_not_numbers_are_named(tmp_path, gradients):
    gradients[1].write_text("x y z\n")
    with pytest.raises(DataError, match="numbers"):
        read_gradients(*gradients)


def test_a_series_of_another_length_than_its_b_values_is_refused(tmp_path, gradients):
    path = tmp_path / "x.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3, 9), np.float32), np.eye(4)), path)
    with pytest.raises(DataError, match="8"):
        dwi.load(path, *gradients)


def test_the_mean_b0_is_that_of_the_unweighted_volumes_only():
    data = np.stack([np.full((2, 2, 2), v, dtype=float) for v in (10, 20, 1000)], axis=-1)
    series = dwi.Dwi(Volume(data, np.eye(4)), np.array([0.0, 5.0, 1000.0]), np.zeros((3, 3)))
    assert (dwi.mean_b0(series).data == 15).all()
    above = dwi.Dwi(series.volume, np.array([60.0, 65.0, 1000.0]), np.zeros((3, 3)), b0_threshold=100)
    assert (dwi.mean_b0(above).data == 15).all()
    weighted = dwi.Dwi(series.volume, np.full(3, 1000.0), np.zeros((3, 3)))
    with pytest.raises(DataError, match="b = 0"):
        dwi.mean_b0(weighted)


def chosen(shells, max_b=1500.0):
    """Volumes to fit of b = 0 and of (b, directions) shells, as sorted b-values."""
    bvals = np.concatenate([[0.0], *(np.full(len(v), b) for b, v in shells)])
    bvecs = np.vstack([np.zeros((1, 3)), *(v for _, v in shells)])
    return sorted(set(bvals[dwi.volumes_to_fit(bvals, bvecs, 50, max_b)]))


def test_shells_above_the_limit_are_not_used_if_the_others_determine_a_tensor():
    assert chosen([(1000, DIRECTIONS), (3000, DIRECTIONS)]) == [0, 1000]


def test_the_lowest_shell_is_used_where_all_are_above_the_limit():
    assert chosen([(2500, DIRECTIONS), (4000, DIRECTIONS)]) == [0, 2500]


def test_a_shell_above_the_limit_is_added_to_too_few_directions_below_it():
    assert chosen([(1000, DIRECTIONS[:5]), (2000, DIRECTIONS), (3000, DIRECTIONS)]) == [
        0,
        1000,
        2000,
    ]


def test_scattered_b_values_are_one_shell():
    bvals = np.r_[0, np.linspace(2450, 2550, 7), np.full(7, 4000.0)]
    bvecs = np.vstack([np.zeros(3), DIRECTIONS, DIRECTIONS])
    assert dwi.volumes_to_fit(bvals, bvecs, 50, 1500).sum() == 8


@pytest.mark.parametrize(("middle", "fits"), [(1500, True), (1545, True), (1560, False)])
def test_a_limit_on_b_means_a_shell_with_a_tolerance(middle, fits):
    """Of 1490 to 1510, a limit of 1500 takes all; above the tolerance, the next shell is added whole."""
    scatter = np.array([-10, -5, 0, 5, 10, 5, 0])
    bvals = np.r_[0, middle + scatter, np.full(7, 3000)]
    bvecs = np.vstack([np.zeros(3), DIRECTIONS, DIRECTIONS])
    found = dwi.volumes_to_fit(bvals, bvecs, 50, 1500)
    assert found.sum() == 8 and found[:8].all()
    both = np.r_[0, np.full(7, 1000), middle + scatter]
    assert dwi.volumes_to_fit(both, bvecs, 50, 1500).sum() == (15 if fits else 8)


def test_a_continuum_of_b_values_is_no_shell():
    bvals = np.r_[0, np.linspace(500, 3000, 60)]
    bvecs = np.vstack([np.zeros(3), np.resize(DIRECTIONS, (60, 3))])
    found = dwi.volumes_to_fit(bvals, bvecs, 50, 1500)
    np.testing.assert_array_equal(found, bvals <= 1550)


def test_a_weighted_volume_without_direction_is_not_fitted():
    bvals = np.r_[0, np.full(8, 1000)]
    found = dwi.volumes_to_fit(bvals, np.vstack([np.zeros((2, 3)), DIRECTIONS]), 50, 1500)
    assert found.tolist() == [True, False, *[True] * 7]


def test_directions_in_one_plane_or_repeated_do_not_determine_a_tensor():
    angles = np.linspace(0, np.pi, 12, endpoint=False)
    plane = np.column_stack([np.cos(angles), np.sin(angles), 0 * angles])
    for directions in (plane, np.repeat(DIRECTIONS[:5], 4, axis=0), DIRECTIONS[:5]):
        with pytest.raises(DataError, match="too few different directions"):
            chosen([(1000, directions)])


def head(shape=(48, 56, 40), field_sigma=None):
    """Simulated brain and eyes: b = 0 and weighted image, both masks, affine at 3 mm."""
    rng = np.random.default_rng(7)
    x, y, z = (np.indices(shape) - (np.array(shape) / 2)[:, None, None, None]) * 3.0
    brain = (x / 55) ** 2 + (y / 65) ** 2 + (z / 50) ** 2 < 1
    ventricle = (x / 8) ** 2 + (y / 25) ** 2 + (z / 12) ** 2 < 1
    eyes = sum((x - s) ** 2 + (y - 70) ** 2 + (z + 30) ** 2 < 12**2 for s in (-25, 25)) > 0
    b0 = 300.0 * brain + 500 * ventricle + 900 * eyes
    weighted = 160.0 * brain - 140 * ventricle + 40 * eyes
    field = 1.0
    if field_sigma:
        field = 1.15 - np.exp(-(x**2 + y**2 + z**2) / 2 / field_sigma**2)
    noisy = [np.hypot(i * field + rng.normal(0, 8, shape), 8) for i in (b0, weighted)]
    affine = np.diag([3.0, 3, 3, 1])
    return (*(i.astype(np.float32) for i in noisy), brain, eyes, affine)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_mask_is_the_brain_without_eyes_and_with_ventricles():
    b0, weighted, brain, eyes, affine = head()
    mask = dwi.brain_mask(b0, weighted, affine, 3, 2)
    assert dice(mask, brain) > 0.95
    assert not (mask & eyes).any()
    assert mask[24, 28, 20]


def test_a_dark_centre_causes_no_hole():
    b0, weighted, brain, _, affine = head(field_sigma=28.0)
    mask = dwi.brain_mask(b0, weighted, affine, 3, 2)
    inner = ndimage.binary_erosion(brain, iterations=3)
    assert mask[inner].all()
    assert dice(mask, brain) > 0.93


def test_the_mask_does_not_depend_on_how_the_image_is_stored():
    b0, weighted, _, _, affine = head(field_sigma=40.0)
    mask = dwi.brain_mask(b0, weighted, affine, 3, 2)
    stored = [np.ascontiguousarray(i.transpose(2, 0, 1)[:, ::-1]) for i in (b0, weighted)]
    permuted = affine[:, [2, 0, 1, 3]] * [1, -1, 1, 1]
    other = dwi.brain_mask(*stored, permuted, 3, 2)
    assert dice(mask, other[:, ::-1].transpose(1, 2, 0)) > 0.999


def test_an_image_without_contrast_has_an_empty_mask():
    flat = np.ones((20, 20, 20), np.float32)
    assert not dwi.brain_mask(flat, flat, np.eye(4), 2, 1).any()


def test_the_receive_bias_of_a_real_scan_causes_no_hole(shared_data):
    stem = str(shared_data / "bids/sub-IUB/dwi/sub-IUB_dir-AP_dwi")
    series = dwi.load(f"{stem}.nii.gz", f"{stem}.bval", f"{stem}.bvec")
    weighted = series.volume.data[..., series.bvals > 50].mean(axis=-1)
    mask = dwi.brain_mask(dwi.mean_b0(series).data, weighted, series.volume.affine, 3, 2)
    litres = mask.sum() * np.prod(series.volume.spacing_mm) * 1e-6
    assert 1.2 < litres < 1.5
    centre = np.argwhere(mask).mean(axis=0).astype(int)
    assert mask[tuple(slice(c - 8, c + 9) for c in centre)].all()
    assert mask[36, 27, 1:8].all()  # pons and midbrain, where the coil is least sensitive


def fake_fsl(folder, monkeypatch, **scripts):
    """An FSL with these commands, as shell scripts."""
    (folder / "bin").mkdir(parents=True)
    for name, text in scripts.items():
        path = folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("fsl.utils.run.FSL_PREFIX", str(folder / "bin"))


def test_bet_is_called_for_a_mask_only_and_its_mask_is_read(tmp_path, monkeypatch):
    log = tmp_path / "arguments"
    fake_fsl(tmp_path / "fsl", monkeypatch, bet=f'echo "$@" > {log}; cp "$1" "$2_mask.nii.gz"')
    b0 = Volume(np.arange(27, dtype=np.float32).reshape(3, 3, 3), np.eye(4))
    mask = dwi.bet_mask(b0, 0.35)
    assert mask.sum() == 26
    image, out, *options = log.read_text().split()
    assert Path(image).name == "b0.nii.gz"
    assert Path(out).name == "brain"
    assert options == ["-m", "-n", "-f", "0.35"]


def test_a_missing_fsl_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr("fsl.utils.run.FSL_PREFIX", "/nowhere")
    with pytest.raises(ProgramError, match=r"bet cannot be run.*install FSL"):
        dwi.bet_mask(Volume(np.ones((3, 3, 3), np.float32), np.eye(4)), 0.3)


def test_a_failing_bet_is_reported_with_its_last_line(tmp_path, monkeypatch):
    fake_fsl(tmp_path, monkeypatch, bet="echo first >&2; echo 'no brain here' >&2; exit 3")
    with pytest.raises(ProgramError, match="bet ended with exit status 3: no brain here"):
        dwi.bet_mask(Volume(np.ones((3, 3, 3), np.float32), np.eye(4)), 0.3)
