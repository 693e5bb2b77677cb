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

TERMS = ("image", "low", "high", "ms_ssim", "adversarial", "patch_adversarial")
SMALL = options.Discriminators(width=8, crops=4, crop_size=8)


def objective(**weights: float) -> Objective:
    """Only the terms named; all of them, with their default weights, where none is named."""
    if weights:
        weights = dict.fromkeys((*TERMS, "log_sd"), 0.0) | weights
    torch.manual_seed(0)
    return of_losses(options.Losses(**weights))


def of_losses(weights: options.Losses, channels=1, encoder=None, judges=SMALL, seed=5) -> Objective:
    """Objective of Macro2Micro with these weights."""
    training = options.Training(seed=seed)
    model = Macro2Micro(losses=weights, discriminators=judges, training=training)
    return build_objective(model, channels, encoder)


def context(batch, output, network=None, adversarial=True) -> StepContext:
    """What an objective knows of the first step."""
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


def judged(objective: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Parameters of an objective's discriminators."""
    return [p for network in objective.discriminators.values() for p in network.parameters()]


@pytest.mark.parametrize("term", ["image", "ms_ssim", "adversarial", "patch_adversarial"])
def test_each_term_alone_reaches_every_parameter_of_the_generator(batch, term):
    network = generator()
    terms = objective(**{term: 1.0}).generator_terms(context(batch, translate(network, batch)))
    assert list(terms) == [term]
    terms[term].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("term", TERMS)
def test_each_term_sees_every_channel_of_a_tensor(batch, term):
    torch.manual_seed(0)
    weights = options.Losses(**(dict.fromkeys(TERMS, 0.0) | {term: 1.0}))
    judge = of_losses(weights, channels=6)
    six = batch | {"target": torch.randn(3, 6, 32, 40) * batch["mask"]}
    images = [torch.randn(3, 6, 32, 40, requires_grad=True) for _ in range(3)]
    judge.generator_terms(context(six, Translation(*images)))[term].backward()
    (gradient,) = [image.grad for image in images if image.grad is not None]
    assert (gradient.abs().sum(dim=(0, 2, 3)) > 0).all()
    assert not gradient[:, :, :8].any(), "outside the mask the translation is free"


@pytest.mark.parametrize("term", ["low", "high"])
def test_each_band_reaches_its_own_head_only(batch, term):
    network = generator()
    terms = objective(**{term: 1.0}).generator_terms(context(batch, translate(network, batch)))
    terms[term].backward()
    heads = {"low": network.low_head.weight.grad, "high": network.high_head.weight.grad}
    own = heads.pop(term)
    (other,) = heads.values()
    assert own.abs().sum() > 0
    assert other is None or not other.any()


def test_discriminator_step_leaves_the_generators_gradients_none(batch):
    network, judge = generator(), objective()
    terms = judge.discriminator_terms(context(batch, translate(network, batch)))
    assert set(terms) == {"image_discriminator", "patch_discriminator"}
    sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(p.grad.abs().sum() > 0 for p in judged(judge))


def test_discriminators_are_bit_identical_after_the_generators_step(batch):
    network, judge = generator(), objective()
    before = [p.detach().clone() for p in judged(judge)]
    optimizer = torch.optim.Adam([*network.parameters(), *judge.parameters()], 0.1)
    sum(judge.generator_terms(context(batch, translate(network, batch))).values()).backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in judged(judge))
    assert all(parameter.requires_grad for parameter in judged(judge))
    for old, new in zip(before, judged(judge), strict=True):
        assert torch.equal(old, new)


def test_terms_sum_to_the_total_of_each_term_alone(batch):
    translation = translate(generator(), batch)
    weights = dict(zip(TERMS, (1.0, 0.5, 0.25, 2.0, 0.1, 0.2), strict=True))
    full = objective(**weights)
    total = sum(full.generator_terms(context(batch, translation)).values())
    alone = 0.0
    for name, weight in weights.items():
        judge = objective(**{name: 1.0})
        judge.load_state_dict(full.state_dict(), strict=False)
        judge.generator.manual_seed(5)
        alone += weight * judge.generator_terms(context(batch, translation))[name].item()
    assert total.item() == pytest.approx(alone, rel=1e-5)


def test_l1_terms_have_the_value_of_their_definition(batch):
    target, mask = batch["target"], batch["mask"]
    shifted = Translation(target + 0.125, *losses.split_frequencies(target, 1.5))
    terms = objective(image=2.0, low=1.0, high=1.0).generator_terms(context(batch, shifted))
    assert terms["image"].item() == pytest.approx(0.25)
    assert terms["low"].item() == pytest.approx(0, abs=1e-7)
    assert terms["high"].item() == pytest.approx(0, abs=1e-7)
    assert mask.mean() < 1


def test_the_squared_term_is_the_mean_square_inside_the_mask(batch):
    shifted = Translation(batch["target"] + 0.125 * batch["mask"] + 9 * (1 - batch["mask"]))
    terms = objective(squared=2.0).generator_terms(context(batch, shifted))
    assert terms["squared"].item() == pytest.approx(2 * 0.125**2)


def test_discriminators_that_speak_in_one_of_four_steps_weigh_four_times_as_much(batch):
    translation = translate(generator(), batch)
    names = ("adversarial", "patch_adversarial")
    often = objective(image=1.0, **dict.fromkeys(names, 0.5))
    seldom = objective(image=1.0, **dict.fromkeys(names, 0.5))
    seldom.load_state_dict(often.state_dict())
    seldom.every = 4
    for judge in (often, seldom):
        judge.generator.manual_seed(5)
    once, four = (judge.generator_terms(context(batch, translation)) for judge in (often, seldom))
    assert four["image"].item() == once["image"].item()
    for name in names:
        assert four[name].item() == pytest.approx(4 * once[name].item())
    assert list(seldom.generator_terms(context(batch, translation, adversarial=False))) == ["image"]


def test_a_term_switched_off_is_not_computed_and_has_no_discriminator(batch, monkeypatch):
    def forbidden(*_args: object) -> None:
        raise AssertionError("computed although its weight is 0")

    for name in ("ms_ssim_loss", "split_frequencies", "generator_adversarial"):
        monkeypatch.setattr(losses, name, forbidden)
    judge = objective(image=1.0)
    translation = translate(generator(), batch)
    assert list(judge.generator_terms(context(batch, translation))) == ["image"]
    assert judge.discriminator_terms(context(batch, translation)) == {}
    assert not judge.discriminators


def test_what_is_predicted_outside_the_target_mask_changes_nothing(batch):
    translation = translate(generator(), batch)
    bands = (translation.image, translation.low, translation.high)
    outside = Translation(*(part + 9 * (1 - batch["mask"]) for part in bands))
    first, second = objective(), objective()
    for method in ("generator_terms", "discriminator_terms"):
        a = getattr(first, method)(context(batch, translation))
        b = getattr(second, method)(context(batch, outside))
        assert {k: v.item() for k, v in a.items()} == {k: v.item() for k, v in b.items()}


def test_state_dictionary_resumes_the_stream_of_crops(batch):
    translation = translate(generator(), batch)
    judge, resumed = objective(), objective()
    judge.generator_terms(context(batch, translation))
    resumed.load_state_dict(judge.state_dict())
    for _ in range(2):
        a = judge.discriminator_terms(context(batch, translation))["patch_discriminator"]
        b = resumed.discriminator_terms(context(batch, translation))["patch_discriminator"]
        assert torch.equal(a, b)
    fresh = objective().discriminator_terms(context(batch, translation))["patch_discriminator"]
    assert not torch.equal(a, fresh)


def test_the_image_discriminator_knows_whose_slice_it_judges(batch):
    translation = translate(generator(), batch)
    other = batch | {"source": batch["source"].flip(0)}
    judge = objective(image=1.0, adversarial=1.0)
    a, b = (judge.generator_terms(context(x, translation)) for x in (batch, other))
    assert a["image"] == b["image"]
    assert a["adversarial"] != b["adversarial"]


@pytest.mark.parametrize("term", ["adversarial", "patch_adversarial"])
def test_a_discriminator_learns_to_tell_and_prefers_the_truth(batch, term):
    judge, smooth = objective(**{term: 1.0}), torch.full((3, 1, 32, 40), 0.5)
    fake, truth = (Translation(x, x, x) for x in (smooth, batch["target"]))
    optimizer = torch.optim.Adam(judged(judge), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (loss,) = judge.discriminator_terms(context(batch, fake)).values()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5
    caught, trusted = (judge.generator_terms(context(batch, x))[term].item() for x in (fake, truth))
    assert caught > trusted + 1


def test_gradients_are_finite_in_bfloat16(batch):
    network, judge = generator(), objective()
    with torch.autocast("cpu", torch.bfloat16):
        translation = translate(network, batch)
        terms = judge.generator_terms(context(batch, translation))
        judged = judge.discriminator_terms(context(batch, translation))
    assert all(term.dtype == torch.float32 for term in (terms | judged).values())
    sum((terms | judged).values()).backward()
    for name, parameter in [*network.named_parameters(), *judge.named_parameters()]:
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_a_batch_without_a_target_voxel_gives_nan_for_the_loop_to_report(batch):
    empty = batch | {"mask": torch.zeros_like(batch["mask"])}
    terms = objective(image=1.0).generator_terms(context(empty, translate(generator(), batch)))
    assert terms["image"].isnan()


def features(channels: int = 1) -> SliceEncoder:
    torch.manual_seed(3)
    return SliceEncoder(channels, (4, 8))


def test_the_perceptual_term_reaches_the_generator_and_not_the_encoder(batch):
    network, encoder = generator(), features()
    judge = of_losses(
        options.Losses(**(dict.fromkeys(TERMS, 0.0) | {"perceptual": 1.0})), encoder=encoder
    )
    terms = judge.generator_terms(context(batch, translate(network, batch)))
    assert list(terms) == ["perceptual"]
    terms["perceptual"].backward()
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())
    assert all(p.grad is None for p in encoder.parameters())
    assert not list(judge.parameters()) and "encoder" not in str(judge.state_dict().keys())


def test_the_perceptual_term_is_zero_for_the_truth_and_grows_with_the_error(batch):
    weights = options.Losses(**(dict.fromkeys(TERMS, 0.0) | {"perceptual": 1.0}))
    judge = of_losses(weights, encoder=features())
    noise = torch.randn(3, 1, 32, 40, generator=torch.Generator().manual_seed(4))
    values = [
        judge.generator_terms(context(batch, Translation(batch["target"] + size * noise)))[
            "perceptual"
        ]
        for size in (0, 0.05, 0.2)
    ]
    assert values[0] == 0 and values[0] < values[1] < values[2]


def test_the_predicted_deviation_is_learned_without_touching_the_image(batch):
    torch.manual_seed(1)
    network = OctaveTranslator(SliceInputs(3), (4, 6, 8), spread=True)
    terms = objective(log_sd=1.0).generator_terms(context(batch, translate(network, batch)))
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


def test_crops_lie_anywhere_where_the_brain_is_not_in_focus(batch):
    corner = batch | {"mask": torch.zeros_like(batch["mask"])}
    corner["mask"][..., :4, :4] = 1
    corner["target"] = torch.ones_like(batch["target"])
    found = {}
    for focused in (True, False):
        crops = SMALL.model_copy(update={"brain_focused": focused})
        judge = of_losses(options.Losses(), judges=crops)
        place = torch.arange(40.0).expand(3, 1, 32, 40)
        found[focused] = judge._crops(place, corner["mask"]).amax()
    assert found[True] < 12 < found[False]


def test_the_published_adversarial_terms_have_values_and_no_gradient(batch):
    """The defect of the early public code, kept on purpose in its reference point."""
    network = PublishedTranslator()
    judge = build_objective(Published2023(discriminators=SMALL), 1, features())
    single = batch | {"source": batch["source"][:, 1:2]}
    terms = judge.generator_terms(context(single, translate(network, single)))
    assert set(terms) == {"image", "low", "high", "perceptual", "adversarial", "patch_adversarial"}
    without = {name for name, term in terms.items() if not term.requires_grad}
    assert without == {"adversarial", "patch_adversarial"}
    assert set(judge.discriminators) == {"image_discriminator", "patch_discriminator"}


BASELINES = {
    "unet": UNet(network=options.UNetwork(context=3, features=(4, 4, 4, 4, 4))),
    "pix2pix": Pix2Pix(
        network=options.UNetwork(context=1, features=(4, 4, 4, 4, 4)),
        discriminator=options.PatchJudge(width=4),
    ),
    "cyclegan": CycleGan(
        network=options.UNetwork(context=1, features=(4, 4, 4, 4, 4)),
        discriminator=options.PatchJudge(width=4),
    ),
}


def baseline(name: str, batch: dict) -> tuple:
    """Network, objective, and the batch as the network sees it."""
    torch.manual_seed(0)
    model = BASELINES[name]
    network, judge = build_network(model), build_objective(model)
    sees = batch if model.window.context == 3 else batch | {"source": batch["source"][:, 1:2]}
    return network, judge, sees


@pytest.mark.parametrize("name", BASELINES)
def test_every_term_of_a_baseline_reaches_the_generator_and_no_discriminator(batch, name):
    network, judge, sees = baseline(name, batch)
    terms = judge.generator_terms(context(sees, translate(network, sees), network))
    helps = {"cyclegan": {"adversarial_back", "identity_back"}}.get(name, set())
    for term, value in terms.items():
        gradients = torch.autograd.grad(
            value, list(network.parameters()), retain_graph=True, allow_unused=True
        )
        reached = any(g is not None and g.abs().sum() > 0 for g in gradients)
        assert reached == (term not in helps), term
    sum(terms.values()).backward()
    assert all(p.grad is None for p in judged(judge))


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan"])
def test_the_discriminators_of_a_baseline_learn_and_leave_the_generators_alone(batch, name):
    network, judge, sees = baseline(name, batch)
    terms = judge.discriminator_terms(context(sees, translate(network, sees)))
    assert set(terms) == set(judge.discriminators)
    sum(terms.values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in judged(judge))
    makers = [*network.parameters(), *judge.helpers.parameters()]
    assert all(p.grad is None for p in makers)


def test_cyclegan_never_sees_a_slice_beside_its_own_target(batch):
    """Its terms stay as they are when all targets are exchanged between the slices' owners."""
    network, judge, sees = baseline("cyclegan", batch)
    sees["mask"] = sees["brain"]
    sees["plane"] = torch.zeros(3, dtype=torch.long)

    def values(given: dict) -> dict:
        terms = judge.generator_terms(context(given, translate(network, given), network))
        terms |= judge.discriminator_terms(context(given, translate(network, given)))
        return {name: term.item() for name, term in terms.items()}

    moved = sees | {"target": sees["target"].roll(1, 0)}
    for name, value in values(sees).items():
        assert values(moved)[name] == pytest.approx(value, rel=1e-4), name


def test_a_perfect_image_has_no_loss_in_regression(batch):
    judge = build_objective(UNet())
    terms = judge.generator_terms(context(batch, Translation(batch["target"] * batch["mask"])))
    assert {name: round(term.item(), 6) for name, term in terms.items()} == {"image": 0, "ssim": 0}
