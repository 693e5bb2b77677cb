"""Spectra of images whose power and coherence are known."""

import numpy as np
import pytest
from scipy import ndimage

from m2m.evaluate.spectra import N_SHELLS, spectrum

SHAPE, SPACING = (40, 48, 44), np.array([3.0, 3.0, 3.0])


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).normal(size=(2, *SHAPE))


@pytest.fixture(scope="module")
def mask():
    axes = [np.linspace(-1, 1, n) for n in SHAPE]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return x**2 + y**2 + z**2 < 0.8


def test_white_noise_has_the_power_of_its_variance_at_every_frequency(noise, mask):
    found = spectrum(0.5 + 0.2 * noise[0], noise[1], mask, SPACING)
    # Density of white noise: variance times the volume of a voxel.
    assert found.reference_power[6:] == pytest.approx(0.2**2 * 27, rel=0.12)
    assert found.synthetic_power[3:].mean() == pytest.approx(27, rel=0.03)
    assert found.frequency_per_mm[-1] < 1 / 6 < found.frequency_per_mm[-1] + 1 / 6 / N_SHELLS


def test_an_image_is_coherent_with_itself_whatever_its_level_and_contrast(noise, mask):
    found = spectrum(noise[0], 5 + 0.3 * noise[0], mask, SPACING)
    assert found.coherence[1:] == pytest.approx(1, abs=1e-4)
    assert found.metrics()["high_coherence"] == pytest.approx(1, abs=1e-4)
    assert found.metrics()["spectrum_error"] == pytest.approx(-np.log10(0.3**2), rel=1e-3)
    assert spectrum(noise[0], -noise[0], mask, SPACING).coherence[1:] == pytest.approx(-1, abs=1e-4)


def test_independent_images_in_one_mask_are_not_coherent(noise, mask):
    """The mask's edge, which both have, is not taken for agreement."""
    a, b = (3 + 0.1 * image for image in noise)
    assert np.abs(spectrum(a, b, mask, SPACING).coherence[3:]).max() < 0.2
    assert abs(spectrum(a, b, mask, SPACING).metrics()["high_coherence"]) < 0.02


def test_added_noise_lowers_coherence_as_theory_predicts(noise, mask):
    found = spectrum(noise[0], noise[0] + 0.5 * noise[1], mask, SPACING)
    assert found.metrics()["high_coherence"] == pytest.approx(1 / np.sqrt(1 + 0.5**2), abs=0.02)


def test_blur_lowers_power_by_the_gaussian_transfer_function_and_keeps_coherence(noise, mask):
    sigma_mm = 2.0
    blurred = ndimage.gaussian_filter(noise[0], sigma_mm / 3, truncate=8)
    found = spectrum(noise[0], blurred, np.ones(SHAPE, bool), SPACING)
    middle = slice(3, N_SHELLS // 2)
    gain = np.exp(-((2 * np.pi * found.frequency_per_mm[middle] * sigma_mm) ** 2))
    assert found.synthetic_power[middle] / found.reference_power[middle] == pytest.approx(gain, rel=0.1)
    assert found.coherence[middle].min() > 0.95


def test_nothing_outside_the_mask_changes_a_spectrum(noise, mask):
    before = spectrum(*noise, mask, SPACING)
    after = spectrum(*(np.where(mask, image, 7) for image in noise), mask, SPACING)
    assert np.array(after) == pytest.approx(np.array(before), rel=1e-4, nan_ok=True)


def test_a_constant_map_has_no_spectrum_rather_than_a_wrong_one(noise, mask):
    values = spectrum(noise[0], np.zeros(SHAPE), mask, SPACING).metrics()
    assert np.isnan(values["spectrum_error"]) and np.isnan(values["high_coherence"])
