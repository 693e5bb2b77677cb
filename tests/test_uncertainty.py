"""The standard deviation of a prediction: planted ones are found, and the best candidate wins."""

import numpy as np
import pytest

from m2m.models.uncertainty import SMALLEST, Prediction, calibrate, deviation


def people(rng, n=4, voxels=5000):
    """Errors with a planted deviation, and candidates: twice that one, and one of chance."""
    for _ in range(n):
        sd = rng.uniform(0.02, 0.3, voxels)
        yield sd * rng.standard_normal(voxels), {"true": 2 * sd, "chance": rng.permutation(sd)}


def test_the_candidate_that_errors_follow_is_chosen_with_its_factor(rng):
    found = calibrate(people(rng))
    assert found["method"] == "true"
    assert found["factors"]["true"] == pytest.approx(0.5, rel=0.02)
    assert found["nll"]["true"] < found["nll"]["constant"] < found["nll"]["chance"]


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
    chosen = {"method": "true", "factors": {"true": 0.5, "constant": 0.07}}
    found = deviation(Prediction(image, {"true": sd}), chosen)
    assert found.shape == image.shape and np.allclose(found[1], 0.1)
    assert np.allclose(found[0], 0.5 * SMALLEST)


def test_without_the_chosen_candidate_the_constant_one_stands_in():
    image = np.zeros((2, 2, 2, 6), np.float32)
    chosen = {"method": "views", "factors": {"views": 2.0, "constant": 0.07}}
    assert np.allclose(deviation(Prediction(image, {}), chosen), 0.07)


def test_nobody_to_calibrate_on_is_an_error():
    with pytest.raises(ValueError, match="nobody"):
        calibrate([])
