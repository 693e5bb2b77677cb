"""The Brownian bridge: its points, its samples, and what it is trained on."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_families import small
from torch import nn

from m2m.models.building import build_network, build_objective
from m2m.models.inference import translate_volume
from m2m.models.torch_engine import torch_engine
from m2m.networks.brownian_bridge import BridgeTranslator, TimedUNet, between
from m2m.networks.slice_inputs import SliceInputs
from m2m.objectives.objective import StepContext

PLANES = torch.tensor([0, 1, 2])


def translator(**options):
    torch.manual_seed(0)
    return BridgeTranslator(SliceInputs(3), (8, 16), **options).eval()


def source(n=3, height=21, width=30):
    """Slices with a brain in the middle, whose values are above 0."""
    image = torch.zeros(n, 3, height, width)
    image[..., 4:-4, 4:-4] = 0.2 + torch.rand(n, 3, height - 8, width - 8, generator=torch.Generator().manual_seed(1))
    return image, PLANES[:n], torch.zeros(n, 3, height, width)


def inside(n=3):
    return source(n)[0][:, 1, None] > 0


class Knowing(nn.Module):
    """Predicts the bridge's end from points and times by a formula, and notes the times."""

    def __init__(self, formula):
        super().__init__()
        self.formula, self.times = formula, []

    def forward(self, x, time):
        self.times.append(sorted(set(time.tolist())))
        return self.formula(x[:, :1], time[:, None, None, None])


def test_a_point_of_the_bridge_has_the_mean_and_variance_of_brownian_motion_between_its_ends():
    draw, a, b = torch.Generator().manual_seed(0), 0.3, 0.9
    noise = torch.randn(2, 200_000, generator=draw)
    ends = torch.full((200_000,), a), torch.full((200_000,), b)
    at_once = between(*ends, 0.0, 0.6, 0.5, noise[0])
    # In two steps, of which the second starts where the first ended, the point has the same distribution.
    in_two = between(between(*ends, 0.0, 0.25, 0.5, noise[0]), ends[1], 0.25, 0.6, 0.5, noise[1])
    for point in (at_once, in_two):
        assert point.mean() == pytest.approx(0.4 * a + 0.6 * b, abs=0.003)
        assert point.std() == pytest.approx(0.5 * math.sqrt(0.6 * 0.4), rel=0.01)
    assert torch.equal(between(*ends, 0.25, 1.0, 0.5, noise[0]), ends[1])


def test_samples_that_know_the_end_arrive_there_at_the_times_of_the_steps():
    network = translator(steps=4, samples=3)
    network.unet = Knowing(lambda x, time: torch.full_like(x, 0.7))
    found = network(*source())
    assert network.unet.times == [[0.0], [0.25], [0.5], [0.75]]
    torch.testing.assert_close(found.image[inside()], torch.full_like(found.image[inside()], 0.7))
    assert not found.sample_sd.any()
    assert not found.image[..., :2, :].any(), "outside the brain the map is 0"


def test_samples_spread_as_the_network_leaves_open():
    """A network that takes its point for the end leaves the noise of the steps in, which then is the spread."""
    network = translator(steps=3, samples=200, noise=0.5)
    network.unet = Knowing(lambda x, time: x)
    found = network(*source())
    expected = 0.5 * math.sqrt(1 / 3 * (1 - 1 / 3) + (1 / 3) * (1 / 3) / (2 / 3))
    assert found.sample_sd[inside()].mean() == pytest.approx(expected, rel=0.02)
    start = source()[0][:, 1, None]
    assert (found.image - start)[inside()].abs().mean() < 4 * expected / math.sqrt(200)


@pytest.mark.parametrize("options", [{"steps": 1}, {"samples": 1}, {"noise": 0.0, "steps": 3}])
def test_without_several_samples_there_is_no_spread(options):
    found = translator(**options)(*source())
    assert found.sample_sd is None or found.sample_sd.max() < 1e-6
    assert (found.sample_sd is None) == ("noise" not in options)


def test_a_translation_can_be_made_again_and_does_not_depend_on_the_batch():
    network, (image, planes, position) = translator(), source()
    together = network(image, planes, position)
    for part in ("image", "sample_sd"):
        assert torch.equal(getattr(translator()(image, planes, position), part), getattr(together, part))
        alone = getattr(network(image[1:2], planes[1:2], position[1:2]), part)
        torch.testing.assert_close(alone, getattr(together, part)[1:2])
    assert together.sample_sd[inside()].min() > 0
    assert not [name for name in network.state_dict() if "draws" in name]


@pytest.mark.parametrize("size", [(64, 80), (61, 47)])
def test_the_network_keeps_the_size_and_every_parameter_receives_gradient(size):
    torch.manual_seed(0)
    network = TimedUNet(3, 2, (8, 16, 16))
    bridge = translator()
    assert bridge.end(torch.rand(1, 1, *size), torch.rand(1), torch.rand(1, 3, *size)).shape == (1, 1, *size)
    network(torch.rand(2, 3, 32, 40), torch.tensor([0.1, 0.8])).square().sum().backward()
    # MONAI starts the last convolution of a block at 0: what lies before it learns from the second step on.
    for name, parameter in network.named_parameters():
        if name.endswith("conv2.conv.weight"):
            assert parameter.grad.abs().sum() > 0, name
            parameter.data += 0.01 * torch.randn(parameter.shape)
    network.zero_grad()
    network(torch.rand(2, 3, 32, 40), torch.tensor([0.1, 0.8])).square().sum().backward()
    assert [name for name, p in network.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_the_time_changes_the_prediction():
    torch.manual_seed(0)
    network = TimedUNet(3, 1, (8, 16))
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    x = torch.rand(1, 3, 32, 40)
    early, late = (network(x, torch.tensor([t])) for t in (0.1, 0.9))
    assert (early - late).abs().max() > 1e-3


def batch():
    draw, (image, planes, position) = torch.Generator().manual_seed(3), source()
    mask = inside().float()
    mask[..., :10] = 0
    target = 0.5 * torch.rand(3, 1, *mask.shape[2:], generator=draw)
    return {"source": image, "target": target, "mask": mask, "brain": mask, "plane": planes, "position": position}


def trained_on(objective, network):
    """Points and times that the network gets in a step."""
    points = []
    network.unet = Knowing(lambda x, time: points.append(x.clone()) or x)
    objective.translate(network, batch())
    return points[0], torch.tensor(network.unet.times[0])


def test_it_is_trained_on_points_of_the_bridge_to_the_masked_target():
    network = translator(noise=0.0)
    network.unet = Knowing(lambda x, time: torch.cat([x, time.expand_as(x)], 1))
    given = batch()
    found = build_objective(small("bridge")).translate(network, given).image
    point, time = found.chunk(2, 1)
    expected = (1 - time) * given["source"][:, 1, None] + time * given["target"] * given["mask"]
    torch.testing.assert_close(point, expected)
    assert len(time.unique()) == 3, "a time of its own for each slice"
    noisy, times = trained_on(build_objective(small("bridge")), translator(noise=5.0))
    assert torch.equal(time.unique().sort().values, times), "time does not depend on the noise"
    noisy = noisy[..., : expected.shape[2], : expected.shape[3]]  # without the padding
    assert (noisy - expected)[inside()].std() > 1 and not noisy[..., :2, :].any()


def test_a_resumed_objective_draws_on():
    first = build_objective(small("bridge"))
    trained_on(first, translator())
    second = build_objective(small("bridge"))
    second.load_state_dict(first.state_dict())
    (a, times_a), (b, times_b) = (trained_on(one, translator()) for one in (first, second))
    assert torch.equal(a, b) and torch.equal(times_a, times_b)
    assert not torch.equal(trained_on(first, translator())[1], times_a)


def test_the_loss_is_the_squared_error_inside_the_mask():
    objective, given = build_objective(small("bridge")), batch()
    network = translator()
    network.unet = Knowing(lambda x, time: torch.full_like(x, 0.25))
    output = objective.translate(network, given)
    (name, value), *others = objective.generator_terms(StepContext(given, output, network)).items()
    expected = (0.25 - given["target"])[given["mask"] > 0].square().mean()
    assert name == "mse" and not others and value == pytest.approx(float(expected), rel=1e-5)


def test_the_spread_of_samples_is_a_candidate_of_the_volumes_deviation():
    data = np.zeros((23, 27, 21), np.float32)
    data[4:-4, 4:-4, 4:-4] = np.random.default_rng(0).random((15, 19, 13)) + 0.1
    network = torch_engine(build_network(small("bridge", network={"widths": (8, 8), "context": 1})))
    options = {"context": 1, "planes": ("axial", "coronal"), "batch_size": 9}
    found = translate_volume(network, data, np.eye(4), **options)
    assert set(found.sds) == {"views", "samples"}
    views = [translate_volume(network, data, np.eye(4), **options | {"planes": (p,)}) for p in options["planes"]]
    expected = np.sqrt(sum(view.sds["samples"] ** 2 for view in views) / 2)
    assert np.allclose(found.sds["samples"], expected, atol=1e-6) and expected.max() > 0
    mirrored = translate_volume(network, data[::-1], np.eye(4), **options)
    both = translate_volume(network, data, np.eye(4), **options, mirror=(1,))
    expected = np.sqrt((found.sds["samples"] ** 2 + mirrored.sds["samples"][::-1] ** 2) / 2)
    assert np.allclose(both.sds["samples"], expected, atol=1e-5)


def test_targets_that_are_corrected_on_the_way_are_refused():
    with pytest.raises(ValidationError, match="correct_labels is not possible"):
        small("bridge", correct_labels=True)
