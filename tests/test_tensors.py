"""Tensor algebra against closed forms and DIPY."""

import numpy as np
import pytest
from dipy.reconst.dti import fractional_anisotropy
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

from m2m.diffusion import tensors


@pytest.fixture
def field(rng):
    """Positive definite tensors of tissue, shape (40, 6), and their matrices."""
    evals = rng.uniform(1e-4, 3e-3, (40, 3))
    axes = Rotation.random(40, random_state=1).as_matrix()
    matrices = np.einsum("nik,nk,njk->nij", axes, evals, axes)
    return matrices[:, [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]], matrices, evals


def test_six_elements_are_the_matrix(field):
    six, matrices, _ = field
    np.testing.assert_array_equal(tensors.to_matrix(six), np.triu(matrices) + _lower(matrices))
    np.testing.assert_array_equal(tensors.from_matrix(tensors.to_matrix(six)), six)


def _lower(matrices):
    return np.swapaxes(np.triu(matrices, 1), -1, -2)


def test_logarithm_and_exponential_are_those_of_scipy(field):
    six, matrices, _ = field
    for one, matrix in zip(six[:5], matrices[:5], strict=True):
        np.testing.assert_allclose(tensors.to_matrix(tensors.logarithm(one)), logm(matrix), atol=1e-8)
    log = tensors.logarithm(six)
    np.testing.assert_allclose(tensors.exponential(log), six, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(
        tensors.to_matrix(tensors.exponential(log[0])), expm(tensors.to_matrix(log[0])), rtol=1e-9
    )


def test_implausible_eigenvalues_are_set_to_the_limits():
    six = np.array([8e-3, 0, 0, -2e-4, 0, 0])
    back = tensors.exponential(tensors.logarithm(six))
    np.testing.assert_allclose(back[[0, 3, 5]], [tensors.MOST_MM2_PER_S, *[tensors.LEAST_MM2_PER_S] * 2])


def test_measures_are_those_of_the_eigenvalues(field):
    six, matrices, evals = field
    found = tensors.measures(six)
    np.testing.assert_allclose(found.fa, fractional_anisotropy(evals), atol=1e-9)
    np.testing.assert_allclose(found.md, evals.mean(axis=1))
    stretched = np.einsum("nij,nj->ni", matrices, found.v1)
    np.testing.assert_allclose(stretched, evals.max(axis=1)[:, None] * found.v1, atol=1e-12)


def test_no_tensor_has_no_anisotropy_and_no_direction():
    found = tensors.measures(np.zeros((2, 6)))
    assert not found.fa.any() and not found.md.any() and not found.v1.any()


def test_the_direction_of_a_rotated_tensor_is_the_rotated_direction(field):
    six = field[0]
    rotation = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
    before, after = tensors.measures(six), tensors.measures(tensors.rotate(six, rotation))
    np.testing.assert_allclose(np.abs(np.sum((before.v1 @ rotation.T) * after.v1, axis=1)), 1)
    np.testing.assert_allclose(after.fa, before.fa)


def test_the_nearest_rotation_has_no_scale():
    rotation = Rotation.from_euler("xyz", (5, 10, -20), degrees=True).as_matrix()
    np.testing.assert_allclose(tensors.nearest_rotation(1.1 * rotation), rotation, atol=1e-12)
