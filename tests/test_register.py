"""Registration finds known motions, does not change aligned images, and never gives a worse result."""

import sys

import numpy as np
import pytest
from nibabel.affines import apply_affine
from scipy import ndimage
from scipy.spatial.transform import Rotation

from m2m.io.volume import Volume, resample
from m2m.structural import register, template
from m2m.structural.register import align, find_transform, mutual_information, warp
from m2m.structural.template import load_template

SPACING_MM = 4.0


@pytest.fixture(scope="module")
def t1():
    return load_template("t1", SPACING_MM)


@pytest.fixture(scope="module")
def brain():
    return load_template("brain", SPACING_MM).data > 0


def motion(degrees, shift_mm):
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    transform[:3, 3] = shift_mm
    return transform


def after_motion(transform):
    """The template's white matter, like an FA map, after a motion and on another grid."""
    affine = np.diag([-3.5, 3.5, 4.0, 1])
    affine[:3, 3] = (105, -140, -80)
    return resample(load_template("wm", SPACING_MM), affine, (60, 72, 46), np.linalg.inv(transform))


def error_mm(found, expected, volume, mask):
    points = apply_affine(volume.affine, np.argwhere(mask))
    return np.linalg.norm(apply_affine(found, points) - apply_affine(expected, points), axis=1).max()


def test_a_known_rigid_motion_is_found_to_half_a_voxel(t1, brain):
    known = motion((6, -4, 8), (7, -9, 5))
    assert error_mm(np.eye(4), known, t1, brain) > 12
    result = align(t1, after_motion(known), brain, spacings_mm=(6.0, 4.0))
    assert result.kept == "registration"
    assert result.mi_registered > result.mi_headers
    assert error_mm(result.transform, known, t1, brain) < SPACING_MM / 2


def test_a_known_affine_is_found_to_half_a_voxel(t1, brain):
    known = motion((3, 2, -4), (4, 3, -5)) @ np.diag([1.08, 0.94, 1.05, 1])
    result = align(t1, after_motion(known), brain, "affine", spacings_mm=(6.0, 4.0))
    assert error_mm(result.transform, known, t1, brain) < SPACING_MM / 2


def test_identity_stays_identity(t1, brain):
    result = align(t1, t1, brain, spacings_mm=(6.0, 4.0))
    assert error_mm(result.transform, np.eye(4), t1, brain) < 0.2


def test_a_registration_that_does_not_improve_is_not_kept(t1, brain, monkeypatch):
    known = motion((0, 0, 0), (1, 0, 0))
    wrong = motion((0, 0, 20), (30, 0, 0))
    monkeypatch.setattr(register, "find_transform", lambda *_: (wrong, 99.0))
    result = align(t1, after_motion(known), brain, start=known, spacings_mm=(6.0,))
    assert result.kept == "headers"
    assert result.mi_registered < result.mi_headers
    np.testing.assert_array_equal(result.transform, known)


def test_without_levels_the_headers_are_used(t1, brain):
    result = align(t1, after_motion(motion((0, 0, 5), (3, 0, 0))), brain, spacings_mm=())
    assert result.kept == "headers"
    np.testing.assert_array_equal(result.transform, np.eye(4))


def test_two_runs_give_bit_identical_transforms(t1, brain):
    moving = after_motion(motion((3, -2, 4), (3, 4, -2)))
    runs = [find_transform(t1, moving, "rigid", np.eye(4), brain, 8) for _ in range(2)]
    np.testing.assert_array_equal(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]


def test_mutual_information_of_known_pairs():
    rng = np.random.default_rng(5)
    mask = np.ones((40, 40, 40), bool)
    one = Volume(rng.integers(0, 4, mask.shape).astype(float), np.eye(4))
    other = Volume(rng.integers(0, 4, mask.shape).astype(float), np.eye(4))
    relabelled = Volume(np.array([2.0, 0.5, 9.0, 7.0])[one.data.astype(int)], np.eye(4))
    same = mutual_information(one, one, np.eye(4), mask)
    assert same == pytest.approx(np.log(4), rel=1e-3)  # the entropy of four equal classes
    assert mutual_information(one, relabelled, np.eye(4), mask) == pytest.approx(same, rel=1e-3)
    assert mutual_information(one, other, np.eye(4), mask) < 1e-3
    assert mutual_information(one, Volume(0 * one.data, np.eye(4)), np.eye(4), mask) == 0


def test_mutual_information_ignores_voxels_outside_the_mask(t1, brain):
    inner = ndimage.binary_erosion(brain, iterations=3)
    noisy = np.where(inner, t1.data, np.random.default_rng(0).random(t1.shape))
    values = [mutual_information(t1, Volume(v, t1.affine), np.eye(4), inner) for v in (t1.data, noisy)]
    assert values[0] == pytest.approx(values[1])


def test_the_template_is_that_of_nilearn():
    struct = pytest.importorskip("nilearn.datasets.struct")
    assert template._file("t1") == struct.MNI152_FILE_PATH
    assert template._file("gm") == struct.GM_MNI152_FILE_PATH
    assert template._file("wm") == struct.WM_MNI152_FILE_PATH
    assert load_template("t1").data.max() == 1
    assert load_template("brain").data.sum() / 1e6 == pytest.approx(1.887, abs=0.01)  # litres


def test_coarse_templates_keep_their_position_and_volume():
    for tissue in ("wm", "brain"):
        fine, coarse = load_template(tissue), load_template(tissue, 6.0)
        centres = [apply_affine(v.affine, ndimage.center_of_mass(v.data)) for v in (fine, coarse)]
        np.testing.assert_allclose(*centres, atol=0.3)
        assert coarse.data.sum() * 6**3 == pytest.approx(fine.data.sum(), rel=0.02)


def test_syn_without_ants_names_the_extra(t1, monkeypatch):
    monkeypatch.setitem(sys.modules, "ants", None)
    with pytest.raises(ModuleNotFoundError, match=r"ANTs: .+ '\.\[ants\]'"):
        warp(t1, t1, t1.data > 0)
