import pytest
import torch

from m2m import losses, options
from m2m.networks.octave import OctaveTranslator, Translation
from m2m.objectives import OBJECTIVES, Macro2MicroObjective

TERMS = ("image", "low", "high", "ms_ssim", "adversarial", "patch_adversarial")
SMALL = options.Discriminators(width=8, crops=4, crop_size=8)


def objective(**weights: float) -> Macro2MicroObjective:
    """Only the terms named; all of them, with their default weights, where none is named."""
    if weights:
        weights = dict.fromkeys(TERMS, 0.0) | weights
    torch.manual_seed(0)
    return Macro2MicroObjective(options.Losses(**weights), SMALL, seed=5)


def generator() -> OctaveTranslator:
    torch.manual_seed(1)
    return OctaveTranslator(3, (4, 6, 8))


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
    }


def translate(network: OctaveTranslator, batch: dict[str, torch.Tensor]) -> Translation:
    return network(batch["source"], batch["plane"])


@pytest.mark.parametrize("term", ["image", "ms_ssim", "adversarial", "patch_adversarial"])
def test_each_term_alone_reaches_every_parameter_of_the_generator(batch, term):
    network = generator()
    terms = objective(**{term: 1.0}).generator_terms(batch, translate(network, batch))
    assert list(terms) == [term]
    terms[term].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("term", TERMS)
def test_each_term_sees_every_channel_of_a_tensor(batch, term):
    torch.manual_seed(0)
    weights = options.Losses(**(dict.fromkeys(TERMS, 0.0) | {term: 1.0}))
    judge = Macro2MicroObjective(weights, SMALL, seed=5, channels=6)
    six = batch | {"target": torch.randn(3, 6, 32, 40) * batch["mask"]}
    images = [torch.randn(3, 6, 32, 40, requires_grad=True) for _ in range(3)]
    judge.generator_terms(six, Translation(*images))[term].backward()
    (gradient,) = [image.grad for image in images if image.grad is not None]
    assert (gradient.abs().sum(dim=(0, 2, 3)) > 0).all()
    assert not gradient[:, :, :8].any(), "outside the mask the translation is free"


@pytest.mark.parametrize("term", ["low", "high"])
def test_each_band_reaches_its_own_head_only(batch, term):
    network = generator()
    terms = objective(**{term: 1.0}).generator_terms(batch, translate(network, batch))
    terms[term].backward()
    heads = {"low": network.low_head.weight.grad, "high": network.high_head.weight.grad}
    own = heads.pop(term)
    (other,) = heads.values()
    assert own.abs().sum() > 0
    assert other is None or not other.any()


def test_discriminator_step_leaves_the_generators_gradients_none(batch):
    network, judge = generator(), objective()
    terms = judge.discriminator_terms(batch, translate(network, batch))
    assert set(terms) == {"image_discriminator", "patch_discriminator"}
    sum(terms.values()).backward()
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(p.grad.abs().sum() > 0 for p in judge.discriminator_parameters())


def test_discriminators_are_bit_identical_after_the_generators_step(batch):
    network, judge = generator(), objective()
    before = [p.detach().clone() for p in judge.discriminator_parameters()]
    optimizer = torch.optim.Adam([*network.parameters(), *judge.parameters()], 0.1)
    sum(judge.generator_terms(batch, translate(network, batch)).values()).backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in judge.discriminator_parameters())
    assert all(parameter.requires_grad for parameter in judge.discriminator_parameters())
    for old, new in zip(before, judge.discriminator_parameters(), strict=True):
        assert torch.equal(old, new)


def test_terms_sum_to_the_total_of_each_term_alone(batch):
    translation = translate(generator(), batch)
    weights = dict(zip(TERMS, (1.0, 0.5, 0.25, 2.0, 0.1, 0.2), strict=True))
    full = objective(**weights)
    total = sum(full.generator_terms(batch, translation).values())
    alone = 0.0
    for name, weight in weights.items():
        judge = objective(**{name: 1.0})
        judge.load_state_dict(full.state_dict(), strict=False)
        judge.generator.manual_seed(5)
        alone += weight * judge.generator_terms(batch, translation)[name].item()
    assert total.item() == pytest.approx(alone, rel=1e-5)


def test_l1_terms_have_the_value_of_their_definition(batch):
    target, mask = batch["target"], batch["mask"]
    shifted = Translation(target + 0.125, *losses.split_frequencies(target, 1.5))
    terms = objective(image=2.0, low=1.0, high=1.0).generator_terms(batch, shifted)
    assert terms["image"].item() == pytest.approx(0.25)
    assert terms["low"].item() == pytest.approx(0, abs=1e-7)
    assert terms["high"].item() == pytest.approx(0, abs=1e-7)
    assert mask.mean() < 1


def test_a_term_switched_off_is_not_computed_and_has_no_discriminator(batch, monkeypatch):
    def forbidden(*_args: object) -> None:
        raise AssertionError("computed although its weight is 0")

    for name in ("ms_ssim_loss", "split_frequencies", "generator_adversarial"):
        monkeypatch.setattr(losses, name, forbidden)
    judge = objective(image=1.0)
    translation = translate(generator(), batch)
    assert list(judge.generator_terms(batch, translation)) == ["image"]
    assert judge.discriminator_terms(batch, translation) == {}
    assert judge.discriminator_parameters() == []


def test_what_is_predicted_outside_the_target_mask_changes_nothing(batch):
    translation = translate(generator(), batch)
    outside = Translation(*(part + 9 * (1 - batch["mask"]) for part in translation))
    first, second = objective(), objective()
    for method in ("generator_terms", "discriminator_terms"):
        a = getattr(first, method)(batch, translation)
        b = getattr(second, method)(batch, outside)
        assert {k: v.item() for k, v in a.items()} == {k: v.item() for k, v in b.items()}


def test_state_dictionary_resumes_the_stream_of_crops(batch):
    translation = translate(generator(), batch)
    judge, resumed = objective(), objective()
    judge.generator_terms(batch, translation)
    resumed.load_state_dict(judge.state_dict())
    for _ in range(2):
        a = judge.discriminator_terms(batch, translation)["patch_discriminator"]
        b = resumed.discriminator_terms(batch, translation)["patch_discriminator"]
        assert torch.equal(a, b)
    fresh = objective().discriminator_terms(batch, translation)["patch_discriminator"]
    assert not torch.equal(a, fresh)


def test_the_image_discriminator_knows_whose_slice_it_judges(batch):
    translation = translate(generator(), batch)
    other = batch | {"source": batch["source"].flip(0)}
    judge = objective(image=1.0, adversarial=1.0)
    a, b = (judge.generator_terms(x, translation) for x in (batch, other))
    assert a["image"] == b["image"]
    assert a["adversarial"] != b["adversarial"]


@pytest.mark.parametrize("term", ["adversarial", "patch_adversarial"])
def test_a_discriminator_learns_to_tell_and_prefers_the_truth(batch, term):
    judge, smooth = objective(**{term: 1.0}), torch.full((3, 1, 32, 40), 0.5)
    fake, truth = (Translation(x, x, x) for x in (smooth, batch["target"]))
    optimizer = torch.optim.Adam(judge.discriminator_parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (loss,) = judge.discriminator_terms(batch, fake).values()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5
    caught, trusted = (judge.generator_terms(batch, x)[term].item() for x in (fake, truth))
    assert caught > trusted + 1


def test_gradients_are_finite_in_bfloat16(batch):
    network, judge = generator(), objective()
    with torch.autocast("cpu", torch.bfloat16):
        translation = translate(network, batch)
        terms = judge.generator_terms(batch, translation)
        judged = judge.discriminator_terms(batch, translation)
    assert all(term.dtype == torch.float32 for term in (terms | judged).values())
    sum((terms | judged).values()).backward()
    for name, parameter in [*network.named_parameters(), *judge.named_parameters()]:
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_a_batch_without_a_target_voxel_gives_nan_for_the_loop_to_report(batch):
    empty = batch | {"mask": torch.zeros_like(batch["mask"])}
    terms = objective(image=1.0).generator_terms(empty, translate(generator(), batch))
    assert terms["image"].isnan()


def test_objectives_are_found_by_the_familys_name():
    assert OBJECTIVES[options.Macro2Micro().family] is Macro2MicroObjective
