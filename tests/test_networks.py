import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nibabel.affines import apply_affine
from safetensors.torch import load, save
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from m2m.networks import octave
from m2m.networks.basic_unet import UNetTranslator
from m2m.networks.discriminators import ImageDiscriminator, PatchDiscriminator, brain_crops
from m2m.networks.feature_encoder import Autoencoder, Vgg19Features
from m2m.networks.octave import Octave, OctaveConv2d, OctaveTranslator
from m2m.networks.published import PublishedTranslator
from m2m.networks.slice_inputs import SliceInputs, TemplateMap, wave_features
from m2m.networks.translation import Translation

PLANES = torch.tensor([0, 1, 2])


def translator(alpha: float = 0.5, context: int = 3, entry: bool = True) -> OctaveTranslator:
    torch.manual_seed(0)
    return OctaveTranslator(SliceInputs(context), (8, 8, 12, 12), alpha, entry=entry)


def source(height: int, width: int, context: int = 3) -> torch.Tensor:
    return torch.rand(3, context, height, width, generator=torch.Generator().manual_seed(1))


def translate(network: nn.Module, x: torch.Tensor, planes: torch.Tensor) -> Translation:
    """Translate, with the row and column of each pixel as its position in mm."""
    rows, columns = torch.meshgrid(*(torch.arange(n).float() for n in x.shape[-2:]), indexing="ij")
    position = torch.stack([columns, rows, rows]).expand(len(x), 3, *x.shape[-2:])
    return network(x, planes, position)


def disc(height: int, width: int, radius: float, row: float, column: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (((rows - row) ** 2 + (columns - column) ** 2) <= radius**2).float()[None, None]


def test_octave_convolution_without_low_branch_is_a_plain_convolution():
    octave_conv = OctaveConv2d((5, 0), (7, 0))
    plain = nn.Conv2d(5, 7, 3, padding=1, bias=False)
    plain.weight = octave_conv.high_to_high.weight
    x = torch.rand(2, 5, 16, 24)
    result = octave_conv(Octave(x, None))
    torch.testing.assert_close(result.high, plain(x), rtol=0, atol=0)
    assert result.low is None
    assert [name for name, _ in octave_conv.named_parameters()] == ["high_to_high.weight"]


def chen(conv: OctaveConv2d, high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The definition of Chen et al. (2019), written plainly."""

    def convolved(x: torch.Tensor, part: nn.Conv2d) -> torch.Tensor:
        return F.conv2d(x, part.weight, padding=part.weight.shape[-1] // 2)

    pooled = high.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    from_low = convolved(low, conv.low_to_high).repeat_interleave(2, 2).repeat_interleave(2, 3)
    from_high = convolved(pooled, conv.high_to_low)
    return convolved(high, conv.high_to_high) + from_low, convolved(low, conv.low_to_low) + from_high


@pytest.mark.parametrize("kernel, exchange", [(3, None), (3, 1), (1, None)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_octave_convolution_exchanges_the_branches_as_chen_defines(kernel, exchange, order):
    torch.manual_seed(0)
    conv = OctaveConv2d((4, 2), (3, 5), kernel, exchange=exchange).to(memory_format=order)
    shapes = (2, 4, 8, 12), (2, 2, 4, 6)
    given = [torch.rand(shape).contiguous(memory_format=order).requires_grad_() for shape in shapes]
    results, expected = conv(Octave(*given)), chen(conv, *given)
    wanted = [torch.rand_like(part) for part in expected]
    leaves = [*given, *conv.parameters()]
    for found, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(found, reference)
    gradients = (torch.autograd.grad(parts, leaves, wanted) for parts in (results, expected))
    for found, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(found, reference)


# 0.05 leaves the narrow levels without a low branch, and the wide ones with one.
@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("size", [(64, 80), (61, 47), (9, 20)])
def test_output_has_the_size_of_the_input_and_image_is_low_plus_high(alpha, size):
    translation = translate(translator(alpha), source(*size), PLANES)
    for part in translation[:3]:
        assert part.shape == (3, 1, *size)
    torch.testing.assert_close(translation.image, translation.low + translation.high)


def test_padding_inside_equals_padding_outside():
    network, x = translator(), source(61, 77)
    padded = translate(network, F.pad(x, (0, 3, 0, 3)), PLANES).image[..., :61, :77]
    torch.testing.assert_close(translate(network, x, PLANES).image, padded, rtol=0, atol=0)


def without_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    # Mean and deviation of a norm depend on the whole slice and are non-linear: with them, every
    # receptive field would look large, and a network without activations non-linear.
    monkeypatch.setattr(octave.PlaneNorm, "forward", lambda self, x, plane: x)


@pytest.mark.parametrize("part", ["image", "low", "high"])
def test_translator_is_not_affine_even_without_the_norms_statistics(monkeypatch, part):
    without_statistics(monkeypatch)
    network = translator()
    a, b = source(32, 40) - 0.5, source(32, 40).flip(3) - 0.5
    with torch.no_grad():
        f_sum, f_a, f_b, f_0 = (getattr(translate(network, x, PLANES), part) for x in (a + b, a, b, 0 * a))
    nonlinearity = (f_sum - f_a - f_b + f_0).abs().mean()
    assert nonlinearity > 0.02 * f_a.std()


@pytest.mark.parametrize("size, pixel", [((80, 80), (8, 8)), ((144, 144), (72, 72))])
def test_receptive_field_covers_the_brain_without_the_norms_statistics(monkeypatch, size, pixel):
    without_statistics(monkeypatch)
    x = source(*size).requires_grad_()
    for part in ("image", "low", "high"):
        output = getattr(translate(translator(), x, PLANES), part)
        (gradient,) = torch.autograd.grad(output[0, 0, *pixel], x)
        rows, columns = gradient[0].abs().sum(0).nonzero().T
        distance = ((rows - pixel[0]) ** 2 + (columns - pixel[1]) ** 2).float().sqrt()
        assert distance.max() > 60
        assert not gradient[1:].any()


def test_skip_connections_pass_detail_in_each_branch(monkeypatch):
    without_statistics(monkeypatch)
    network = translator()
    for up in network.up:
        for weight in up.parameters():
            nn.init.zeros_(weight)
    x = source(32, 40).requires_grad_()
    for part in ("low", "high"):
        (gradient,) = torch.autograd.grad(getattr(translate(network, x, PLANES), part)[0, 0, 16, 20], x)
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("alpha, entry", [(0.0, True), (0.0, False), (0.5, True), (0.5, False)])
def test_every_parameter_of_the_translator_receives_gradient(alpha, entry):
    network = translator(alpha, entry=entry)
    assert (network.entry is not None) == entry
    translation = translate(network, source(32, 40), PLANES)
    (translation.image.square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_a_slice_does_not_depend_on_the_batch_around_it():
    network, x = translator(), source(32, 40)
    together = translate(network, x, PLANES).image
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], translate(network, x[i : i + 1], PLANES[i : i + 1])[0])


def test_orientation_changes_the_translation_and_learns_alone():
    network, x = translator(), source(32, 40)[:1]
    translate(network, x, torch.tensor([1])).image.square().sum().backward()
    norm = network.decode[0].norms[1].high
    assert norm.scale.weight.grad[1].abs().sum() > 0
    assert not norm.scale.weight.grad[[0, 2]].any()
    with torch.no_grad():
        norm.scale.weight[1] *= 2
        sagittal, coronal = (translate(network, x, torch.tensor([p])).image for p in (2, 1))
    assert (sagittal - coronal).abs().max() > 1e-4


def test_weights_saved_and_loaded_give_the_same_bits():
    network, x = translator(), source(32, 40)
    copy = OctaveTranslator(SliceInputs(3), (8, 8, 12, 12))
    copy.load_state_dict(load(save(network.state_dict())))
    assert torch.equal(translate(copy, x, PLANES).image, translate(network, x, PLANES).image)


@pytest.mark.parametrize(
    "arguments, word",
    [
        ((4, (8, 8)), "odd"),
        ((5, (8, 8), 1.0), "alpha"),
        ((5, (8,)), "widths"),
        ((5, (8, 1)), "widths"),
    ],
)
def test_impossible_networks_are_refused_by_name(arguments, word):
    context, *others = arguments
    with pytest.raises(ValueError, match=word):
        OctaveTranslator(SliceInputs(context), *others)


def test_image_discriminator_uses_the_source_and_every_parameter():
    torch.manual_seed(0)
    discriminator = ImageDiscriminator(4)
    image, condition = torch.rand(2, 1, 37, 50), torch.rand(2, 1, 37, 50, requires_grad=True)
    logits = discriminator(image, condition)
    assert logits.shape == (2, 1)
    logits.sum().backward()
    assert condition.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in discriminator.parameters())


def test_patch_discriminator_averages_references_and_classifies_crops_one_by_one():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4, 16)
    crops, references = torch.rand(2, 3, 1, 16, 16), torch.rand(2, 5, 1, 16, 16)
    logits = discriminator(crops, references)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(discriminator(crops, references[:, [4, 2, 0, 1, 3]]), logits)
    torch.testing.assert_close(discriminator(crops[:, [2, 0, 1]], references), logits[:, [2, 0, 1]])
    swapped = discriminator(crops, references.flip(0))
    assert (swapped - logits).abs().min() > 1e-6, "references of another image must matter"
    logits.sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in discriminator.parameters())


@pytest.mark.parametrize("size", [4, 12])
def test_crop_sizes_that_cannot_be_halved_to_four_are_refused(size):
    with pytest.raises(ValueError, match=f"got {size}"):
        PatchDiscriminator(4, size)


def coordinates(height: int, width: int) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).float()[None]


def test_crops_are_centred_in_the_brain_half_of_them_mirrored_and_have_the_requested_sides():
    mask = disc(48, 64, 9, 20, 40)
    # An odd number of pixels: the middle one is the centre, and its value the coordinates.
    crops = brain_crops(coordinates(48, 64), mask, 400, (0.125, 0.25), 5, torch.Generator().manual_seed(0))
    assert crops.shape == (1, 400, 2, 5, 5)
    row, column = crops[0, :, :, 2, 2].T
    torch.testing.assert_close(row, row.round(), rtol=0, atol=1e-3)
    assert mask[0, 0, row.round().long(), column.round().long()].all()
    assert row.unique().numel() > 10 and column.unique().numel() > 10
    side = (crops[0, :, 0, 3, 2] - row) * 5
    assert side.min() >= 0.125 * 64 - 1e-2 and side.max() <= 0.25 * 64 + 1e-2
    assert side.std() > 1
    direction = torch.sign(crops[0, :, 1, 2, 3] - column)
    assert 150 < (direction < 0).sum() < 250


def test_a_crop_as_large_as_its_pixels_copies_them():
    image, mask = torch.rand(1, 1, 36, 36), disc(36, 36, 0, 15, 20)
    crops = brain_crops(image, mask, 6, (0.25, 0.25), 9, torch.Generator().manual_seed(0))
    expected = image[0, :, 11:20, 16:25]
    for crop in crops[0]:
        nearest = min((crop - x).abs().max() for x in (expected, expected.flip(-1)))
        assert nearest < 1e-4


def test_every_masked_pixel_is_as_likely_to_be_a_centre():
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, [2, 5, 9, 13], [3, 3, 12, 8]] = 1
    crops = brain_crops(coordinates(16, 16), mask, 4000, (0.25, 0.25), 5, torch.Generator().manual_seed(0))
    _, counts = crops[0, :, 0, 2, 2].round().unique(return_counts=True)
    assert counts.numel() == 4
    assert ((counts - 1000).abs() < 120).all()


def test_crops_follow_the_random_generator_and_an_empty_mask_is_allowed():
    image, mask = torch.rand(2, 1, 32, 40), torch.zeros(2, 1, 32, 40)
    first, again, other = (
        brain_crops(image, mask, 4, (0.125, 0.25), 16, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.isfinite().all()


def test_only_a_network_with_position_depends_on_the_position():
    x, planes = torch.ones(1, 3, 16, 16), torch.tensor([0])
    positions = [torch.zeros(1, 3, 16, 16), torch.full((1, 3, 16, 16), 20.0)]
    for with_position in (True, False):
        torch.manual_seed(0)
        network = OctaveTranslator(SliceInputs(3, with_position), (8, 8))
        first, second = (network(x, planes, position).image for position in positions)
        assert torch.equal(first, second) != with_position


def test_wave_features_are_sines_and_cosines_of_the_position():
    position = torch.tensor([25.0, -50.0, 0.0]).view(1, 3, 1, 1)
    waves = wave_features(position).flatten().tolist()
    expected = [
        f(2 * math.pi * x / wave) for wave in (200, 100, 50) for f in (math.sin, math.cos) for x in (25, -50, 0)
    ]
    assert waves == pytest.approx(expected, abs=1e-6)


def test_the_published_generator_has_the_published_size_and_cost():
    torch.manual_seed(0)
    network = PublishedTranslator()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(221_000, rel=0.01)
    encoder, decoder = (
        sum(p.numel() for part in parts for p in part.parameters())
        for parts in (
            (network.stem, network.encode),
            (network.decode, network.last, network.high, network.low, network.head),
        )
    )
    assert encoder == pytest.approx(82_000, rel=0.01) and decoder == pytest.approx(139_000, rel=0.01)
    with FlopCounterMode(display=False) as counter:
        translate(network, torch.zeros(1, 1, 256, 256), PLANES[:1])
    assert counter.get_total_flops() / 2 == pytest.approx(2.6e9, rel=0.1)


def test_the_published_generator_keeps_the_size_and_sums_its_bands():
    network = PublishedTranslator()
    translation = translate(network, source(61, 47, 1), PLANES)
    assert translation.image.shape == (3, 1, 61, 47) and translation.log_sd is None
    torch.testing.assert_close(translation.image, translation.low + translation.high)
    # No bias, and piecewise linear: twice the input, twice the image.
    doubled = translate(network, 2 * source(61, 47, 1), PLANES)
    torch.testing.assert_close(doubled.image, 2 * translation.image, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 80), (61, 47)])
def test_a_u_net_keeps_the_size_and_every_parameter_receives_gradient(size):
    torch.manual_seed(0)
    network = UNetTranslator(SliceInputs(3, position=True), (4, 4, 8, 8, 8), 2)
    image = translate(network, source(*size), PLANES).image
    assert image.shape == (3, 2, *size)
    image.square().sum().backward()
    # Instance normalisation removes a bias that is added before it.
    weights = [p for name, p in network.named_parameters() if not name.endswith("conv.bias")]
    assert all(p.grad.abs().sum() > 0 for p in weights)


def test_the_encoder_halves_each_level_and_the_autoencoder_keeps_the_size():
    network = Autoencoder(1, (4, 6, 8))
    image = torch.rand(2, 1, 24, 32)
    shapes = [tuple(feature.shape) for feature in network.encoder(image)]
    assert shapes == [(2, 4, 24, 32), (2, 6, 12, 16), (2, 8, 6, 8)]
    assert network(torch.rand(2, 1, 23, 30)).shape == (2, 1, 23, 30)


def test_vgg19_has_torchvisions_names_and_taps_five_levels():
    network = Vgg19Features()
    names = set(network.state_dict())
    # torchvision.models.vgg19: indices of the convolutions in `features`.
    indices = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
    assert names == {f"features.{i}.{kind}" for i in indices for kind in ("weight", "bias")}
    features = network(torch.rand(2, 1, 32, 32))
    assert [f.shape[1] for f in features] == [64, 128, 256, 512, 512]
    assert [f.shape[-1] for f in features] == [32, 16, 8, 4, 2]


def test_a_template_map_is_sampled_at_the_position(rng):
    """A linear function of position is reproduced between voxels; the value is 0 outside the map."""
    affine = np.array([[3.0, 0, 0, -20], [0, 4, 0, -30], [0, 0, 5, -25], [0, 0, 0, 1]])
    voxels = np.moveaxis(np.indices((14, 15, 12)), 0, -1)
    mm = apply_affine(affine, voxels)  # (X, Y, Z, 3)
    values = torch.from_numpy(np.stack([mm[..., 0] - mm[..., 2], mm[..., 1]]))
    template = TemplateMap(values.float(), torch.from_numpy(np.linalg.inv(affine)).float())
    inside = torch.from_numpy(rng.uniform((-19, -29, -24), (18, 25, 29), (2, 4, 5, 3))).float()
    position = inside.movedim(-1, 1)  # (N, 3, H, W)
    found = template(position)
    expected = torch.stack([position[:, 0] - position[:, 2], position[:, 1]], 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    assert not template(position + 200).any()


def test_a_network_uses_its_prior_and_saves_it_with_its_weights():
    torch.manual_seed(0)
    prior = TemplateMap(torch.rand(1, 8, 8, 8), torch.eye(4))
    network = OctaveTranslator(SliceInputs(3, prior=prior), (8, 8))
    x, position = torch.ones(1, 3, 16, 16), 7 * torch.rand(1, 3, 16, 16)
    before = network(x, PLANES[:1], position).image
    assert {"inputs.prior.values", "inputs.prior.to_voxel"} <= set(network.state_dict())
    assert not [name for name, _ in network.named_parameters() if "prior" in name]
    prior.values += 1
    assert not torch.equal(network(x, PLANES[:1], position).image, before)
