"""Fusion of the views of several orientations: views and slices with larger errors have less weight."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from m2m.evaluate.metrics import mean_absolute_error
from m2m.field import field_fusion as of_field
from m2m.models import inference
from m2m.models.fusion import View, average, fusion_of, inverse_variance
from m2m.models.torch_engine import torch_engine
from m2m.networks.translation import Translation
from m2m.options import SliceField
from m2m.options.families.unet import UNet
from m2m.structural.slices import PLANES
from m2m.train import configuration

FEW = SliceField(features=2, hidden=(16,), spacings=(1.2, 2.4, 4.7), steps=150, batch_size=1024)
SHAPE = (14, 16, 12)
ALL = np.ones(SHAPE, bool)


def mae(reference, found, region):
    return mean_absolute_error(reference[..., 0], found[..., 0], region)


def smooth_volume(rng):
    """A smooth volume of about 0 to 1, shape (14, 16, 12, 1)."""
    data = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2)
    return ((data - data.min()) / np.ptp(data)).astype(np.float32)[..., None]


def views_of(images, sds=None):
    logs = [None if sds is None else np.full_like(images[0], np.log(sd)) for sd in sds or images]
    return [View(p, i, log) for p, i, log in zip(PLANES, images, logs, strict=False)]


def test_views_are_weighted_by_the_inverse_of_the_variance_that_a_network_predicts():
    images = [np.full((3, 3, 3, 2), value, np.float32) for value in (0.0, 1.0)]
    found = inverse_variance(views_of(images, (0.1, 0.3)), ALL[:3, :3, :3])
    assert np.allclose(found.image, 0.1)  # weights 9 to 1
    assert np.allclose(found.sds["predicted"], np.sqrt((0.01 + 0.09) / 2))
    assert np.allclose(average(views_of(images, (0.1, 0.3)), ALL).image, 0.5)


def test_without_predicted_variances_a_view_that_differs_from_the_others_has_less_weight(rng):
    reference = smooth_volume(rng)
    noise = [rng.normal(0, sd, reference.shape) for sd in (0.05, 0.05, 0.4)]
    views = views_of([(reference + n).astype(np.float32) for n in noise])
    plain, weighted = (fuse(views, ALL).image for fuse in (average, inverse_variance))
    assert mae(reference, weighted, ALL) < 0.5 * mae(reference, plain, ALL)


def test_two_views_have_equal_weights_and_a_single_view_is_unchanged(rng):
    images = [rng.random((*SHAPE, 1)).astype(np.float32) for _ in range(2)]
    assert np.allclose(inverse_variance(views_of(images), ALL).image, sum(images) / 2, atol=1e-6)
    assert np.allclose(inverse_variance(views_of(images[:1]), ALL).image, images[0], atol=1e-6)


def test_in_a_field_a_corrupted_slice_has_less_weight_and_the_outside_none(rng, monkeypatch):
    monkeypatch.setattr(of_field, "SliceField", lambda: FEW)
    reference = smooth_volume(rng)
    inside = np.zeros(SHAPE, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    images = [np.where(inside[..., None], reference, 50.0).astype(np.float32) for _ in PLANES]
    images[0][:, :, 5] += 1
    views = views_of(images)
    plain, fused = average(views, inside), of_field.by_field(views, inside)
    corrupted = inside & (np.arange(SHAPE[2]) == 5)
    assert mae(reference, fused.image, corrupted) < 0.5 * mae(reference, plain.image, corrupted)
    assert mae(reference, fused.image, inside) < 0.06
    assert np.array_equal(fused.image[~inside], plain.image[~inside])
    assert np.array_equal(fused.sds["views"], plain.sds["views"])


@pytest.mark.parametrize(("fusion", "error"), [("average", 2 / 3), ("inverse-variance", 0.005)])
def test_views_are_fused_by_the_method_of_the_configuration(fusion, error, rng):
    class Biased(torch.nn.Module):
        """Low predicted error in axial slices; wrong in the others, with high predicted error."""

        def forward(self, source, plane, position):
            other = (plane != 0)[:, None, None, None].float()
            return Translation(source + other, log_sd=3 * other - 3 + torch.zeros_like(source))

    source = smooth_volume(rng)[..., 0] + 0.1
    found = inference.translate_volume(
        torch_engine(Biased()), source, np.eye(4), context=1, planes=PLANES, batch_size=8, fuse=fusion_of(fusion, "cpu")
    ).image
    assert np.allclose(found - source, error, atol=1e-3)


def test_fusion_by_a_field_uses_the_model_s_device():
    fuse = fusion_of("field", "meta")
    assert fuse.func is of_field.by_field and fuse.keywords == {"device": "meta"}


def test_the_fingerprint_of_training_does_not_depend_on_what_follows_it():
    keys = ("source", "target", "data_hash", "split_hash", "code_version", "encoder")
    about = dict.fromkeys(keys, "")
    plain, field = UNet(), UNet(fusion="field")
    assert "fusion" not in plain.model_dump() and field.model_dump()["fusion"] == "field"
    assert configuration(about, plain) == configuration(about, field)
    prior = {"network": {"prior": True}}
    alone, averaged = (UNet.model_validate(prior | further) for further in ({}, {"atlas_share": 0.5}))
    assert configuration(about, alone) == configuration(about, averaged)
