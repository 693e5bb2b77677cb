"""Inference on a whole volume: the same slices as in training, views averaged, voxels in order."""

import numpy as np
import pytest
import torch
from small_cohort import write_cohort

from m2m.io.errors import DataError
from m2m.models import inference
from m2m.models.torch_engine import torch_engine
from m2m.networks.translation import Translation
from m2m.train.dataset import find_subjects, whole_subject

PLANES = ("axial", "coronal", "sagittal")
SHAPE = (23, 27, 21)


def volume():
    return np.random.default_rng(0).random(SHAPE).astype(np.float32)


class Neighbour(torch.nn.Module):
    """Returns one of its input slices."""

    def __init__(self, number):
        super().__init__()
        self.number, self.largest = number, 0

    def forward(self, source, plane, position):
        self.largest = max(self.largest, len(source))
        return Translation(source[:, self.number, None])


def subject_to_mni(subject):
    """From voxels of a subject's volume to MNI152 mm."""
    return np.array(subject.record["grid_to_mni"]) @ np.array(subject.record["affine"])


@pytest.mark.parametrize("batch_size", [1, 5, 100])
@pytest.mark.parametrize("planes", [("axial",), ("coronal",), ("sagittal",), PLANES])
def test_an_identity_network_returns_the_volume(planes, batch_size):
    network, data = Neighbour(2), volume()
    found = inference.translate_volume(
        torch_engine(network), data, np.eye(4), context=5, planes=planes, batch_size=batch_size
    )
    assert set(found.sds) == ({"views"} if len(planes) > 1 else set())
    assert all(sd.max() < 1e-3 for sd in found.sds.values())
    assert np.allclose(found.image, data, atol=1e-6)
    assert network.largest <= batch_size


def test_channels_of_a_network_keep_their_order():
    data = volume()

    class Both(torch.nn.Module):
        def forward(self, source, plane, position):
            return Translation(torch.cat([source, -2 * source], dim=1))

    found = inference.translate_volume(
        torch_engine(Both()), data, np.eye(4), context=1, planes=PLANES, batch_size=8
    ).image
    assert found.shape == (*SHAPE, 2)
    assert np.allclose(found[..., 0], data) and np.allclose(found[..., 1], -2 * data)


def test_neighbouring_slices_are_in_order_and_zero_beyond_the_volume():
    data = volume()
    options = {"context": 3, "planes": ("axial",), "batch_size": 4}
    below = inference.translate_volume(torch_engine(Neighbour(0)), data, np.eye(4), **options).image
    above = inference.translate_volume(torch_engine(Neighbour(2)), data, np.eye(4), **options).image
    assert np.array_equal(below[..., 1:], data[..., :-1]) and not below[..., 0].any()
    assert np.array_equal(above[..., :-1], data[..., 1:]) and not above[..., -1].any()


def test_slices_of_translation_are_slices_of_training(tmp_path):
    """The network has the same inputs in both."""
    subject = find_subjects(tmp_path / "slices", write_cohort(tmp_path), "t1", "fa")[0]["train"][0]
    inputs = {}

    class Recording(Neighbour):
        def forward(self, source, plane, position):
            inputs.setdefault(int(plane[0]), []).append(torch.cat([source, position], 1))
            return super().forward(source, plane, position)

    source = subject.volume("t1").data
    inference.translate_volume(
        torch_engine(Recording(1)), source, subject_to_mni(subject), context=3, planes=PLANES, batch_size=7
    )
    for number, plane in enumerate(PLANES):
        batches = whole_subject(subject, plane, "t1", "fa", 3, 9)
        training = torch.cat([torch.cat([b["source"], b["position"]], 1) for b in batches])
        translation = torch.cat(inputs[number])
        with_brain = [s for s in translation if s[1].any()]
        torch.testing.assert_close(torch.stack(with_brain), training, msg=plane)


def test_the_deviation_over_views_is_that_of_the_orientations():
    """Each orientation adds its own constant, so that the deviation over views is known."""

    class Biased(torch.nn.Module):
        def forward(self, source, plane, position):
            image = source + 0.3 * (plane[:, None, None, None] - 1)
            return Translation(image, log_sd=torch.full_like(image, 0.2).log())

    data = volume()
    found = inference.translate_volume(torch_engine(Biased()), data, np.eye(4), context=1, planes=PLANES, batch_size=8)
    assert np.allclose(found.image, data, atol=1e-6)
    assert np.allclose(found.sds["views"], 0.3, atol=1e-5)
    assert np.allclose(found.sds["predicted"], 0.2, atol=1e-5)


@pytest.mark.parametrize("factors", [(1,), (1, -1)])
def test_the_prediction_of_the_mirrored_volume_is_mirrored_back(factors):
    """Positions and channels of the mirrored volume are mirrored too."""
    data, to_mni = volume(), np.diag([3.0, 3, 3, 1])
    to_mni[:3, 3] = (-31, -40, -30)
    calls = []

    class Positioned(torch.nn.Module):
        def forward(self, source, plane, position):
            calls.append(position[:, 0])
            # The second channel changes sign under mirroring, as Dxy does.
            parts = [source, source * position[:, :1]][: len(factors)]
            return Translation(torch.cat(parts, dim=1))

    options = {"context": 1, "planes": PLANES, "batch_size": 8}
    alone = inference.translate_volume(torch_engine(Positioned()), data, to_mni, **options)
    once = len(calls)
    both = inference.translate_volume(torch_engine(Positioned()), data, to_mni, **options, mirror=factors)
    assert len(calls) == 3 * once
    assert np.allclose(both.image, alone.image, atol=1e-4)
    assert both.sds["views"].max() < 1e-3


def test_slices_without_source_in_their_context_are_not_translated_and_stay_0():
    data = np.zeros(SHAPE, np.float32)
    data[:, :, 8:11] = 1
    network = Neighbour(1)
    counts = []
    network.register_forward_hook(lambda _, inputs, __: counts.append(len(inputs[0])))
    found = inference.translate_volume(
        torch_engine(network), data, np.eye(4), context=3, planes=("axial",), batch_size=2
    )
    assert np.array_equal(found.image, data)
    assert sum(counts) == 5, "three slices, and one neighbour on each side"


def test_an_empty_source_is_bad_data():
    with pytest.raises(DataError, match="source is empty"):
        inference.translate_volume(
            torch_engine(Neighbour(0)), np.zeros(SHAPE, np.float32), np.eye(4), context=1, planes=PLANES, batch_size=2
        )
