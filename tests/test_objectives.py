import math

import pytest
import torch

from m2m import options
from m2m.models.building import build_network, build_objective
from m2m.networks.feature_encoder import SliceEncoder
from m2m.networks.octave import OctaveTranslator
from m2m.networks.published import PublishedTranslator
from m2m.networks.slice_inputs import SliceInputs
from m2m.networks.translation import Translation
from m2m.objectives import losses
from m2m.objectives.objective import Objective, StepContext
from m2m.options.families.cyclegan import CycleGan
from m2m.options.families.macro2micro import Macro2Micro
from m2m.options.families.macro2micro_2023 import Published2023
from m2m.options.families.pix2pix import Pix2Pix
from m2m.options.families.unet import UNet

TERMS = ("l1", "l1_low_frequency", "l1_high_frequency", "ms_ssim", "adversarial", "patch_adversarial")
SMALL = options.Discriminators(width=8, crops=4, crop_size=8)


def with_terms(**weights: float) -> Objective:
    """Objective with these terms only; without arguments, all terms with their default weights."""
    if weights:
        weights = dict.fromkeys((*TERMS, "log_sd"), 0.0) | weights
    torch.manual_seed(0)
    return with_losses(options.Losses(**weights))


def with_losses(weights: options.Losses, channels=1, encoder=None, discriminators=SMALL, seed=5) -> Objective:
    """Objective of Macro2Micro with these weights."""
    training = options.Training(seed=seed)
    model = Macro2Micro(losses=weights, discriminators=discriminators, training=training)
    return build_objective(model, channels, encoder)


def context(batch, output, network=None, adversarial=True) -> StepContext:
    """Context of the first step."""
    return StepContext(batch, output, network, 0, adversarial)


def generator() -> OctaveTranslator:
    torch.manual_seed(1)
    return OctaveTranslator(SliceInputs(3), (4, 6, 8))


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    brain, mask = torch.zeros(3, 1, 32, 40), torch.zeros(3, 1, 32, 40)
    brain[:, :, 4:28, 5:35] = 1
    mask[:, :, 8:28, 5:30] = 1
    return {
        "source": torch.rand(3, 3, 32, 40, generator=draw) * brain,
        "target": torch.rand(3, 1, 32, 40, generator=draw) * mask,
        "mask": mask,
        "brain": brain,
        "plane": torch.tensor([0, 1, 2]),
        "position": 100 * torch.rand(3, 3, 32, 40, generator=draw) - 50,
    }


def translate(network: OctaveTranslator, batch: dict[str, torch.Tensor]) -> Translation:
    return network(batch["source"], batch["plane"], batch["position"])


def discriminator_parameters(objective: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for network in objective.discriminators.values() for p in network.parameters()]


@pytest.mark.parametrize("term", ["l1", "ms_ssim", "adversarial", "patch_adversarial"])
def test_each_term_alone_reaches_every_parameter_of_the_generator(batch, term):
    network = generator()
    terms = with_terms(**{term: 1.0}).generator_terms(context(batch, translate(network, batch)))
    assert list(terms) == [term]
    terms[term].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("term", TERMS)
def test_each_term_has_gradient_to_every_channel_of_a_tensor(batch, term):
    torch.manual_seed(0)
    objective = with_losses(options.Losses(**(dict.fromkeys(TERMS, 0.0) | {term: 1.0})), channels=6)
    six = batch | {"target": torch.randn(3, 6, 32, 40) * batch["mask"]}
    images = [torch.randn(3, 6, 32, 40, requires_grad=True) for _ in range(3)]
    objective.generator_terms(context(six, Translation(*images)))[term].backward()
    (gradient,) = [image.grad for image in images if image.grad is not None]
    assert (gradient.abs().sum(dim=(0, 2, 3)) > 0).all()
    assert not gradient[:, :, :8].any(), "outside the mask the translation is free"


@pytest.mark.parametrize("term", ["l1_low_frequency", "l1_high_frequency"])
def test_each_band_reaches_its_own_head_only(batch, term):
    network = generator()
    terms = with_terms(**{term: 1.0}).generator_terms(context(batch, translate(network, batch)))
    terms[term].backward()
    heads = {"l1_low_frequency": network.low_head.weight.grad, "l1_high_frequency": network.high_head.weight.grad}
    own = heads.pop(term)
    (other,) = heads.values()
    assert own.abs().sum() > 0
    assert other is None or not other.any()


def test_discriminator_step_leaves_the_generators_gradients_none(batch):
    network, objective = generator(), with_terms()
    terms = objective.discriminator_terms(context(batch, translate(network, batch)))
    assert set(terms) == {"image_discriminator", "patch_discriminator"}
    sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(p.grad.abs().sum() > 0 for p in discriminator_parameters(objective))


def test_discriminators_are_bit_identical_after_the_generators_step(batch):
    network, objective = generator(), with_terms()
    before = [p.detach().clone() for p in discriminator_parameters(objective)]
    optimizer = torch.optim.Adam([*network.parameters(), *objective.parameters()], 0.1)
    sum(objective.generator_terms(context(batch, translate(network, batch))).values()).backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in discriminator_parameters(objective))
    assert all(parameter.requires_grad for parameter in discriminator_parameters(objective))
    for old, new in zip(before, discriminator_parameters(objective), strict=True):
        assert torch.equal(old, new)


def test_terms_sum_to_the_total_of_each_term_alone(batch):
    translation = translate(generator(), batch)
    weights = dict(zip(TERMS, (1.0, 0.5, 0.25, 2.0, 0.1, 0.2), strict=True))
    full = with_terms(**weights)
    total = sum(full.generator_terms(context(batch, translation)).values())
    alone = 0.0
    for name, weight in weights.items():
        objective = with_terms(**{name: 1.0})
        objective.load_state_dict(full.state_dict(), strict=False)
        objective.generator.manual_seed(5)
        alone += weight * objective.generator_terms(context(batch, translation))[name].item()
    assert total.item() == pytest.approx(alone, rel=1e-5)


def test_l1_terms_have_the_value_of_their_definition(batch):
    target, mask = batch["target"], batch["mask"]
    shifted = Translation(target + 0.125, *losses.split_frequencies(target, 1.5))
    terms = with_terms(l1=2.0, l1_low_frequency=1.0, l1_high_frequency=1.0).generator_terms(context(batch, shifted))
    assert terms["l1"].item() == pytest.approx(0.25)
    assert terms["l1_low_frequency"].item() == pytest.approx(0, abs=1e-7)
    assert terms["l1_high_frequency"].item() == pytest.approx(0, abs=1e-7)
    assert mask.mean() < 1


def test_the_mse_term_is_the_mean_square_inside_the_mask(batch):
    shifted = Translation(batch["target"] + 0.125 * batch["mask"] + 9 * (1 - batch["mask"]))
    terms = with_terms(mse=2.0).generator_terms(context(batch, shifted))
    assert terms["mse"].item() == pytest.approx(2 * 0.125**2)


def test_discriminators_used_in_one_of_four_steps_have_four_times_the_weight(batch):
    translation = translate(generator(), batch)
    names = ("adversarial", "patch_adversarial")
    every_step = with_terms(l1=1.0, **dict.fromkeys(names, 0.5))
    every_fourth = with_terms(l1=1.0, **dict.fromkeys(names, 0.5))
    every_fourth.load_state_dict(every_step.state_dict())
    every_fourth.every = 4
    for objective in (every_step, every_fourth):
        objective.generator.manual_seed(5)
    once, four = (objective.generator_terms(context(batch, translation)) for objective in (every_step, every_fourth))
    assert four["l1"].item() == once["l1"].item()
    for name in names:
        assert four[name].item() == pytest.approx(4 * once[name].item())
    assert list(every_fourth.generator_terms(context(batch, translation, adversarial=False))) == ["l1"]


def test_a_term_switched_off_is_not_computed_and_has_no_discriminator(batch, monkeypatch):
    def forbidden(*_args: object) -> None:
        raise AssertionError("computed although its weight is 0")

    for name in ("ms_ssim_loss", "split_frequencies", "generator_adversarial"):
        monkeypatch.setattr(losses, name, forbidden)
    objective = with_terms(l1=1.0)
    translation = translate(generator(), batch)
    assert list(objective.generator_terms(context(batch, translation))) == ["l1"]
    assert objective.discriminator_terms(context(batch, translation)) == {}
    assert not objective.discriminators


def test_the_prediction_outside_the_target_mask_changes_no_term(batch):
    translation = translate(generator(), batch)
    bands = (translation.image, translation.low, translation.high)
    outside = Translation(*(part + 9 * (1 - batch["mask"]) for part in bands))
    first, second = with_terms(), with_terms()
    for method in ("generator_terms", "discriminator_terms"):
        a = getattr(first, method)(context(batch, translation))
        b = getattr(second, method)(context(batch, outside))
        assert {k: v.item() for k, v in a.items()} == {k: v.item() for k, v in b.items()}


def test_state_dictionary_resumes_the_stream_of_crops(batch):
    translation = translate(generator(), batch)
    objective, resumed = with_terms(), with_terms()
    objective.generator_terms(context(batch, translation))
    resumed.load_state_dict(objective.state_dict())
    for _ in range(2):
        a = objective.discriminator_terms(context(batch, translation))["patch_discriminator"]
        b = resumed.discriminator_terms(context(batch, translation))["patch_discriminator"]
        assert torch.equal(a, b)
    fresh = with_terms().discriminator_terms(context(batch, translation))["patch_discriminator"]
    assert not torch.equal(a, fresh)


def test_the_image_discriminator_depends_on_the_source(batch):
    translation = translate(generator(), batch)
    other = batch | {"source": batch["source"].flip(0)}
    objective = with_terms(l1=1.0, adversarial=1.0)
    a, b = (objective.generator_terms(context(x, translation)) for x in (batch, other))
    assert a["l1"] == b["l1"]
    assert a["adversarial"] != b["adversarial"]


@pytest.mark.parametrize("term", ["adversarial", "patch_adversarial"])
def test_a_discriminator_learns_to_prefer_the_measured_image(batch, term):
    objective, smooth = with_terms(**{term: 1.0}), torch.full((3, 1, 32, 40), 0.5)
    fake, real = (Translation(x, x, x) for x in (smooth, batch["target"]))
    optimizer = torch.optim.Adam(discriminator_parameters(objective), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (loss,) = objective.discriminator_terms(context(batch, fake)).values()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5
    fake_loss, real_loss = (objective.generator_terms(context(batch, x))[term].item() for x in (fake, real))
    assert fake_loss > real_loss + 1


def test_gradients_are_finite_in_bfloat16(batch):
    network, objective = generator(), with_terms()
    with torch.autocast("cpu", torch.bfloat16):
        translation = translate(network, batch)
        terms = objective.generator_terms(context(batch, translation))
        further = objective.discriminator_terms(context(batch, translation))
    assert all(term.dtype == torch.float32 for term in (terms | further).values())
    sum((terms | further).values()).backward()
    for name, parameter in [*network.named_parameters(), *objective.named_parameters()]:
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_a_batch_without_a_target_voxel_gives_nan_for_the_loop_to_report(batch):
    empty = batch | {"mask": torch.zeros_like(batch["mask"])}
    terms = with_terms(l1=1.0).generator_terms(context(empty, translate(generator(), batch)))
    assert terms["l1"].isnan()


def features(channels: int = 1) -> SliceEncoder:
    torch.manual_seed(3)
    return SliceEncoder(channels, (4, 8))


def test_the_perceptual_term_reaches_the_generator_and_not_the_encoder(batch):
    network, encoder = generator(), features()
    objective = with_losses(options.Losses(**(dict.fromkeys(TERMS, 0.0) | {"perceptual": 1.0})), encoder=encoder)
    terms = objective.generator_terms(context(batch, translate(network, batch)))
    assert list(terms) == ["perceptual"]
    terms["perceptual"].backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())
    assert all(p.grad is None for p in encoder.parameters())
    assert not list(objective.parameters()) and "encoder" not in str(objective.state_dict().keys())


def test_the_perceptual_term_is_zero_for_the_target_and_grows_with_the_error(batch):
    weights = options.Losses(**(dict.fromkeys(TERMS, 0.0) | {"perceptual": 1.0}))
    objective = with_losses(weights, encoder=features())
    noise = torch.randn(3, 1, 32, 40, generator=torch.Generator().manual_seed(4))
    values = [
        objective.generator_terms(context(batch, Translation(batch["target"] + size * noise)))["perceptual"]
        for size in (0, 0.05, 0.2)
    ]
    assert values[0] == 0 and values[0] < values[1] < values[2]


def test_the_predicted_deviation_is_learned_without_gradient_to_the_image(batch):
    torch.manual_seed(1)
    network = OctaveTranslator(SliceInputs(3), (4, 6, 8), spread=True)
    terms = with_terms(log_sd=1.0).generator_terms(context(batch, translate(network, batch)))
    assert list(terms) == ["log_sd"]
    terms["log_sd"].backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == name.startswith("spread_head"), name


def test_the_likelihood_is_best_at_the_deviation_that_errors_have():
    error = 0.3 * torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 1, 200, 200)
    values = {
        sd: losses.gaussian_nll(error, torch.full_like(error, sd).log(), mask).item()
        for sd in (0.2, 0.29, 0.3, 0.31, 0.5)
    }
    assert min(values, key=values.get) == 0.3
    assert values[0.3] == pytest.approx(math.log(0.3) + 0.5, abs=0.01)


def test_crops_may_lie_anywhere_without_brain_focus(batch):
    corner = batch | {"mask": torch.zeros_like(batch["mask"])}
    corner["mask"][..., :4, :4] = 1
    corner["target"] = torch.ones_like(batch["target"])
    found = {}
    for focused in (True, False):
        crops = SMALL.model_copy(update={"brain_focused": focused})
        objective = with_losses(options.Losses(), discriminators=crops)
        column = torch.arange(40.0).expand(3, 1, 32, 40)
        found[focused] = objective._crops(column, corner["mask"]).amax()
    assert found[True] < 12 < found[False]


def test_the_published_adversarial_terms_have_values_and_no_gradient(batch):
    """The defect of the early public code, kept on purpose for comparison."""
    network = PublishedTranslator()
    objective = build_objective(Published2023(discriminators=SMALL), 1, features())
    single = batch | {"source": batch["source"][:, 1:2]}
    terms = objective.generator_terms(context(single, translate(network, single)))
    assert set(terms) == set(TERMS) - {"ms_ssim"} | {"perceptual"}
    without = {name for name, term in terms.items() if not term.requires_grad}
    assert without == {"adversarial", "patch_adversarial"}
    assert set(objective.discriminators) == {"image_discriminator", "patch_discriminator"}


BASELINES = {
    "unet": UNet(network=options.UNetwork(context=3, features=(4, 4, 4, 4, 4))),
    "pix2pix": Pix2Pix(
        network=options.UNetwork(context=1, features=(4, 4, 4, 4, 4)),
        discriminator=options.PatchGanOptions(width=4),
    ),
    "cyclegan": CycleGan(
        network=options.UNetwork(context=1, features=(4, 4, 4, 4, 4)),
        discriminator=options.PatchGanOptions(width=4),
    ),
}


def baseline(name: str, batch: dict) -> tuple:
    """Network, objective, and a batch with the context of the network."""
    torch.manual_seed(0)
    model = BASELINES[name]
    network, objective = build_network(model), build_objective(model)
    if model.window.context == 1:
        batch = batch | {"source": batch["source"][:, 1:2]}
    return network, objective, batch


@pytest.mark.parametrize("name", BASELINES)
def test_every_term_of_a_baseline_reaches_the_generator_and_no_discriminator(batch, name):
    network, objective, batch = baseline(name, batch)
    terms = objective.generator_terms(context(batch, translate(network, batch), network))
    of_helpers = {"cyclegan": {"adversarial_back", "identity_back"}}.get(name, set())
    for term, value in terms.items():
        gradients = torch.autograd.grad(value, list(network.parameters()), retain_graph=True, allow_unused=True)
        reached = any(g is not None and g.abs().sum() > 0 for g in gradients)
        assert reached == (term not in of_helpers), term
    sum(terms.values()).backward()
    assert all(p.grad is None for p in discriminator_parameters(objective))


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan"])
def test_the_discriminators_of_a_baseline_learn_and_leave_the_generators_alone(batch, name):
    network, objective, batch = baseline(name, batch)
    terms = objective.discriminator_terms(context(batch, translate(network, batch)))
    assert set(terms) == set(objective.discriminators)
    sum(terms.values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in discriminator_parameters(objective))
    generator_modules = [*network.parameters(), *objective.helpers.parameters()]
    assert all(p.grad is None for p in generator_modules)


def test_cyclegan_uses_no_pairs_of_a_slice_and_its_target(batch):
    """Its terms do not change when all targets are exchanged between the slices."""
    network, objective, batch = baseline("cyclegan", batch)
    batch["mask"] = batch["brain"]
    batch["plane"] = torch.zeros(3, dtype=torch.long)

    def values(given: dict) -> dict:
        terms = objective.generator_terms(context(given, translate(network, given), network))
        terms |= objective.discriminator_terms(context(given, translate(network, given)))
        return {name: term.item() for name, term in terms.items()}

    exchanged = batch | {"target": batch["target"].roll(1, 0)}
    for name, value in values(batch).items():
        assert values(exchanged)[name] == pytest.approx(value, rel=1e-4), name


def test_a_perfect_image_has_no_loss_in_regression(batch):
    objective = build_objective(UNet())
    terms = objective.generator_terms(context(batch, Translation(batch["target"] * batch["mask"])))
    assert {name: round(term.item(), 6) for name, term in terms.items()} == {"l1": 0, "ssim": 0}
