"""Scales of images: exact inverses, and the meaning of their limits."""

import numpy as np
import pytest

from m2m.diffusion import tensors
from m2m.diffusion.scales import TOP_DENSITY, log_density, log_tensor, tensor_of_log
from m2m.io import bids
from m2m.io.modalities import MODALITIES


def tissue(rng, shape=(6, 5, 4)):
    root = rng.normal(0, 0.004, (*shape, 3, 3)) + 0.03 * np.eye(3)
    return tensors.from_matrix(root @ np.swapaxes(root, -1, -2))


def test_every_scale_is_inverted_exactly(rng):
    examples = {
        "fa": rng.random((5, 6)),
        "md": rng.uniform(0, 4e-3, (5, 6)),
        "tdi": rng.gamma(1, 9, (5, 6)),
        "dti": tissue(rng),
    }
    assert examples.keys() == {name for name, one in MODALITIES.items() if one.target}
    for name, values in examples.items():
        modality = MODALITIES[name]
        back = modality.unscale(modality.scale(values.astype(np.float32)))
        np.testing.assert_allclose(back, values, rtol=2e-5, atol=1e-8, err_msg=name)


def test_no_streamline_is_zero_and_the_top_density_is_one():
    np.testing.assert_allclose(log_density(np.array([0.0, TOP_DENSITY])), [0, 1])
    assert MODALITIES["tdi"].full_scale == TOP_DENSITY


def test_scaled_tensors_of_tissue_are_of_magnitude_one():
    tissue = {"water": [3e-3] * 3, "callosum": [1.7e-3, 3e-4, 2e-4], "grey": [8e-4] * 3}
    for name, (a, b, c) in tissue.items():
        scaled = log_tensor(np.array([a, 0, 0, b, 0, c]))
        assert np.abs(scaled).max() < 2, name


def test_every_output_of_a_network_is_a_positive_definite_tensor(rng):
    six = tensor_of_log(rng.normal(0, 3, (200, 6)))
    assert np.linalg.eigvalsh(tensors.to_matrix(six.astype(np.float64))).min() > 0


def test_a_missing_tensor_stays_missing():
    assert not log_tensor(np.zeros((2, 6))).any()


def test_a_mirrored_tensor_changes_the_signs_of_its_mirror_factors(rng):
    six, flip = tissue(rng), np.diag([-1.0, 1, 1])
    mirrored = tensors.from_matrix(flip @ tensors.to_matrix(six) @ flip)
    np.testing.assert_allclose(log_tensor(mirrored), log_tensor(six) * MODALITIES["dti"].mirror, atol=1e-6)


@pytest.mark.parametrize("name", MODALITIES)
def test_every_modality_has_its_files_and_channels(name):
    modality = MODALITIES[name]
    assert modality.kind in bids.KINDS
    assert len(modality.mirror) == len(modality.channels)
    assert (modality.native in bids.KINDS) == (modality.nature != "weighted")
    if modality.target:
        assert {modality.synthetic, f"synthsd-{modality.kind}"} <= bids.KINDS.keys()
        assert modality.display and modality.metric_definition
    assert modality.source or modality.target
    assert modality.scaling and modality.described_as
