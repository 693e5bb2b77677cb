"""Numbers of a tensor fit that a sound series cannot have end in a finding."""

from dataclasses import replace

import numpy as np
import pytest

from m2m.diffusion.fit_quality import FitQuality, fit_quality, noise_level, require_plausible
from m2m.diffusion.tensor_fit import fit_tensor
from m2m.io.errors import DataError
from m2m.options.imaging_options import FitLimits

SHAPE, N, NOISE, S0 = (16, 16, 12), 34, 20.0, 600.0


def spread(n):
    """Unit vectors on half a sphere, in no order."""
    k = np.arange(n) + 0.5
    z, turn = k / n, k * np.pi * (3 - np.sqrt(5))
    points = np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], 1)
    return np.random.default_rng(7).permutation(points)


@pytest.fixture
def series():
    """Noisy signals: fibres in random directions in a third of the voxels, isotropic tissue in the others."""
    rng = np.random.default_rng(0)
    bvals, bvecs = np.r_[0, 0, np.full(N - 2, 1000.0)], np.vstack([np.zeros((2, 3)), spread(N - 2)])
    fibres = rng.normal(size=(*SHAPE, 3))
    fibres /= np.linalg.norm(fibres, axis=-1, keepdims=True)
    along = (fibres @ bvecs.T) ** 2
    rate = np.where(rng.random(SHAPE)[..., None] < 0.35, 0.3e-3 + 1.4e-3 * along, 0.85e-3)
    signal = S0 * np.exp(-bvals * rate)
    data = np.hypot(signal + rng.normal(0, NOISE, signal.shape), rng.normal(0, NOISE, signal.shape))
    return data, bvals, bvecs


def measure(data, bvals, bvecs, **limits):
    """Numbers of a fit, and the finding about them or None."""
    maps = fit_tensor(data, bvals, bvecs, np.ones(data.shape[:3], bool))
    quality = fit_quality(data, bvals, bvecs, maps)
    try:
        require_plausible(quality, FitLimits(**limits), "dwi.nii.gz")
    except DataError as error:
        return quality, error
    return quality, None


def test_a_sound_series_passes_and_its_residual_is_the_noise(series):
    quality, finding = measure(*series)
    assert finding is None
    assert quality.residual_over_noise == pytest.approx(1, abs=0.1)
    assert quality.md_median_mm2_per_s == pytest.approx(0.83e-3, rel=0.05)
    assert quality.b0_over_weighted == pytest.approx(np.exp(0.83), rel=0.1)
    assert quality.attenuating_share > 0.99
    assert quality.order_share > 0.8 and quality.other_order_share < 0.2


def test_the_noise_does_not_depend_on_the_gradient_table(series):
    data, *_ = series
    level = noise_level(data, np.ones(SHAPE, bool))
    assert level == pytest.approx(NOISE, rel=0.1)
    assert noise_level(data[..., ::-1], np.ones(SHAPE, bool)) == pytest.approx(level, rel=1e-3)


def rolled(data):
    return np.concatenate([data[..., :2], np.roll(data[..., 2:], 1, axis=-1)], -1)


def shuffled(data):
    return np.concatenate([data[..., :2], np.random.default_rng(5).permutation(data[..., 2:], axis=-1)], -1)


def without_weighting(data):
    rng = np.random.default_rng(1)
    return data[..., :1] + rng.normal(0, NOISE, data.shape)


ORDERS = {
    "weighted volumes one place later": (rolled, "weighted volumes' rows are one place"),
    "b = 0 last": (lambda data: data[..., ::-1], "reverse order"),
    "all volumes one place later": (lambda data: np.roll(data, 1, axis=-1), "all rows are one place"),
    "weighted volumes in no order": (shuffled, "no better than directions in random order"),
    "no weighting": (without_weighting, "less signal than a weighted one"),
}


@pytest.mark.parametrize("kind", ORDERS)
def test_a_table_of_another_order_or_series_is_a_finding(series, kind):
    data, bvals, bvecs = series
    change, problem = ORDERS[kind]
    _, finding = measure(change(data), bvals, bvecs)
    assert problem in finding.problem
    assert "limit" in finding.value and "dti.limits." in finding.value
    assert finding.remedy and finding.file == "dwi.nii.gz"


@pytest.mark.parametrize(("factor", "md"), [(0.1, "8."), (0.5, "1.6"), (10, "8.")])
def test_b_values_of_another_unit_or_scale_are_a_finding(series, factor, md):
    data, bvals, bvecs = series
    _, finding = measure(data, bvals * factor, bvecs)
    assert "mean diffusivity" in finding.problem
    assert finding.value.startswith(md)


SOUND = FitQuality(0.8e-3, 0.005, 2.3, 0.99, 1.2, 0.95, 0.1, "the rows are in reverse order")
BEYOND = {
    "md_median_mm2_per_s": ({"md_median_mm2_per_s": 2.9e-3}, "2.90e-03 mm2/s; limit 0.0003 to 0.0014"),
    "max_nonpositive_share": ({"nonpositive_share": 0.96}, "0.96 of the voxels; limit 0.3"),
    "min_b0_over_weighted": ({"b0_over_weighted": 0.41}, "ratio 0.41; limit 1.1"),
    "min_attenuating_share": ({"attenuating_share": 0.52}, "it falls in 0.52 of the voxels; limit 0.7"),
    "max_residual_over_noise": ({"residual_over_noise": 14.5}, "14.5 times the noise; limit 5"),
    "min_order_share": ({"order_share": 0.5}, "better in 0.50 of the voxels; limit 0.7"),
    "max_other_order_share": ({"other_order_share": 0.99}, "better in 0.99 of the voxels; limit 0.7"),
}


@pytest.mark.parametrize("name", FitLimits.model_fields)
def test_each_limit_ends_in_a_finding_with_value_limit_and_remedy(name):
    require_plausible(SOUND, FitLimits())
    change, value = BEYOND[name]
    with pytest.raises(DataError) as error:
        require_plausible(replace(SOUND, **change), FitLimits())
    assert error.value.value == f"{value} (dti.limits.{name})"
    assert error.value.remedy


def test_a_series_without_spare_samples_is_checked_by_the_other_numbers(series):
    data, bvals, bvecs = series
    few = np.r_[0, 2:9]
    quality, finding = measure(data[..., few], bvals[few], bvecs[few], max_nonpositive_share=1)
    assert quality.residual_over_noise is quality.order_share is quality.other_order_share is None
    assert finding is None
