"""The standard deviation of a prediction: known values are recovered, the best candidate is chosen."""

import numpy as np
import pytest

from m2m.models.uncertainty import SMALLEST, Prediction, calibrate, deviation


def subjects(rng, n=4, voxels=5000):
    """Errors with a known standard deviation; candidates: twice that, and a random permutation of it."""
    for _ in range(n):
        sd = rng.uniform(0.02, 0.3, voxels)
        yield sd * rng.standard_normal(voxels), {"known": 2 * sd, "random": rng.permutation(sd)}


def test_the_candidate_that_fits_the_errors_is_chosen_with_its_factor(rng):
    found = calibrate(subjects(rng))
    assert found["method"] == "known"
    assert found["factors"]["known"] == pytest.approx(0.5, rel=0.02)
    assert found["nll"]["known"] < found["nll"]["constant"] < found["nll"]["random"]


def test_the_likelihood_is_that_of_a_normal_distribution(rng):
    error = 0.2 * rng.standard_normal(20000)
    found = calibrate([(error, {})])
    assert found["method"] == "constant"
    assert found["factors"]["constant"] == pytest.approx(np.sqrt(np.mean(error**2)))
    entropy = 0.5 * np.log(2 * np.pi * np.e * np.mean(error**2))
    assert found["nll"]["constant"] == pytest.approx(entropy)


def test_a_map_is_the_scaled_candidate_and_never_zero():
    image = np.zeros((2, 3, 4), np.float32)
    sd = np.full_like(image, 0.2)
    sd[0] = 0
    chosen = {"method": "known", "factors": {"known": 0.5, "constant": 0.07}}
    found = deviation(Prediction(image, {"known": sd}), chosen)
    assert found.shape == image.shape and np.allclose(found[1], 0.1)
    assert np.allclose(found[0], 0.5 * SMALLEST)


def test_without_the_chosen_candidate_the_constant_one_is_used():
    image = np.zeros((2, 2, 2, 6), np.float32)
    chosen = {"method": "views", "factors": {"views": 2.0, "constant": 0.07}}
    assert np.allclose(deviation(Prediction(image, {}), chosen), 0.07)


def test_no_participant_to_calibrate_on_is_an_error():
    with pytest.raises(ValueError, match="no participant"):
        calibrate([])
