"""Standard deviations that are right, too small, constant or equal to the errors."""

import numpy as np
import pytest
from scipy import stats

from m2m.evaluate.uncertainty_scores import (
    KEPT,
    NOMINAL,
    calibration,
    compare_uncertainty,
    retention,
)


@pytest.fixture(scope="module")
def known():
    """Errors drawn with the standard deviations that go with them."""
    rng = np.random.default_rng(0)
    sd = rng.uniform(0.02, 0.2, 40000)
    return sd * rng.normal(size=sd.size), sd


def test_errors_drawn_with_the_predicted_deviation_are_calibrated(known):
    error, sd = known
    assert calibration(np.abs(error), sd) == pytest.approx(NOMINAL, abs=0.01)
    values, _ = compare_uncertainty(error, sd)
    assert values["calibration_error"] < 0.005
    assert values["coverage_95"] == pytest.approx(0.95, abs=0.005)


def test_deviations_half_as_large_cover_as_much_as_half_the_interval(known):
    error, sd = known
    expected = stats.norm.cdf(0.98) - stats.norm.cdf(-0.98)
    values, _ = compare_uncertainty(error, sd / 2)
    assert values["coverage_95"] == pytest.approx(expected, abs=0.01)


def test_an_interval_of_width_0_contains_errors_of_0_only(known):
    assert calibration(np.array([0.0, 0.1]), np.zeros(2)).tolist() == [0.5] * NOMINAL.size


def test_retention_ends_at_the_mean_error_and_the_oracle_is_below_all(known):
    error, sd = np.abs(known[0]), known[1]
    by_sd, oracle = retention(error, sd), retention(error, error)
    assert [by_sd[-1], oracle[-1]] == pytest.approx([error.mean()] * 2)
    assert (oracle[:-1] < by_sd[:-1]).all() and (np.diff(by_sd) > 0).all()
    half = np.sort(error)[: error.size // 2].mean()
    assert oracle[np.searchsorted(KEPT, 0.5)] == pytest.approx(half)


def test_a_constant_deviation_has_no_retention_gain_and_no_correlation(known):
    error = known[0]
    values, _ = compare_uncertainty(error, np.full(error.size, 0.1))
    assert values["retention_gain"] == pytest.approx(0, abs=1e-12)
    assert np.isnan(values["sd_error_r"])


def test_retention_does_not_depend_on_the_order_of_the_voxels():
    rng = np.random.default_rng(1)
    error, sd = rng.random(1000), rng.integers(1, 4, 1000) / 10
    order = rng.permutation(1000)
    assert retention(error[order], sd[order]) == pytest.approx(retention(error, sd))


def test_deviations_equal_to_the_errors_gain_as_much_as_the_oracle(known):
    error = known[0]
    values, rows = compare_uncertainty(error, np.abs(error))
    assert values["sd_error_r"] == pytest.approx(1)
    curves = {
        name: [row["y"] for row in rows if row["curve"] == name] for name in ("calibration", "retention", "oracle")
    }
    assert curves["retention"] == curves["oracle"]
    assert values["retention_gain"] == pytest.approx(1 - np.mean(curves["oracle"]) / np.abs(error).mean())
    assert [len(curve) for curve in curves.values()] == [19, 20, 20]


def test_signs_of_errors_do_not_matter(known):
    error, sd = known
    assert compare_uncertainty(-error, sd) == compare_uncertainty(error, sd)
